"""Normalization where the samples of other tests do not lead: transforms, extreme numbers, dtypes."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F

from bp_torch import functional

WEIGHT, BIAS = torch.tensor([0.5, -2.0, 1.5, 0.0]).double(), torch.tensor([0.1, 0.2, -0.3, 1.0]).double()
Norm = Callable[..., Tensor]


def norms(package: Any) -> dict[str, Norm]:
    """Functions of x (3, 4, 4), weight (4,), bias (4,)."""
    return {
        "batch_norm": lambda x, w, b: package.batch_norm(x, None, None, w, b, training=True),
        "batch_norm, evaluation": lambda x, w, b: package.batch_norm(x, b.detach(), w.detach() ** 2 + 1, w, b),
        "layer_norm": lambda x, w, b: package.layer_norm(x, (4,), w, b),
        "group_norm": lambda x, w, b: package.group_norm(x, 2, w, b),
        "instance_norm": lambda x, w, b: package.instance_norm(x, None, None, w, b),
        "rms_norm": lambda x, w, b: package.rms_norm(x, (4,), w),
        "local_response_norm": lambda x, w, b: package.local_response_norm(x, 3, 0.5),
        "normalize": lambda x, w, b: package.normalize(x),
    }


HAND, BUILTIN = norms(functional), norms(F)
every = pytest.mark.parametrize("name", HAND)
affine = pytest.mark.parametrize("name", ["batch_norm", "layer_norm", "group_norm", "instance_norm"])


def gradients(norm: Norm, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    leaves = [each.to(dtype).requires_grad_() for each in (x, WEIGHT, BIAS)]
    y = norm(*leaves)
    g = torch.cos(1.0 + torch.arange(y.numel())).reshape(y.shape)
    found = torch.autograd.grad(y, leaves, g.to(y.dtype), allow_unused=True)
    return [y.detach(), *(each for each in found if each is not None)]


@every
def test_forward_over_reverse_without_create_graph(name: str) -> None:
    """The saved mean has no tangent: a backward at a dual number must not use it."""
    x = torch.randn(3, 4, 4, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cost_of(BUILTIN[name])(leaf), leaf, create_graph=True)
    (expected,) = torch.autograd.grad(gradient, leaf, x.cos())  # the matrix of second derivatives is symmetric
    cost = cost_of(HAND[name])
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x.clone().requires_grad_(), x.cos())  # type: ignore[no-untyped-call]
        (gradient,) = torch.autograd.grad(cost(dual), dual)
        tangent = forward_ad.unpack_dual(gradient).tangent  # type: ignore[no-untyped-call]
        torch.testing.assert_close(tangent, expected)
    torch.testing.assert_close(torch.func.jvp(torch.func.grad(cost), (x,), (x.cos(),))[1], expected)


def cost_of(norm: Norm) -> Norm:
    return lambda x: (norm(x, WEIGHT, BIAS) ** 3).sum()


@every
def test_compiled_gradient_of_torch_func(name: str) -> None:
    """Dynamo differentiates the forward itself."""
    torch.compiler.reset()
    x = torch.randn(3, 4, 4, dtype=torch.float64)
    compiled = torch.compile(torch.func.grad(cost_of(HAND[name])), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), torch.func.grad(cost_of(BUILTIN[name]))(x))


@affine
@pytest.mark.parametrize("mean", [0.0, 30.0, 1000.0])
def test_a_large_mean_does_not_cancel(name: str, mean: float) -> None:
    """Not more than in PyTorch's kernels: of x − μ, the mean of the squares is taken."""
    torch.manual_seed(0)
    x = (torch.randn(3, 4, 4) + mean).double()
    truth = gradients(BUILTIN[name], x.float().double(), torch.float64)
    hand, builtin = (gradients(norm, x, torch.float32) for norm in (HAND[name], BUILTIN[name]))
    for ours, theirs, true in zip(hand, builtin, truth, strict=True):
        errors = [(each.double() - true).abs().max() for each in (ours, theirs)]
        assert errors[0] <= 2 * errors[1] + 8e-7 * true.abs().max()


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e6, 1e12])
def test_tiny_and_huge_inputs(name: str, dtype: torch.dtype, size: float) -> None:
    torch.manual_seed(0)
    x = size * torch.randn(3, 4, 4, dtype=torch.float64)
    hand, builtin = (gradients(norm, x, dtype) for norm in (HAND[name], BUILTIN[name]))
    for ours, theirs in zip(hand, builtin, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().nan_to_num().max().item())


@every
def test_equal_inputs(name: str) -> None:
    """The variance is 0: σ = √ε."""
    for number in (0.0, 7.0):
        x = torch.full((3, 4, 4), number)
        hand, builtin = (gradients(norm, x, torch.float64) for norm in (HAND[name], BUILTIN[name]))
        torch.testing.assert_close(hand, builtin)


@affine
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_float32_parameters(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 4, 4).to(dtype)
    results = []
    for norm, dtypes in ((HAND[name], (dtype, torch.float32)), (BUILTIN[name], (torch.float64,) * 2)):
        leaves = [
            each.to(to).requires_grad_() for each, to in zip((x, WEIGHT, BIAS), (*dtypes, dtypes[1]), strict=True)
        ]
        y = norm(*leaves)
        results.append(
            [y, *torch.autograd.grad((y.double() * torch.cos(torch.arange(48.0)).view(3, 4, 4)).sum(), leaves)]
        )
        assert [each.dtype for each in results[-1]] == [dtypes[0], dtypes[0], dtypes[1], dtypes[1]]
    eps = torch.finfo(dtype).eps
    for ours, truth in zip(*results, strict=True):
        torch.testing.assert_close(ours.double(), truth, rtol=2 * eps, atol=2 * eps * truth.abs().max().item())


@affine
def test_other_mixtures_of_dtypes_raise(name: str) -> None:
    x = torch.randn(3, 4, 4)
    for dtypes in ((torch.float32, torch.float64), (torch.float64, torch.float32), (torch.float32, torch.bfloat16)):
        for norm in (HAND[name], BUILTIN[name]):
            with pytest.raises(RuntimeError, match="dtype"):
                norm(x.to(dtypes[0]), WEIGHT.to(dtypes[1]), BIAS.to(dtypes[1]))


@affine
def test_only_a_weight_or_only_a_bias(name: str) -> None:
    """The gradient of PyTorch's group_norm with a bias only raises."""
    x, g = torch.randn(3, 4, 4, dtype=torch.float64), torch.randn(3, 4, 4, dtype=torch.float64)
    for weight, bias in ((WEIGHT, None), (None, BIAS), (None, None)):
        given = [each.clone().requires_grad_() for each in (x, weight, bias) if each is not None]
        full = [x, torch.ones(4) if weight is None else weight, torch.zeros(4) if bias is None else bias]
        leaves = [each.double().clone().requires_grad_() for each in full]
        parts = iter(given[1:])
        y = HAND[name](given[0], weight if weight is None else next(parts), bias if bias is None else next(parts))
        expected = torch.autograd.grad(BUILTIN[name](*leaves), leaves, g)
        kept = [each for each, part in zip(expected, (x, weight, bias), strict=True) if part is not None]
        torch.testing.assert_close(list(torch.autograd.grad(y, given, g)), kept)


def test_captured_running_statistics_are_updated_under_torch_func() -> None:
    x, results = torch.randn(4, 3), []
    for package in (functional, F):
        mean, var = torch.zeros(3), torch.ones(3)
        cost = lambda x, p=package, m=mean, v=var: (p.batch_norm(x, m, v, training=True) ** 3).sum()  # noqa: E731
        results.append([torch.func.grad(cost)(x), mean, var])
    torch.testing.assert_close(*results)
    assert results[0][1].any()


@pytest.mark.parametrize("package", [functional, F])
def test_running_statistics_may_be_used_twice_before_the_backward(package: Any) -> None:
    x, mean, var = torch.randn(2, 3, 4, requires_grad=True), torch.zeros(3), torch.ones(3)
    for evaluate in (package.batch_norm, partial(package.instance_norm, use_input_stats=False)):
        (evaluate(x, mean, var) + evaluate(x, mean, var)).sum().backward()
