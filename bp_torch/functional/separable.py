"""The base class of maps that are a matrix along each spatial axis: averages over windows, interpolation."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from bp_torch.functional.precision import without_autocast
from bp_torch.functional.shape import LinearMap


class SeparableMap(LinearMap):
    """y = A x along one spatial axis, y = A x Bᵀ along two, and so on: a matrix (out, in) for each axis.

    For images, in each channel, yₒₚ = Σᵢⱼ aₒᵢ bₚⱼ xᵢⱼ, so ∂yₒₚ/∂xᵢⱼ = aₒᵢ bₚⱼ and, with g = ∂C/∂y,

        ∂C/∂xᵢⱼ = Σₒₚ aₒᵢ gₒₚ bₚⱼ      ∂C/∂x = Aᵀ g B

    Along each axis, a pixel of the input gets the gradients of all pixels of the output that it enters, with the same
    weights. Half precision is computed in float32 and rounded once.

    A subclass states `forward(input, *constants)`, and the matrices in float64, one for each spatial axis, as
    `matrices(input_shape, output_shape, dtype, *constants)`, where dtype is that of the computation.
    """

    matrices: ClassVar[Callable[..., list[Tensor]]]

    def __init_subclass__(cls, **options: Any) -> None:
        """Build `backward` from the matrices."""
        cls.backward = staticmethod(_backward_of(cls.matrices))  # type: ignore[method-assign]
        super().__init_subclass__(**options)


def _backward_of(matrices: Callable[..., list[Tensor]]) -> Callable[..., Any]:
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        grad = grad_output.to(torch.promote_types(grad_output.dtype, torch.float32))
        with without_autocast(grad):
            for axis, matrix in enumerate(reversed(matrices(ctx.shape, grad.shape, grad.dtype, *ctx.constants)), 1):
                grad = (grad.movedim(-axis, -1) @ matrix.to(grad)).movedim(-1, -axis)
        return grad.to(ctx.dtype), *ctx.no_gradients

    return backward
