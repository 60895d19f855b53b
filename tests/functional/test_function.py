"""The state of the base class of Functions: cached constants and the active tape."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.engine import Backprop, Tape
from bp_torch.functional import function
from bp_torch.nn import mlp


@pytest.fixture
def no_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "_constants", {})


def gradient(dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.linspace(-2, 2, 6, dtype=dtype, device="cpu").reshape(2, 3).requires_grad_()
    return torch.autograd.grad(F.squared_error(F.sigmoid(x), torch.zeros_like(x)), x)[0]


def under_fake_tensors(work: Callable[[], Any]) -> None:
    with FakeTensorMode():
        work()


def with_real_tensors_under_fake_tensors(work: Callable[[], Any]) -> None:
    real = torch.rand(2, 3, requires_grad=True)
    with FakeTensorMode(allow_non_fake_inputs=True):
        F.squared_error(F.sigmoid(real), torch.zeros(2, 3))


def under_nested_transforms(work: Callable[[], Any]) -> None:
    """Here a new Tensor looks like an ordinary one, but is invalid after the transform."""

    def cost(x: Tensor) -> Tensor:
        return F.squared_error(F.sigmoid(x), x.detach())

    def slope(x: Tensor) -> Tensor:
        return torch.func.grad(cost)(x).sum()

    for _ in range(2):
        torch.func.grad(slope)(torch.rand(2, 3))
        torch.func.jacfwd(torch.func.grad(cost))(torch.rand(2, 3))
        torch.func.vmap(torch.func.grad(cost))(torch.rand(4, 2, 3))


def under_the_engine(work: Callable[[], Any]) -> None:
    Backprop(mlp((3, 3)), F.squared_error).sgd_step(torch.rand(2, 3), torch.rand(2, 3), 0.1)


def under_inference_mode(work: Callable[[], Any]) -> None:
    with torch.inference_mode():
        F.squared_error(torch.rand(2, 3), torch.rand(2, 3))


def on_another_default_device(work: Callable[[], Any]) -> None:
    with torch.device("meta"):
        work()


def in_another_default_dtype(work: Callable[[], Any]) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        work()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("no_constants")
@pytest.mark.parametrize(
    "context",
    [
        under_fake_tensors,
        with_real_tensors_under_fake_tensors,
        under_nested_transforms,
        under_inference_mode,
        under_the_engine,
        on_another_default_device,
        in_another_default_dtype,
    ],
)
def test_constants_are_ordinary_tensors_wherever_they_were_created(context: Callable[..., None]) -> None:
    expected = gradient(torch.float64)
    function._constants.clear()
    context(gradient)
    actual = gradient()
    assert type(actual) is Tensor
    assert (actual.dtype, actual.device.type) == (torch.float32, "cpu")
    torch.testing.assert_close(actual.double(), expected)
    for constant in function._constants.values():
        assert type(constant) is Tensor
        assert not constant.is_inference()
        assert not torch._C._functorch.is_functorch_wrapped_tensor(constant)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "squared_error"])
def test_an_upstream_gradient_of_zeros(name: str) -> None:
    """PyTorch represents it by a Tensor that cannot be written to."""
    x = torch.rand(2, 3, requires_grad=True)
    output = F.squared_error(x, torch.zeros(2, 3)) if name == "squared_error" else getattr(F, name)(x)
    (gradient,) = torch.autograd.grad(output, x, torch._efficientzerotensor(output.shape))
    assert not gradient.any()


@pytest.mark.usefixtures("no_constants")
def test_the_number_of_constants_is_bounded() -> None:
    for examples in range(1, 700):
        x = torch.rand(examples, 1, requires_grad=True)
        F.squared_error(x, torch.zeros(examples, 1)).backward()  # type: ignore[no-untyped-call]
    assert 0 < len(function._constants) <= 256


def test_a_tape_may_be_entered_twice() -> None:
    with (tape := Tape()), tape:
        F.tanh(torch.rand(2))
    assert (len(tape), function.active_tape.tape) == (1, None)


def test_a_tape_stops_after_an_exception() -> None:
    with pytest.raises(RuntimeError, match="do not match"), Tape():
        F.linear(torch.rand(2, 3), torch.rand(4, 5))
    assert function.active_tape.tape is None


@pytest.mark.parametrize(
    ("name", "shape", "constants"),
    [
        ("relu", (3, 4), ()),
        ("max_pool2d", (3, 2, 4, 4), ((2, 2),)),
        ("avg_pool2d", (3, 2, 4, 4), ((2, 2),)),
        ("pad", (3, 2, 2), ((1, 1),)),
        ("layer_norm", (3, 2, 2), ((2,),)),
    ],
)
def test_a_tangent_through_vmap(name: str, shape: tuple[int, ...], constants: tuple[Any, ...]) -> None:
    """With a constant that is a tuple, and Tensors saved under vmap."""
    x, tangent = torch.randn(2, *shape, dtype=torch.float64)
    hand, builtin = (
        torch.func.jvp(torch.func.vmap(lambda x, f=f: f(x, *constants)), (x,), (tangent,))
        for f in (getattr(F, name), getattr(torch.nn.functional, name))
    )
    torch.testing.assert_close(hand, builtin)


@pytest.mark.parametrize("layer", [nn.Conv2d(2, 3, 2, padding=1), nn.ConvTranspose2d(2, 3, 2, stride=2)])
def test_the_hessian_of_a_convolution(layer: torch.nn.Module) -> None:
    """Its backward calls a Function, under three transforms."""
    x = torch.randn(1, 2, 2, 3)
    hand, builtin = (torch.func.hessian(lambda x, f=f: f(x).pow(3).sum())(x) for f in (layer, nn.as_builtin(layer)))
    torch.testing.assert_close(hand, builtin)
