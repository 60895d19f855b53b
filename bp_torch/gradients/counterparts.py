"""The values that autograd computes for a call: the intermediates of the forward, and their gradients."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction
from torch.utils._python_dispatch import TorchDispatchMode

from bp_torch.gradients.call import Call
from bp_torch.gradients.containers import leaves

RTOL = {torch.float64: 1e-6, torch.float32: 1e-4}
"""Relative difference up to which two values count as equal, by dtype."""
FD_STEP, FD_RTOL = 2.0**-18, 1e-5
MAX_VALUES = 1000


class Values(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A record of every value that an operation returns, in the forward and in the backward."""

    def __init__(self) -> None:
        """Begin without values."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.values: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call an operation, and copy its results and the floats among its arguments."""
        result = func(*args, **(kwargs or {}))
        if len(self.values) < MAX_VALUES:
            self.values += [torch.tensor(x, dtype=torch.float64) for x in args if isinstance(x, float)]
            self.values += [x.detach().clone() for _, x in leaves(result) if isinstance(x, Tensor)]
        return result


class _PlainContext:
    """The `ctx` of a forward that runs as plain operations: it keeps attributes, and ignores all calls."""

    def __init__(self, count: int) -> None:
        self.needs_input_grad = (True,) * count

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def by_autograd(
    call: Call, functions: Sequence[Any], reference: Callable[..., Any] | None, upstream: Tensor
) -> tuple[Mapping[str, Tensor], list[Tensor]]:
    """The right gradients of a call, by input name, and every different value that autograd computes for them.

    They are those of the reference, with the values of the custom Functions' own forwards if their gradients agree.
    Without a reference and such forwards there are none.
    """
    given = [*(x for x in call.args if isinstance(x, Tensor)), upstream]
    own, values = _record(_plain(call, functions), upstream, functions)
    if reference is None:
        return (own, _distinct(values + given)) if _agrees_with_difference(call, upstream, own) else ({}, [])
    truth, of_reference = _record(call.of(reference), upstream)
    agrees = own and all(close(own[name], truth[name]) for name in truth)
    return truth, _distinct(of_reference + (values if agrees else []) + given)


def _record(call: Call, upstream: Tensor, plain: Sequence[Any] = ()) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Gradients and values; empty if the forward of a Function to run as plain operations cannot."""
    try:
        with ExitStack() as stack:
            for function in plain:
                stack.enter_context(_forward_alone(function))
            record = stack.enter_context(Values())
            gradients = call.vjp(upstream)
    except Exception:  # changes in place of an input, NumPy
        if not plain:
            raise
        return {}, []
    return gradients, record.values


def _plain(call: Call, functions: Sequence[Any]) -> Call:
    """The call of a function that finds `apply` of a Function when it is called."""
    direct: Any = getattr(call.function, "__self__", None)
    is_apply = isinstance(direct, type) and direct in functions
    return call.of(lambda *args, **options: direct.apply(*args, **options)) if is_apply else call


@contextmanager
def _forward_alone(function: Any) -> Iterator[None]:
    """Within it, a Function's `apply` calls its forward, whose operations autograd then differentiates."""
    if "apply" in vars(function):
        raise TypeError("apply is overridden")
    function.apply = staticmethod(partial(_forward, function))
    try:
        yield
    finally:
        del function.apply


def _forward(function: Any, *args: Any) -> Any:
    takes_context = function.setup_context is _SingleLevelFunction.setup_context
    return function.forward(*([_PlainContext(len(args))] if takes_context else []), *args)


def _agrees_with_difference(call: Call, upstream: Tensor, gradients: Mapping[str, Tensor]) -> bool:
    """Whether gradients agree with a finite difference: a forward may detach, or round."""
    if not gradients or call.dtype != torch.float64:
        return False
    generator = torch.Generator().manual_seed(0)
    steps = [x * (torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.3) for x in call.inputs]
    terms = [(gradients[name] * step).sum() for name, step in zip(call.by_name, steps, strict=True)]
    ends = [call.at([x + sign * FD_STEP * s for x, s in zip(call.inputs, steps, strict=True)]) for sign in (1, -1)]
    plus, minus = ((end.value() * upstream).sum() for end in ends)
    error = (plus - minus) / (2 * FD_STEP) - sum(terms)
    return bool(error.abs() <= FD_RTOL * sum(term.abs() for term in terms))


def is_variable(value: Tensor) -> bool:
    """Whether other values may replace those of a Tensor: not indices, which must be in range."""
    return value.is_floating_point() or value.dtype == torch.bool


def is_among(value: Tensor, known: Sequence[Tensor]) -> bool:
    """Whether a value is known, in any arrangement, or is one number several times."""
    return _is_constant(value) or any(close(value, x) for each in known for x in _arrangements(each, value))


def alternatives(value: Tensor, known: Sequence[Tensor]) -> Iterator[Tensor]:
    """Other values of the same shape, of the known ones."""
    return (x for each in known for x in _arrangements(each, value) if not close(x, value))


def _arrangements(value: Tensor, like: Tensor) -> Iterator[Tensor]:
    """A value in another's shape: reshaped, and with its dimensions exchanged."""
    if value.numel() != like.numel() or value.dtype != like.dtype:
        return
    yield value.reshape(like.shape)
    for order in itertools.permutations(range(value.dim())) if value.dim() <= 4 else ():
        if order != tuple(range(value.dim())) and tuple(value.shape[d] for d in order) == like.shape:
            yield value.permute(order).contiguous()


def close(a: Tensor, b: Tensor, least: float = 0.0) -> bool:
    """Whether two Tensors are equal up to rounding."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    size = max(a.abs().max().item(), b.abs().max().item())
    return bool((a - b).abs().max().item() <= max(RTOL.get(a.dtype, 0) * size, least))


def _distinct(values: Sequence[Tensor]) -> list[Tensor]:
    """The different ones of some values, without constant ones."""
    kept = {(x.shape, x.dtype, *_moments(x)): x for x in values if not _is_constant(x)}
    return [*kept.values()]


def _moments(value: Tensor) -> tuple[complex, complex]:
    value = (value if value.is_complex() else value.double()).reshape(-1)
    return value.sum().item(), (value * torch.arange(value.numel())).sum().item()


def _is_constant(value: Tensor) -> bool:
    """Whether a Tensor is empty, or contains one number several times."""
    return not value.numel() or (value.numel() > 1 and bool((value == value.reshape(-1)[0]).all()))


def changed_slightly(value: Tensor) -> Tensor:
    """Other numbers near a value, or a mask with its elements exchanged."""
    if value.dtype == torch.bool:
        return value.reshape(-1).roll(1).reshape(value.shape)
    generator = torch.Generator().manual_seed(0)
    return value * (1 + 0.01 * torch.rand(value.shape, generator=generator, dtype=value.dtype))
