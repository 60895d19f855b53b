"""Pooling, padding and interpolation with many sizes and options, against PyTorch's values or gradients."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import bp_torch.functional as F

SIZES = (1, 2, 3, 4, 5, 8, 13)
MODES: dict[str, dict[str, Any]] = {
    "nearest": {},
    "nearest-exact": {},
    "linear": {},
    "linear, aligned": {"align_corners": True},
    "bilinear, antialias": {"antialias": True},
    "bilinear, antialias, aligned": {"antialias": True, "align_corners": True},
    "bicubic": {},
    "bicubic, aligned": {"align_corners": True},
    "bicubic, antialias": {"antialias": True},
    "lanczos, antialias": {"antialias": True},
    "area": {},
}


def call(name: str, x: Tensor, *args: Any, **options: Any) -> tuple[Tensor, ...] | None:
    """A random upstream gradient, PyTorch's output and our gradient; None without an output."""
    torch.manual_seed(0)
    x.requires_grad_()
    try:
        output = getattr(torch.nn.functional, name)(x, *args, **options)
    except RuntimeError:
        return None
    if not output.numel():
        return None
    upstream = torch.randn_like(output)
    return upstream, output, torch.autograd.grad(getattr(F, name)(x, *args, **options), x, upstream)[0]


def assert_same_gradient(name: str, x: Tensor, *args: Any, **options: Any) -> None:
    """The gradient is PyTorch's."""
    if result := call(name, x, *args, **options):
        upstream, output, gradient = result
        torch.testing.assert_close(gradient, torch.autograd.grad(output, x, upstream)[0], rtol=1e-11, atol=1e-11)


def assert_transposed(name: str, x: Tensor, *args: Any, **options: Any) -> None:
    """⟨g, A v⟩ = ⟨Aᵀ g, v⟩ for PyTorch's linear map A: its own gradients fail this for some options."""
    if result := call(name, x, *args, **options):
        upstream, _, gradient = result
        for _ in range(2):
            v = torch.randn_like(x)
            output = getattr(torch.nn.functional, name)(v, *args, **options)
            scale = 1e-12 if x.dtype == torch.float64 else 1e-4
            torch.testing.assert_close((upstream * output).sum(), (gradient * v).sum(), rtol=0, atol=scale * x.numel())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("label", MODES)
def test_interpolation(label: str, dtype: torch.dtype) -> None:
    """From each size to each, and by factors, also those that keep the size."""
    options = {"mode": label.split(",")[0], **MODES[label]}
    lines = options["mode"] in ("nearest", "nearest-exact", "linear", "area")
    for n, m in itertools.product(SIZES, (*SIZES, 41, 82)):
        x = torch.randn(2, 1, n, dtype=dtype) if lines else torch.randn(2, 1, n, 2, dtype=dtype)
        assert_transposed("interpolate", x, m if lines else (m, 3), **options)
    for n, factor in itertools.product(SIZES, (0.3, 0.77, 1.0, 1.1, 1.2, 2.0, 3.3)):
        x = torch.randn(2, 1, n, dtype=dtype) if lines else torch.randn(2, 1, n, 2, dtype=dtype)
        assert_transposed("interpolate", x, None, factor if lines else (factor, 1.5), **options)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_of_either_sign(mode: str) -> None:
    for n, left, right in itertools.product((3, 4, 5), range(-2, 4), range(-2, 4)):
        kept = n + min(left, 0) + min(right, 0)
        if mode == "circular" and max(left, right) > kept:
            continue  # PyTorch copies values that it has not written yet
        assert_transposed("pad", torch.randn(1, 2, n, dtype=torch.float64), (left, right), mode)
        assert_transposed("pad", torch.randn(1, 2, n, 3, dtype=torch.float64), (1, 2, left, right), mode)


@pytest.mark.parametrize("name", ["max_pool1d", "avg_pool1d"])
def test_windows(name: str) -> None:
    for n, kernel, stride, ceil_mode in itertools.product((4, 5, 8), (1, 2, 3, 4), (1, 2, 3), (False, True)):
        for padding in range(kernel // 2 + 1):
            options = [{"dilation": 1}, {"dilation": 2}]
            if name == "avg_pool1d":
                options = [{"count_include_pad": True}, {"count_include_pad": False}]
            for each in options:
                x = torch.randn(2, 2, n, dtype=torch.float64)
                assert_same_gradient(name, x, kernel, stride, padding, ceil_mode=ceil_mode, **each)


@pytest.mark.parametrize("name", ["adaptive_max_pool1d", "adaptive_avg_pool1d"])
def test_adaptive_windows(name: str) -> None:
    for n, m in itertools.product(range(1, 12), range(1, 12)):
        assert_same_gradient(name, torch.randn(2, 2, n, dtype=torch.float64), m)


def test_a_long_line_is_interpolated() -> None:
    """Without a matrix of all inputs and outputs, which would take gigabytes."""
    assert_transposed("interpolate", torch.randn(1, 1, 30_000, dtype=torch.float64), scale_factor=2.0, mode="linear")
    assert_transposed("adaptive_avg_pool1d", torch.randn(1, 1, 30_000, dtype=torch.float64), 7_000)


def test_an_infinite_gradient_stays_in_its_windows() -> None:
    for name, args in (("avg_pool2d", (2,)), ("adaptive_avg_pool2d", (2,)), ("interpolate", (2, None, "bilinear"))):
        x = torch.randn(1, 1, 4, 4, requires_grad=True)
        upstream = torch.tensor([[[[torch.inf, 1.0], [1.0, 1.0]]]])
        hand, builtin = (
            torch.autograd.grad(getattr(functions, name)(x, *args), x, upstream)[0].isfinite()
            for functions in (F, torch.nn.functional)
        )
        assert torch.equal(hand, builtin)


def test_the_maximum_of_padding_alone_is_minus_infinity() -> None:
    x = torch.randn(1, 1, 3, 3, requires_grad=True)
    y = F.max_pool2d(x, 2, 1, padding=1, dilation=4)
    assert y.item() == -torch.inf
    with pytest.raises(RuntimeError, match="index 12 is out of bounds"):
        torch.autograd.grad(y, x)


def test_maxima_have_the_memory_format_of_the_input() -> None:
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert F.max_pool2d(x, 2).stride() == torch.nn.functional.max_pool2d(x, 2).stride()


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_batched_gradients_of_windows_of_one_value(dims: int) -> None:
    x = torch.randn(1, 2, *[4] * dims, dtype=torch.float64, requires_grad=True)
    y = getattr(F, f"avg_pool{dims}d")(x, [1, 2, 2][:dims])
    upstream = torch.randn(3, *y.shape, dtype=torch.float64)
    (batched,) = torch.autograd.grad(y, x, upstream, retain_graph=True, is_grads_batched=True)
    each = [torch.autograd.grad(y, x, g, retain_graph=True)[0] for g in upstream]
    torch.testing.assert_close(batched, torch.stack(each))


@pytest.mark.parametrize(
    ("name", "shape", "args"),
    [
        ("max_pool2d", (1, 2, 4, 4), (2,)),
        ("adaptive_max_pool2d", (1, 2, 4, 4), (2,)),
        ("avg_pool1d", (1, 2, 4), (2,)),
        ("avg_pool3d", (2, 4, 4, 4), (2,)),
        ("adaptive_avg_pool1d", (1, 2, 4), (2,)),
        ("interpolate", (1, 2, 4), (6,)),
        ("instance_norm", (1, 2, 4), ()),
        ("conv1d", (2, 4), (torch.ones(3, 2, 2, dtype=torch.float64),)),
    ],
)
def test_the_output_may_be_changed_in_place(name: str, shape: tuple[int, ...], args: tuple[Any, ...]) -> None:
    """As by the ReLU(inplace=True) of many networks."""
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    hand, builtin = (torch.relu_(getattr(module, name)(x, *args)) for module in (F, torch.nn.functional))
    upstream = torch.randn_like(hand)
    torch.testing.assert_close(torch.autograd.grad(hand, x, upstream), torch.autograd.grad(builtin, x, upstream))
