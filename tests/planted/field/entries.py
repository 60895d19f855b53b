"""How a bug or a correct function is written down."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from planted.bug import Bug, CorrectFunction, Reference, Samples, function_of

draw = RandomTensors(23)


def free(*sizes: int) -> Tensor:
    """An input that requires a gradient; those of the same sample that do not are held fixed."""
    return draw(*sizes).requires_grad_()


def first_of(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The output of a forward that also returns what to save, to be differentiated by autograd."""
    return lambda *inputs: forward(*inputs)[0]


def wrong(
    kind: str,
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *args: Any,
    samples: Samples = (),
    registered: bool = True,
) -> Bug:
    """A bug in `backward`: (g, *saved) -> gradients, of `forward`: inputs -> (output, *saved).

    Args:
        kind: one of `KINDS`.
        name: of the function and the bug.
        forward: also the reference.
        backward: the wrong backward.
        args: the arguments of the only sample.
        samples: samples, instead of one.
        registered: whether the Tensors are saved by `save_for_backward`.
    """
    function = function_of(forward, backward, registered=registered)
    return Bug(name, kind, function, first_of(forward), samples or (args,))


def right(
    name: str,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *args: Any,
    samples: Samples = (),
    compared: bool = True,
) -> CorrectFunction:
    """A correct hand-written Function; not `compared`: checked by finite differences only."""
    reference = first_of(forward) if compared else None
    return CorrectFunction(f"field {name}", function_of(forward, backward), reference, samples or (args,))


def plain(
    name: str, function: Callable[..., Any], *args: Any, reference: Reference = None, samples: Samples = ()
) -> CorrectFunction:
    """A correct function that autograd differentiates."""
    return CorrectFunction(f"field {name}", function, reference, samples or (args,))


def conjugate_transposed(x: Tensor) -> Tensor:
    """The conjugate of the transposed matrix."""
    return x.mT.conj()


def complex_numbers(*sizes: int) -> Tensor:
    """Complex numbers of both signs."""
    return torch.complex(draw(*sizes), draw(*sizes))
