"""Half precision, autocast, saturation, and Tensors without storage."""

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

import bp_torch.functional as F
from bp_torch.nn import mlp


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sigmoid", {}), ("tanh", {}), ("elu", {}), ("softplus", {}), ("silu", {}), ("gelu", {}),
        ("gelu", {"approximate": "tanh"}),
    ],
)  # fmt: skip
def test_half_precision_is_rounded_once(name: str, options: dict[str, str], dtype: torch.dtype) -> None:
    """Each value and slope has an error of at most one rounding, so no intermediate was rounded."""
    x = torch.linspace(-3, 6, 200).to(dtype)
    results = []
    for input in (x.clone(), x.double()):
        input.requires_grad_()
        output = getattr(F, name)(input, **options)
        results.append((output.detach().double(), torch.autograd.grad(output.sum(), input)[0].double()))
    for half, truth in zip(*results, strict=True):
        assert ((half - truth).abs() <= 0.51 * torch.finfo(dtype).eps * truth.abs() + 1e-7).all()


@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_the_slope_of_a_saturated_neuron_is_precise(name: str) -> None:
    """To a few roundings, even where the output is near its limit."""
    input = torch.linspace(3, 8, 100).requires_grad_()
    output = getattr(F, name)(input)
    (slope,) = torch.autograd.grad(output.sum(), input)
    y = output.detach().double()
    torch.testing.assert_close(slope.double(), y * (1 - y) if name == "sigmoid" else 1 - y * y, rtol=4e-7, atol=0)


def test_gelu_is_precise_far_below_0() -> None:
    """There Φ(x) is tiny, and 1 + erf(x/√2) would cancel."""
    input = torch.linspace(-6, -3, 100).requires_grad_()
    output = F.gelu(input)
    (slope,) = torch.autograd.grad(output.sum(), input)
    x = input.detach().double()
    normal = torch.distributions.Normal(torch.zeros((), dtype=torch.float64), 1.0)
    cumulative, density = torch.special.ndtr(x), normal.log_prob(x).exp()
    torch.testing.assert_close(output.double(), x * cumulative, rtol=1e-5, atol=0)
    torch.testing.assert_close(slope.double(), cumulative + x * density, rtol=1e-5, atol=0)


def test_relu_stops_an_infinite_gradient_where_x_is_not_positive() -> None:
    x = torch.tensor([-1.0, 0.0, 1.0], requires_grad=True)
    g = torch.full((3,), torch.inf)
    assert torch.autograd.grad(F.relu(x), x, g)[0].tolist() == [0, 0, torch.inf]
    assert torch.func.jvp(F.relu, (x.detach(),), (g,))[1].tolist() == [0, 0, torch.inf]


def test_dtypes_of_integer_inputs() -> None:
    counts = torch.tensor([-1, 0, 2])
    assert F.sigmoid(counts).dtype == F.tanh(counts).dtype == torch.float32
    assert torch.equal(F.relu(counts), torch.tensor([0, 0, 2]))


def test_mixed_dtypes_promote_as_torchs_do() -> None:
    narrow, wide = torch.randn(3, 2), torch.randn(3, 2, dtype=torch.float64)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits", "cross_entropy"):
        expected = getattr(torch.nn.functional, name)(narrow, wide)
        torch.testing.assert_close(getattr(F, name)(narrow, wide), expected)
    assert F.squared_error(narrow, wide).dtype == torch.float64


def parameter_gradients(model: torch.nn.Module, inputs: Tensor, targets: Tensor) -> list[Tensor | None]:
    F.squared_error(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    return [parameter.grad for parameter in model.parameters()]


def test_tensors_without_storage() -> None:
    """Forward and backward run on the meta device, and with FakeTensors."""
    with torch.device("meta"):
        gradients = parameter_gradients(mlp((4, 3, 2)), torch.randn(5, 4), torch.randn(5, 2))
    assert all(g is not None and g.is_meta for g in gradients)
    with FakeTensorMode():
        gradients = parameter_gradients(mlp((4, 3, 2)), torch.randn(5, 4), torch.randn(5, 2))
    assert [g.shape for g in gradients if g is not None] == [(3, 4), (3,), (2, 3), (2,)]


def test_autocast_trains_the_network() -> None:
    torch.manual_seed(0)
    model, inputs, targets = mlp((4, 3, 2)), torch.randn(5, 4), torch.rand(5, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(inputs)
        cost = F.squared_error(output, targets)
    assert (output.dtype, cost.dtype) == (torch.bfloat16, torch.float32)
    half = torch.autograd.grad(cost, model.parameters())
    full = torch.autograd.grad(F.squared_error(model(inputs), targets), model.parameters())
    for a, b in zip(half, full, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.02 * b.abs().max().item())
