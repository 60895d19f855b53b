"""Modules are drop-in for torch.nn's: constructor, repr, state_dict, value and gradient."""

import importlib
import inspect
import pkgutil
import warnings
from dataclasses import replace

import pytest
import torch
from modes import differentiate, named
from module_samples import ModuleSample, samples
from sample_call import Results

import bp_torch.nn
from bp_torch import functional
from bp_torch.functional.function import Function
from bp_torch.nn import as_builtin, mlp

NOT_IN_TORCH = {"SquaredError"}
MODULES = [
    name
    for name, value in vars(bp_torch.nn).items()
    if inspect.isclass(value) and issubclass(value, torch.nn.Module) and name not in NOT_IN_TORCH
]


def test_the_list_has_every_class_of_every_file() -> None:
    files = [importlib.import_module(f"bp_torch.nn.{file.name}") for file in pkgutil.iter_modules(bp_torch.nn.__path__)]
    classes = [value for file in files for value in vars(file).values() if inspect.isclass(value)]
    defined = {
        c.__name__ for c in classes if issubclass(c, torch.nn.Module) and c.__module__.startswith("bp_torch.nn.")
    }
    assert {"Linear", "SquaredError"} <= defined
    assert defined == {*MODULES, *NOT_IN_TORCH}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_drop_in(name: str, training: bool) -> None:
    hand_class, builtin_class = getattr(bp_torch.nn, name), getattr(torch.nn, name)
    assert inspect.signature(hand_class) == inspect.signature(builtin_class)
    for sample in samples(name, training)[-8:]:
        other, builtin, hand = (
            sample.build(kind, training, seed) for seed, kind in enumerate((hand_class, builtin_class, hand_class))
        )
        assert repr(hand) == repr(builtin)
        builtin.load_state_dict(other.state_dict())
        hand.load_state_dict(builtin.state_dict())
        torch.testing.assert_close(hand.state_dict(), other.state_dict(), rtol=0, atol=0)
        for step in ("first", "second"):  # running statistics change with each step
            results = [one_step(module, sample) for module in (hand, builtin)]
            where = f"{step} step of {sample}"
            torch.testing.assert_close(*results, equal_nan=True, msg=lambda text, where=where: f"{where}: {text}")


def one_step(module: torch.nn.Module, sample: ModuleSample) -> Results:
    """Value, gradients of inputs and of parameters, and the buffers after the step."""
    call = sample.call(module)
    inputs = call.inputs()
    with warnings.catch_warnings(action="ignore"):
        results = differentiate(call, [*inputs, *module.parameters()], lambda _: call.run(inputs))
    return results | named("buffer", (buffer.clone() for buffer in module.buffers()))


@pytest.mark.parametrize(
    "name", [name for name in MODULES if "inplace" in inspect.signature(getattr(torch.nn, name)).parameters]
)
def test_inplace_writes_into_the_input(name: str) -> None:
    sample = samples(name, training=True)[-1]
    in_place = replace(sample, options={**sample.options, "inplace": True})
    results = []
    for package in (bp_torch.nn, torch.nn):
        module = in_place.build(getattr(package, name), training=True)
        x = sample.inputs[0].detach().requires_grad_()
        y = x * 1
        torch.manual_seed(0)
        output = module(y)
        (output * y).sum().backward()
        results.append((output is y, output.detach(), x.grad))
    torch.testing.assert_close(*results)


def test_softmax_without_dim_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="dim") as caught:
        output = bp_torch.nn.Softmax()(torch.randn(2, 3))
    assert caught[0].filename == torch.nn.modules.module.__file__ or caught[0].filename == __file__
    torch.testing.assert_close(output.sum(1), torch.ones(2))


@pytest.mark.filterwarnings("ignore:.*'mean' divides")
@pytest.mark.parametrize("name", MODULES)
def test_every_forward_is_hand_written(name: str) -> None:
    """A module that inherited torch.nn's forward would pass every comparison."""
    functions: set[type] = set()
    for sample in samples(name, training=True):
        module = sample.build(getattr(bp_torch.nn, name), training=True)
        if not getattr(module, "inplace", False):  # in place, the result is copied into the input
            call = sample.call(module)
            functions |= {function for output in call.run(call.inputs())[0] for function in functions_of(output)}
    assert functions
    assert all(issubclass(function, Function) for function in functions), functions


def functions_of(output: torch.Tensor) -> set[type]:
    """The Functions in the graph of a Tensor, and the types of PyTorch's own nodes."""
    pending, seen = [output.grad_fn], set()
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [parent for parent, _ in node.next_functions]
    types = {type(node) for node in seen}
    return {getattr(kind, "_forward_cls", kind) for kind in types if kind.__name__ != "AccumulateGrad"}


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
