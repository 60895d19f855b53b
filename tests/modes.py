"""The modes of PyTorch in which a function may be called and differentiated: each maps a call to named Tensors.

For some modes a second function computes the same Tensors in another way: one call after another in place of vmap.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from sample_call import Results, SampleCall
from torch import Tensor
from torch.autograd import forward_ad

OPTIONS: dict[str, Any] = {"allow_unused": True, "materialize_grads": True}


def named(what: str, tensors: Iterable[Tensor | None]) -> Results:
    return {f"{what} {i}": x.detach() for i, x in enumerate(tensors) if x is not None}


def differentiate(
    call: SampleCall, inputs: Sequence[Tensor], run: Callable[..., tuple[list[Tensor], list[Tensor]]]
) -> Results:
    """Values, which of them require a gradient, and the gradients."""
    outputs, others = run(inputs)
    chosen = [i for i, y in enumerate(outputs) if y.requires_grad]
    needing = [x for x in inputs if x.requires_grad]
    results = (
        named("output", outputs)
        | named("constant", others)
        | {f"output {i} has a gradient": torch.ones(()) for i in chosen}
    )
    if not chosen:
        return results
    upstream = call.upstream(outputs)
    gradients = torch.autograd.grad([outputs[i] for i in chosen], needing, [upstream[i] for i in chosen], **OPTIONS)
    return results | named("gradient", gradients)


def gradients(call: SampleCall) -> Results:
    return differentiate(call, call.inputs(), call.run)


def gradients_in_layouts(call: SampleCall) -> Results:
    """Each Tensor as every second element of another one, and in PyTorch's order for images."""
    return {
        f"{name}: {key}": value
        for name, layout in (("strided", strided), ("channels last", channels_last))
        for key, value in gradients(replace(call, layout=layout)).items()
    }


def gradients_named_by_layout(call: SampleCall) -> Results:
    contiguous = gradients(call)
    return {f"{name}: {key}": value for name in ("strided", "channels last") for key, value in contiguous.items()}


def strided(tensor: Tensor) -> Tensor:
    """As PyTorch's noncontiguous_like; the elements between are NaN."""
    filling = torch.nan if tensor.is_floating_point() else True if tensor.dtype == torch.bool else 12
    wide = torch.full((*tensor.shape, 2), filling, dtype=tensor.dtype)
    wide[..., 1] = tensor
    return wide[..., 1]


def channels_last(tensor: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.contiguous(memory_format=formats.get(tensor.dim(), torch.contiguous_format))


def gradients_of_subsets(call: SampleCall) -> Results:
    """Every subset of up to four inputs requires a gradient, also none."""
    results: Results = {}
    positions = range(min(len(call.positions), 4))
    for size in range(len(call.positions)):
        for subset in itertools.combinations(positions, size):
            inputs = [x if i in subset else x.detach() for i, x in enumerate(call.inputs())]
            results |= {f"of {subset}: {key}": value for key, value in differentiate(call, inputs, call.run).items()}
    return results


def second_derivatives(call: SampleCall) -> Results:
    """The gradients of the gradients, with respect to the inputs and to the upstream gradient."""
    inputs = call.inputs()
    outputs = [y for y in call.run(inputs)[0] if y.requires_grad]
    upstream = [u.requires_grad_() for u in call.upstream(outputs)]
    first = torch.autograd.grad(outputs, inputs, upstream, create_graph=True, **OPTIONS)
    pairs = [(g, v) for g, v in zip(first, call.upstream(first, seed=11), strict=True) if g.requires_grad]
    leaves = [*inputs, *upstream]
    if not pairs:
        return named("first", first) | named("second", map(torch.zeros_like, leaves))
    second = torch.autograd.grad([g for g, _ in pairs], leaves, [v for _, v in pairs], **OPTIONS)
    return named("first", first) | named("second", second)


def tangents(call: SampleCall) -> Results:
    """In forward mode, along all inputs at once and along each one."""
    return _along(call, _forward_mode)


def pytorchs_tangents(call: SampleCall) -> Results:
    """The same in the dtypes of the outputs, where PyTorch's may be wider.

    ẏ = ∂⟨∂⟨u, y⟩/∂x, ẋ⟩/∂u, where PyTorch's own function has no forward mode.
    """
    try:
        return _along(call, lambda *args: _forward_mode(*args, dtype_of_output=True))
    except NotImplementedError:
        return _along(call, _double_reverse)


def tangents_by_reverse(call: SampleCall) -> Results:
    """The same from the backward, which may have another slope at a kink: clamp has, at a single bound."""
    return _along(call, _double_reverse)


def _along(call: SampleCall, tangents_of: Callable[..., list[Tensor]]) -> Results:
    inputs = call.inputs()
    along = call.upstream(inputs, seed=21)
    every = tuple(range(len(inputs)))
    results: Results = {}
    for indices in {every, *((i,) for i in every[:4])}:
        results |= named(f"along {indices}: tangent", tangents_of(call, inputs, along, indices))
    return results


def _forward_mode(
    call: SampleCall,
    inputs: list[Tensor],
    along: list[Tensor],
    indices: tuple[int, ...],
    dtype_of_output: bool = False,
) -> list[Tensor]:
    with forward_ad.dual_level():
        duals = [x.detach() for x in inputs]
        for i in indices:
            duals[i] = forward_ad.make_dual(duals[i], along[i])
        pairs = [forward_ad.unpack_dual(y) for y in call.run(duals)[0]]
        results = [torch.zeros_like(primal) if tangent is None else tangent for primal, tangent in pairs]
        return (
            [x.to(primal.dtype) for x, (primal, _) in zip(results, pairs, strict=True)] if dtype_of_output else results
        )


def _double_reverse(
    call: SampleCall, inputs: list[Tensor], along: list[Tensor], indices: tuple[int, ...]
) -> list[Tensor]:
    outputs = call.run(inputs)[0]
    upstream = [torch.zeros_like(y).requires_grad_() for y in outputs]
    chosen = [inputs[i] for i in indices]
    first = torch.autograd.grad(outputs, chosen, upstream, create_graph=True)
    return list(torch.autograd.grad(first, upstream, [along[i] for i in indices]))


def variations(tensor: Tensor) -> list[Tensor]:
    """Other numbers of the same kind and dtype, without rounding."""
    return [tensor, tensor.reshape(-1).roll(1).reshape(tensor.shape), 0.5 * tensor]


def batched_gradients(call: SampleCall) -> Results:
    """Several upstream gradients at once."""
    inputs = call.inputs()
    outputs = [y for y in call.run(inputs)[0] if y.requires_grad]
    upstream = [torch.stack(variations(u)) for u in call.upstream(outputs)]
    return named("gradient", torch.autograd.grad(outputs, inputs, upstream, is_grads_batched=True, **OPTIONS))


def gradients_one_by_one(call: SampleCall) -> Results:
    """What `batched_gradients` should compute."""
    inputs = call.inputs()
    outputs = [y for y in call.run(inputs)[0] if y.requires_grad]
    upstream = zip(*map(variations, call.upstream(outputs)), strict=True)
    each = [torch.autograd.grad(outputs, inputs, u, retain_graph=True, **OPTIONS) for u in upstream]
    return named("gradient", map(torch.stack, zip(*each, strict=True)))


# How many inputs are batched and in which dimension, and in which dimension the upstream gradient is.
BATCHES: dict[str, tuple[int | None, int, int | None]] = {
    "first input batched": (1, 0, None),
    "first input and upstream batched": (1, -1, 0),
    "all batched": (None, 0, 0),
}


def vmapped(call: SampleCall) -> Results:
    """Values and gradients of a batch."""
    inputs = [x.detach() for x in call.inputs()]
    upstream = call.upstream(call.run(inputs)[0])
    results: Results = {}
    for name, (count, dim, upstream_dim) in BATCHES.items():
        xs, fixed = (
            [torch.stack(variations(x), dim) for x in inputs[:count]],
            inputs[:0] if count is None else inputs[1:],
        )
        us = upstream if upstream_dim is None else [torch.stack(variations(u)) for u in upstream]

        def one(xs: list[Tensor], us: list[Tensor], fixed: list[Tensor] = fixed) -> tuple[Any, Any]:
            outputs, vjp = torch.func.vjp(lambda *xs: tuple(call.run(xs)[0]), *xs, *fixed)
            return outputs, vjp(tuple(us))

        outputs, gradients = torch.func.vmap(one, (dim, upstream_dim), randomness="same")(xs, us)
        results |= named(f"{name}: output", outputs) | named(f"{name}: gradient", gradients)
    return results


def one_after_another(call: SampleCall) -> Results:
    """What `vmapped` should compute."""
    inputs = call.inputs()
    upstream = call.upstream(call.run(inputs)[0])
    results: Results = {}
    for name, (count, _, upstream_dim) in BATCHES.items():
        batch = [[x.detach().requires_grad_() for x in variations(x.detach())] for x in inputs[:count]]
        batch += [[x, x, x] for x in inputs[len(batch) :]]
        us = [[u, u, u] if upstream_dim is None else variations(u) for u in upstream]
        each = [one(call, *pair) for pair in zip(zip(*batch, strict=True), zip(*us, strict=True), strict=True)]
        outputs, gradients = (map(torch.stack, zip(*part, strict=True)) for part in zip(*each, strict=True))
        results |= named(f"{name}: output", outputs) | named(f"{name}: gradient", gradients)
    return results


def one(
    call: SampleCall, inputs: Sequence[Tensor], upstream: Sequence[Tensor]
) -> tuple[list[Tensor], Sequence[Tensor]]:
    outputs, _ = call.run(inputs)
    return outputs, torch.autograd.grad(outputs, inputs, upstream, **OPTIONS)


def under_autocast(call: SampleCall) -> Results:
    def run(inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return call.run(inputs)

    return differentiate(call, call.inputs(), run)


def compiled(call: SampleCall) -> Results:
    """In one graph, the backward too."""
    torch.compiler.reset()  # functions share code, and PyTorch recompiles a function at most eight times
    return gradients(call.of(torch.compile(call.function, fullgraph=True, backend="aot_eager", dynamic=False)))


def in_place(call: SampleCall) -> Results:
    """With `inplace`, which writes into the input and returns it."""

    def function(input: Tensor, *args: object, **options: object) -> tuple[Tensor, Tensor]:
        copied = input.clone()
        output = call.function(copied, *args, **{**options, "inplace": True})
        return output, torch.tensor(output is copied)

    return gradients(call.of(function))


def into_out(call: SampleCall) -> Results:
    """With `out`, which needs inputs without a gradient."""
    inputs = [x.detach() for x in call.inputs()]
    out = torch.empty_like(call.run(inputs)[0][0])
    (returned,), _ = call.of(partial(call.function, out=out)).run(inputs)
    return {"out": out, "out is returned": torch.tensor(returned is out)}
