"""Every function of the catalogue, in every way PyTorch may run it, against PyTorch's own."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from bp_torch import functional
from bp_torch.catalogue import CATALOGUE, BadCall, Entry, Sample
from bp_torch.gradients import sweep
from bp_torch.gradients.sweep import differentiable, leaves, signed, value_and_gradients

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
SECOND_ORDER_EPS = 1e3 * torch.finfo(torch.float64).eps

entries = pytest.mark.parametrize("entry", CATALOGUE.values(), ids=list(CATALOGUE))


def smooth_samples(entry: Entry, *, largest: int = 40) -> Iterator[Sample]:
    """Samples for the slower checks: small, not empty, of a finite value."""
    for sample in entry.samples:
        sizes = [sample.args[i].numel() for i in differentiable(sample)]
        if (
            min(sizes) > 0
            and sum(sizes) <= largest
            and entry.reference(*sample.args, **sample.options).isfinite().all()
        ):
            yield sample


def test_every_public_function_has_an_entry() -> None:
    assert sorted(CATALOGUE) == sorted(functional.__all__)


@entries
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_value_and_gradients_are_as_near_the_truth_as_pytorchs(entry: Entry, dtype: torch.dtype) -> None:
    comparisons = sweep(entry, dtype)
    assert len(comparisons) >= 2 * len(entry.samples)
    failed = [str(comparison) for comparison in comparisons if not comparison.passed]
    assert not failed, "\n".join(failed)


@entries
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_results_have_pytorchs_shape_and_dtype(entry: Entry, dtype: torch.dtype) -> None:
    for sample in entry.samples:
        hand = value_and_gradients(entry.function, sample.to(dtype))
        builtin = value_and_gradients(entry.reference, sample.to(dtype))
        assert [(x.shape, x.dtype) for x in hand] == [(x.shape, x.dtype) for x in builtin]


@entries
def test_every_subset_of_inputs_gets_its_gradient(entry: Entry) -> None:
    for sample in smooth_samples(entry):
        positions = differentiable(sample)
        _, *expected = value_and_gradients(entry.function, sample)
        for i, gradient in zip(positions, expected, strict=True):
            args = list(sample.args)
            args[i] = args[i].detach().requires_grad_()
            output = entry.function(*args, **sample.options)
            (alone,) = torch.autograd.grad(output, args[i], signed(*output.shape))
            assert torch.equal(alone, gradient)


@entries
def test_no_graph_without_a_gradient_to_take(entry: Entry) -> None:
    for sample in entry.samples:
        assert not entry.function(*sample.args, **sample.options).requires_grad
        args, _ = leaves(sample)
        with torch.no_grad():
            assert not entry.function(*args, **sample.options).requires_grad


@entries
def test_inputs_and_upstream_gradient_are_left_unchanged(entry: Entry) -> None:
    for sample in entry.samples:
        args, inputs = leaves(sample)
        before = [input.detach().clone() for input in inputs]
        output = entry.function(*args, **sample.options)
        upstream = signed(*output.shape)
        kept = upstream.clone()
        torch.autograd.grad(output, inputs, upstream)
        assert torch.equal(upstream, kept)
        assert all(torch.equal(input, copy) for input, copy in zip(inputs, before, strict=True))


def second_order(function: Callable[..., Tensor], sample: Sample) -> list[Tensor]:
    """Gradients of a random combination of the gradients, with respect to upstream gradient and inputs."""
    args, inputs = leaves(sample)
    output = function(*args, **sample.options)
    upstream = signed(*output.shape).requires_grad_()
    gradients = torch.autograd.grad(output, inputs, upstream, create_graph=True)
    combined = sum((g * signed(*g.shape, seed=7)).sum() for g in gradients)
    again = torch.autograd.grad(combined, [upstream, *inputs], allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip([upstream, *inputs], again, strict=True)]


@entries
def test_double_backward(entry: Entry) -> None:
    for sample in smooth_samples(entry):
        for hand, builtin in zip(
            second_order(entry.function, sample), second_order(entry.reference, sample), strict=True
        ):
            torch.testing.assert_close(hand, builtin, rtol=SECOND_ORDER_EPS, atol=SECOND_ORDER_EPS)


def smooth_at(entry: Entry, sample: Sample) -> bool:
    """Finite differences want a sample away from kinks, and of moderate size: beyond it they measure rounding."""
    tensors = [sample.args[i] for i in differentiable(sample)]
    return all(t.abs().max() < 10 and t.abs().min() > 1e-3 for t in tensors)


@entries
def test_against_finite_differences(entry: Entry) -> None:
    checked = 0
    for sample in smooth_samples(entry):
        if smooth_at(entry, sample):
            args, _ = leaves(Sample(tuple(a.clone() if isinstance(a, Tensor) else a for a in sample.args), {}))
            assert torch.autograd.gradcheck(
                lambda *args, options=sample.options: entry.function(*args, **options), args, fast_mode=True
            )
            checked += 1
    assert checked >= 3


def tangents_of(sample: Sample) -> list[Tensor]:
    return [signed(*sample.args[i].shape, seed=3 + i) for i in differentiable(sample)]


def directional(function: Callable[..., Tensor], sample: Sample) -> Tensor:
    args = list(sample.args)
    with forward_ad.dual_level():
        for i, tangent in zip(differentiable(sample), tangents_of(sample), strict=True):
            args[i] = forward_ad.make_dual(args[i].contiguous(), tangent)  # it refuses expanded ones
        tangent = forward_ad.unpack_dual(function(*args, **sample.options)).tangent
        assert tangent is not None
        return tangent


@entries
def test_forward_mode_is_the_transpose_of_reverse_mode(entry: Entry) -> None:
    for sample in smooth_samples(entry):
        value, *gradients = value_and_gradients(entry.reference, sample)
        pulled = sum((g * t).sum() for g, t in zip(gradients, tangents_of(sample), strict=True))
        pushed = (directional(entry.function, sample) * signed(*value.shape)).sum()
        torch.testing.assert_close(pushed, pulled, rtol=1e-10, atol=1e-10, equal_nan=True)


@entries
def test_forward_mode_with_one_tangent_alone(entry: Entry) -> None:
    for sample in smooth_samples(entry):
        for i in differentiable(sample):
            tangent = signed(*sample.args[i].shape, seed=3)

            def along(x: Tensor, function: Callable[..., Tensor], i: int = i, sample: Sample = sample) -> Tensor:
                return function(*sample.args[:i], x, *sample.args[i + 1 :], **sample.options)

            (_, hand), (_, builtin) = (
                torch.func.jvp(lambda x, f=f: along(x, f), (sample.args[i].contiguous(),), (tangent,))
                for f in (entry.function, entry.reference)
            )
            torch.testing.assert_close(hand, builtin, rtol=1e-10, atol=1e-10, equal_nan=True)


@entries
def test_batched_upstream_gradients(entry: Entry) -> None:
    for sample in smooth_samples(entry):
        args, inputs = leaves(sample)
        output = entry.function(*args, **sample.options)
        upstreams = signed(3, *output.shape)
        batched = torch.autograd.grad(output, inputs, upstreams, is_grads_batched=True, retain_graph=True)
        for row, upstream in enumerate(upstreams):
            one_by_one = torch.autograd.grad(output, inputs, upstream, retain_graph=True)
            for many, one in zip(batched, one_by_one, strict=True):
                torch.testing.assert_close(many[row], one, rtol=1e-12, atol=1e-12)


@entries
def test_func_gradients_of_each_example(entry: Entry) -> None:
    """vmap over grad: the way to per-example gradients."""
    for sample in smooth_samples(entry):
        batch = torch.stack([sample.args[0], sample.args[0] * 0.5 + 0.1, -sample.args[0]])

        def cost(x: Tensor, function: Callable[..., Tensor], sample: Sample = sample) -> Tensor:
            output = function(x, *sample.args[1:], **sample.options)
            return (output * signed(*output.shape)).sum()

        hand = torch.func.vmap(torch.func.grad(cost), in_dims=(0, None))(batch, entry.function)
        each = [torch.func.grad(cost)(x, entry.reference) for x in batch]
        torch.testing.assert_close(hand, torch.stack(each), rtol=1e-10, atol=1e-10)


@entries
def test_jacobian_of_jacobian(entry: Entry) -> None:
    sample = next(smooth_samples(entry, largest=30))

    def cost(x: Tensor, function: Callable[..., Tensor]) -> Tensor:
        output = function(x, *sample.args[1:], **sample.options)
        return (output * signed(*output.shape)).sum()

    for outer, inner in ((torch.func.jacrev, torch.func.jacrev), (torch.func.jacfwd, torch.func.jacrev)):
        hand, builtin = (
            outer(inner(lambda x, f=f: cost(x, f)))(sample.args[0]) for f in (entry.function, entry.reference)
        )
        torch.testing.assert_close(hand, builtin, rtol=1e-10, atol=1e-10)


@entries
def test_compiles_into_one_graph(entry: Entry) -> None:
    torch.compiler.reset()
    compiled = torch.compile(entry.function, fullgraph=True, backend="aot_eager", dynamic=False)
    for sample in list(smooth_samples(entry))[:4]:
        value, *gradients = value_and_gradients(entry.function, sample)
        compiled_value, *compiled_gradients = value_and_gradients(compiled, sample)
        torch.testing.assert_close(compiled_value, value)
        torch.testing.assert_close(compiled_gradients, gradients)


@entries
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_autocast_as_pytorch_does(entry: Entry, dtype: torch.dtype) -> None:
    for sample in smooth_samples(entry):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hand = value_and_gradients(entry.function, sample.to(dtype))
            builtin = value_and_gradients(entry.reference, sample.to(dtype))
        truth = value_and_gradients(entry.reference, sample.to(dtype).to(torch.float64))
        for ours, theirs, true in zip(hand, builtin, truth, strict=True):
            assert ours.dtype == theirs.dtype
            allowed = 8 * torch.finfo(torch.bfloat16).eps
            torch.testing.assert_close(ours.double(), true, rtol=allowed, atol=allowed * true.abs().max().item())


def test_bad_calls_fail_as_pytorchs_do(subtests: Any) -> None:
    for entry in CATALOGUE.values():
        for call in entry.bad_calls:
            with subtests.test(function=entry.name, names=call.names):
                check_bad_call(entry, call)


def check_bad_call(entry: Entry, call: BadCall) -> None:
    with pytest.raises(call.error) as caught:
        entry.function(*call.args, **call.options)
    assert re.search(call.names, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    if isinstance(call.args[0], Tensor) and call.args[0].is_complex():
        return  # complex numbers are refused here, whatever torch does with them
    with pytest.raises(call.error):
        entry.reference(*call.args, **call.options)


@entries
def test_kinks_take_pytorchs_side(entry: Entry) -> None:
    for kink in entry.kinks:
        slopes = []
        for function in (entry.function, entry.reference):
            x = torch.tensor([kink.at], dtype=torch.float64, requires_grad=True)
            args = (x, torch.zeros(1, dtype=torch.float64)) if entry.name.endswith("loss") else (x,)
            function(*args).sum().backward()
            assert x.grad is not None
            slopes.append(x.grad.item())
        assert slopes == [kink.slope, kink.slope]


@entries
def test_non_finite_inputs_as_pytorch_does(entry: Entry) -> None:
    sample = next(s for s in smooth_samples(entry) if s.args[0].dim() == 2)
    for special in (torch.inf, -torch.inf, torch.nan):
        input = sample.args[0].clone()
        input[0, 0] = special
        strange = Sample((input, *sample.args[1:]), sample.options)
        value, gradient, *_ = value_and_gradients(entry.function, strange)
        builtin, builtin_gradient, *_ = value_and_gradients(entry.reference, strange)
        torch.testing.assert_close(value, builtin, equal_nan=True)
        torch.testing.assert_close(gradient[1:], builtin_gradient[1:], equal_nan=True)
