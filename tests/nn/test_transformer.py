"""The transformer's modules: hand-written at every depth, in every path, on the tape and for single examples."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch import functional, nn
from bp_torch.engine import Backprop
from bp_torch.inspection import per_example_gradients
from bp_torch.nn import as_builtin


def encoder(**options: Any) -> torch.nn.Sequential:
    """Two encoder layers of torch.nn, which become hand-written, and a classifier."""
    options = {"d_model": 4, "nhead": 2, "dim_feedforward": 6, "dropout": 0.0, "batch_first": True, **options}
    layer = torch.nn.TransformerEncoderLayer(**options)
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(4), enable_nested_tensor=False)
    return torch.nn.Sequential(stack, nn.Flatten(), nn.Linear(12, 3)).double()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(5, 3, 4, dtype=torch.float64), torch.tensor([0, 2, 1, 0, 1])


def gradients(model: torch.nn.Module, cost: Any) -> dict[str, Tensor]:
    x, target = batch()
    parameters = dict(model.named_parameters())
    found = torch.autograd.grad(cost(model(x), target), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


@pytest.mark.parametrize("options", [{"activation": "gelu"}, {"norm_first": True}, {"batch_first": False}], ids=str)
def test_the_engines_gradients_are_autograds(options: dict[str, Any]) -> None:
    model = encoder(**options)
    for each in (model, copy.deepcopy(model)):
        _, found = Backprop(each, functional.cross_entropy).gradients(*batch())
        torch.testing.assert_close(found, gradients(as_builtin(each), torch.nn.functional.cross_entropy))


def test_gradients_of_examples() -> None:
    model, (x, target) = encoder(), batch()
    found = per_example_gradients(model, functional.cross_entropy, x, target)
    for i in range(len(x)):
        _, single = Backprop(model, functional.cross_entropy).gradients(x[i : i + 1], target[i : i + 1])
        torch.testing.assert_close({name: each[i] for name, each in found.items()}, single)
    with pytest.raises(TypeError, match="mixes or reorders examples"):
        per_example_gradients(encoder(batch_first=False), functional.cross_entropy, x, target)


def test_every_layer_is_hand_written_and_can_be_replaced() -> None:
    model = nn.Transformer(4, 2, 1, 1, 6, batch_first=True)
    kinds = {type(m) for m in copy.deepcopy(model).modules() if not isinstance(m, torch.nn.ModuleList)}
    own = {kind for kind in kinds if not kind.__module__.startswith("torch.")}
    assert own == {getattr(nn, kind.__name__) for kind in own}
    assert {kind.__name__ for kind in kinds - own} == {"NonDynamicallyQuantizableLinear"}  # whose forward is not called
    assert all(type(m).__module__.startswith("torch.") for m in as_builtin(model).modules())


def test_modules_that_are_passed_stay() -> None:
    norm, activation = torch.nn.LayerNorm(4), torch.nn.GELU()
    layer = nn.TransformerEncoderLayer(4, 2, 6, activation=activation)
    assert (type(layer.activation), type(layer.norm1)) == (torch.nn.GELU, nn.LayerNorm)
    model = nn.TransformerEncoder(layer, 1, norm, enable_nested_tensor=False)
    assert model.norm is norm
    assert type(norm) is torch.nn.LayerNorm


@pytest.mark.parametrize(
    "activation",
    [torch.relu, torch.nn.functional.silu, torch.nn.Tanh(), functional.gelu, nn.Sigmoid()],
    ids=["torch", "torch.nn.functional", "torch.nn", "functional", "nn"],
)
def test_pytorchs_activations_are_replaced_at_the_call(activation: Any) -> None:
    model, (x, _) = nn.TransformerEncoderLayer(4, 2, 6, 0.0, activation, batch_first=True).double(), batch()
    cost, _ = Backprop(model, functional.mse_loss).gradients(x, x)
    torch.testing.assert_close(model(x), as_builtin(model)(x))
    assert cost > 0


def test_a_function_that_is_not_hand_written_is_named() -> None:
    model = nn.TransformerEncoderLayer(4, 2, 6, 0.0, torch.nn.Hardsigmoid().forward, batch_first=True).double()
    x, _ = batch()
    with pytest.raises(TypeError, match="hardsigmoid"):
        Backprop(model, functional.mse_loss).gradients(x, x)


@pytest.mark.parametrize("training", [True, False])
def test_dropout_draws_pytorchs_numbers(training: bool) -> None:
    model, (x, _) = nn.Transformer(4, 2, 1, 1, 6, 0.4, batch_first=True).double().train(training), batch()
    outputs = []
    for each in (model, as_builtin(model)):
        torch.manual_seed(3)
        outputs.append(each(x, x))
    torch.testing.assert_close(*outputs)


def test_evaluation_without_gradients_takes_no_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_transformer_encoder_layer_fwd", "_native_multi_head_attention", "_nested_tensor_from_mask"):
        monkeypatch.setattr(torch, name, None)
    model, (x, _) = encoder()[0].eval(), batch()
    padding = torch.tensor([[False, False, True]]).expand(5, 3)
    expected = model(x, src_key_padding_mask=padding)
    with torch.no_grad():
        torch.testing.assert_close(model(x, src_key_padding_mask=padding), expected)
        with pytest.raises(TypeError, match="NoneType"):
            as_builtin(model)(x)
