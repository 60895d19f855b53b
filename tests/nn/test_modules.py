"""Modules are drop-in for torch.nn's: constructor, repr, state_dict, value and gradient."""

import inspect

import pytest
import torch

import bp_torch.nn
from bp_torch import functional
from bp_torch.nn import as_builtin, mlp

NOT_IN_TORCH = {"SquaredError"}
MODULES = [
    name
    for name, value in vars(bp_torch.nn).items()
    if inspect.isclass(value) and issubclass(value, torch.nn.Module) and name not in NOT_IN_TORCH
]

CASES = {
    "Linear": ({"in_features": 3, "out_features": 2, "bias": False}, None),
    "LeakyReLU": ({"negative_slope": 0.3}, None),
    "ELU": ({"alpha": 0.5}, None),
    "Softplus": ({"beta": 2, "threshold": 5}, None),
    "GELU": ({"approximate": "tanh"}, None),
    "Softmax": ({"dim": 1}, None),
    "LogSoftmax": ({"dim": 0}, None),
    "Unflatten": ({"dim": 1, "unflattened_size": (3, 1)}, None),
    "MSELoss": ({"reduction": "sum"}, torch.randn(4, 3)),
    "L1Loss": ({"reduction": "none"}, torch.randn(4, 3)),
    "SmoothL1Loss": ({"beta": 0.3}, torch.randn(4, 3)),
    "BCEWithLogitsLoss": ({"weight": torch.rand(3), "pos_weight": torch.rand(3)}, torch.rand(4, 3)),
    "NLLLoss": ({"weight": torch.rand(3), "ignore_index": 1}, torch.tensor([0, 1, 2, 2])),
    "CrossEntropyLoss": ({"weight": torch.rand(3), "label_smoothing": 0.1}, torch.tensor([0, 1, 2, 2])),
    "MaxPool1d": ({"kernel_size": 3, "stride": 2, "padding": 1, "dilation": 2, "ceil_mode": True}, None),
    "MaxPool2d": ({"kernel_size": (3, 2), "stride": 2, "padding": 1, "ceil_mode": True}, None),
    "MaxPool3d": ({"kernel_size": 2, "stride": 1}, None),
    "AvgPool1d": ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True, "count_include_pad": False}, None),
    "AvgPool2d": ({"kernel_size": (3, 2), "padding": 1, "divisor_override": 4}, None),
    "AvgPool3d": ({"kernel_size": 2, "stride": 1, "divisor_override": 3}, None),
    **{f"LPPool{n}d": ({"norm_type": 2, "kernel_size": 3, "stride": 2, "ceil_mode": True}, None) for n in (1, 2, 3)},
    **{f"Adaptive{kind}Pool{n}d": ({"output_size": 3}, None) for kind in ("Avg", "Max") for n in (1, 2, 3)},
    **{f"ConstantPad{n}d": ({"padding": 2, "value": 0.5}, None) for n in (1, 2, 3)},
    **{
        f"{kind}Pad{n}d": ({"padding": (1, 2, 3, 1, 0, 2)[: 2 * n]}, None)
        for kind in ("Zero", "Reflection", "Replication", "Circular")
        for n in (1, 2, 3)
    },
    "Unfold": ({"kernel_size": (2, 3), "dilation": (1, 2), "padding": 1, "stride": 2}, None),
    "Fold": ({"output_size": (3, 4), "kernel_size": 2}, None),
    "Upsample": ({"scale_factor": (1.7, 2.0), "mode": "bilinear", "align_corners": True}, None),
    "UpsamplingNearest2d": ({"scale_factor": 2}, None),
    "UpsamplingBilinear2d": ({"size": (7, 3)}, None),
    "PixelShuffle": ({"upscale_factor": 2}, None),
    "PixelUnshuffle": ({"downscale_factor": 2}, None),
}
IMAGES = (2, 4, 6, 4)
SHAPES = {"1d": (2, 4, 7), "2d": IMAGES, "3d": (1, 2, 4, 5, 4)}
"""Of the input, by the end of the module's name; (4, 3) for all others."""
SHAPES |= dict.fromkeys(("Unfold", "Upsample", "PixelShuffle", "PixelUnshuffle"), IMAGES) | {"Fold": (2, 8, 6)}


def test_the_list_is_not_empty() -> None:
    assert len(MODULES) == 56


@pytest.mark.parametrize("name", MODULES)
def test_drop_in(name: str) -> None:
    hand_class, builtin_class = getattr(bp_torch.nn, name), getattr(torch.nn, name)
    assert inspect.signature(hand_class) == inspect.signature(builtin_class)
    options, target = CASES.get(name, ({}, None))
    hand, builtin = hand_class(**options), builtin_class(**options)
    builtin.load_state_dict(hand.state_dict())
    hand.load_state_dict(builtin.state_dict())
    assert repr(hand) == repr(builtin)
    input = torch.randn(SHAPES.get(name) or SHAPES.get(name[-2:], (4, 3)))
    results = []
    for module in (hand, builtin):
        x = input.clone().requires_grad_()
        output = module(x) if target is None else module(x, target)
        output.backward(torch.full_like(output, 1.7))
        assert x.grad is not None
        results.append((output.detach(), x.grad, [p.grad for p in module.parameters()]))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("name", ["ReLU", "LeakyReLU", "ELU", "SiLU"])
def test_inplace_writes_into_the_input(name: str) -> None:
    hand_class, builtin_class = getattr(bp_torch.nn, name), getattr(torch.nn, name)
    gradients = []
    for module in (hand_class(inplace=True), builtin_class(inplace=True)):
        x = torch.linspace(-2, 2, 6).requires_grad_()
        y = x * 1
        assert module(y) is y
        (y * y).sum().backward()
        assert x.grad is not None
        gradients.append(x.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_softmax_without_dim_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="dim") as caught:
        output = bp_torch.nn.Softmax()(torch.randn(2, 3))
    assert caught[0].filename == torch.nn.modules.module.__file__ or caught[0].filename == __file__
    torch.testing.assert_close(output.sum(1), torch.ones(2))


def test_every_forward_is_hand_written() -> None:
    """A module that inherited torch.nn's forward would pass every comparison."""
    for name in MODULES:
        assert getattr(bp_torch.nn, name).forward is not getattr(torch.nn, name).forward
    output = mlp((4, 3, 2))(torch.randn(5, 4))
    names = set()
    pending = [output.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None:
            names.add(type(node).__name__)
            pending += [parent for parent, _ in node.next_functions]
    assert names == {"LinearBackward", "SigmoidBackward", "AccumulateGrad"}


class TestMlp:
    def test_the_lectures_network_has_13002_parameters(self) -> None:
        model = mlp((784, 16, 16, 10))
        assert sum(p.numel() for p in model.parameters()) == 13_002
        assert [type(layer).__name__ for layer in model] == ["Linear", "Sigmoid"] * 3

    def test_other_activations_end_in_logits(self) -> None:
        assert [type(layer).__name__ for layer in mlp((4, 3, 2), "relu")] == ["Linear", "ReLU", "Linear", "Identity"]
        chosen = mlp((4, 3, 2), "relu", output_activation="sigmoid")
        assert type(chosen[-1]).__name__ == "Sigmoid"

    def test_modules_are_named_by_layer(self) -> None:
        names = [name for name, _ in mlp((5, 4, 3, 2), "leaky_relu").named_children()]
        assert names == [
            "hidden1", "hidden1_leaky_relu", "hidden2", "hidden2_leaky_relu", "output", "output_identity"
        ]  # fmt: skip
        assert list(mlp((3, 2)).state_dict()) == ["output.weight", "output.bias"]

    @pytest.mark.parametrize(
        ("sizes", "activation", "message"),
        [((784,), "sigmoid", "two or more"), ((3, 0, 2), "relu", "positive"), ((3, 2), "step", "'step'")],
    )
    def test_invalid_arguments_are_rejected(self, sizes: tuple[int, ...], activation: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            mlp(sizes, activation)


class TestAsBuiltin:
    def test_same_parameters_with_other_layers(self) -> None:
        model = torch.nn.Sequential(mlp((4, 3, 2)), bp_torch.nn.Softmax(1))
        twin = as_builtin(model)
        assert [type(m) for m in twin.modules()] == [getattr(torch.nn, type(m).__name__) for m in model.modules()]
        assert all(a is b for a, b in zip(model.parameters(), twin.parameters(), strict=True))
        assert type(model[0][0]) is bp_torch.nn.Linear
        x = torch.randn(5, 4)
        torch.testing.assert_close(twin(x), model(x))

    def test_the_state_dict_of_an_mlp_fits_its_builtin_chain(self) -> None:
        model, other = mlp((4, 3, 2)), as_builtin(mlp((4, 3, 2)))
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other.state_dict(), model.state_dict())

    def test_no_hand_written_function_is_left(self) -> None:
        output = as_builtin(mlp((4, 3, 2)))(torch.randn(5, 4))
        assert type(output.grad_fn).__name__ == "SigmoidBackward0"

    def test_a_layer_without_a_counterpart_is_rejected(self) -> None:
        """A layer left hand-written would be compared with itself."""

        class Custom(bp_torch.nn.Linear):
            pass

        for module in (Custom(2, 2), bp_torch.nn.SquaredError()):
            with pytest.raises(TypeError, match="no counterpart"):
                as_builtin(torch.nn.Sequential(module))

    def test_a_module_that_calls_a_custom_function_is_rejected(self) -> None:
        class Doubled(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return functional.sigmoid(x)

        with pytest.raises(TypeError, match=r"Doubled\.forward calls a custom Function"):
            as_builtin(torch.nn.Sequential(Doubled()))
