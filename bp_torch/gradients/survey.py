"""A catalogue entry, tried on all its samples in one dtype."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue import Entry, Sample
from bp_torch.gradients.verdict import Comparison, compare


def sweep(entry: Entry, dtype: torch.dtype) -> tuple[Comparison, ...]:
    """Compare value and gradients of every sample with the reference's, by the rule.

    The truth answers the same question in float64: the reference on the numbers that `dtype` rounds the sample's to.
    """
    comparisons = []
    for number, sample in enumerate(entry.samples):
        narrow = sample.to(dtype)
        results = (
            value_and_gradients(entry.function, narrow),
            value_and_gradients(entry.reference, narrow),
            value_and_gradients(entry.reference, narrow.to(torch.float64)),
        )
        names = ["value", *(f"gradient of argument {position}" for position in differentiable(sample))]
        for name, *three in zip(names, *results, strict=True):
            comparisons.append(compare(f"{entry.name} sample {number} {name} ", *three))
    return tuple(comparisons)


def differentiable(sample: Sample) -> list[int]:
    """Positions of the arguments that can need a gradient."""
    return [i for i, arg in enumerate(sample.args) if isinstance(arg, Tensor) and arg.is_floating_point()]


def leaves(sample: Sample) -> tuple[list[Any], list[Tensor]]:
    """The sample's arguments, and among them those that can need a gradient, as leaves that do; strides are kept."""
    args = list(sample.args)
    for position in differentiable(sample):
        args[position] = args[position].detach().requires_grad_()
    return args, [args[position] for position in differentiable(sample)]


def value_and_gradients(function: Callable[..., Tensor], sample: Sample) -> list[Tensor]:
    """The value, and the gradient of each argument that can have one, for a signed upstream gradient."""
    args, inputs = leaves(sample)
    output = function(*args, **sample.options)
    return [output.detach(), *torch.autograd.grad(output, inputs, signed(*output.shape).to(output.dtype))]


def signed(*shape: int, seed: int = 0) -> Tensor:
    """Irregular float64 numbers of both signs, for upstream gradients; not torch's random ones, which vmap refuses."""
    steps = torch.arange(math.prod(shape), dtype=torch.float64)
    return (1.3 * torch.cos(2.3 * steps + seed + 0.5) + 0.4 * torch.sin(37.1 * steps)).reshape(shape)
