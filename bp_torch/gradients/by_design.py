"""A function with the gradient that its author intends, which need not be its derivative."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def with_gradients(function: Callable[..., Any], gradients: Callable[..., Any]) -> Callable[..., Any]:
    """The values of a function, with other gradients.

    Args:
        function: returns a Tensor, or a tuple of Tensors.
        gradients: (grad_output, *args) -> the gradient of each argument, as a backward returns them; grad_output is a
            tuple if the function returns one.
    """

    class Intended(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, options: dict[str, Any], *args: Any) -> Any:
            ctx.options, ctx.count = options, len(args)
            ctx.positions = [i for i, arg in enumerate(args) if isinstance(arg, Tensor)]
            ctx.others = {i: arg for i, arg in enumerate(args) if not isinstance(arg, Tensor)}
            ctx.save_for_backward(*(args[i] for i in ctx.positions))
            return function(*(x.clone() if isinstance(x, Tensor) else x for x in args), **options)

        @staticmethod
        def backward(ctx: Any, *grad_outputs: Any) -> Any:
            saved = dict(zip(ctx.positions, ctx.saved_tensors, strict=True)) | ctx.others
            args = [saved[i] for i in range(ctx.count)]
            result = gradients(grad_outputs if len(grad_outputs) > 1 else grad_outputs[0], *args, **ctx.options)
            result = result if isinstance(result, tuple) else (result,)
            return None, *result, *(ctx.count - len(result)) * [None]

    return lambda *args, **options: Intended.apply(options, *args)  # type: ignore[no-untyped-call]
