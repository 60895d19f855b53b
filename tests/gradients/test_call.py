"""A call: its differentiable inputs, its copies, its outputs."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch.gradients.call import Call, CannotCheck, as_callable, as_calls, as_tensor, clone_with_layout
from bp_torch.gradients.variants import expanded, strided
from bp_torch.sample import Sample


def only_call(function: Any, *args: Any) -> Call:
    (call,) = as_calls(function, [args])
    return call


def multiplied(x: Tensor, y: Tensor, times: int = 1) -> Tensor:
    return times * x * y


class TestInputs:
    def test_every_floating_point_tensor_is_an_input(self) -> None:
        call = only_call(multiplied, torch.ones(3), torch.ones(3), 2)
        assert call.names == {0: "x", 1: "y"}

    def test_only_tensors_that_require_a_gradient_if_any_does(self) -> None:
        call = only_call(multiplied, torch.ones(3), torch.ones(3, requires_grad=True))
        assert call.names == {1: "y"}

    def test_parameters_of_a_module_are_inputs(self) -> None:
        call = only_call(torch.nn.Linear(4, 3), torch.ones(2, 4))
        assert list(call.names.values()) == ["input", "self.weight", "self.bias"]
        assert call.parameters == ("weight", "bias")

    def test_a_function_class_is_applied(self) -> None:
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, numbers: Tensor) -> Tensor:
                return 2 * numbers

        call = only_call(Double, torch.ones(3))
        assert call.names == {0: "numbers"}
        assert torch.equal(call.value(), 2 * torch.ones(3))

    def test_options_of_a_sample_are_held_fixed(self) -> None:
        (call,) = as_calls(multiplied, [Sample((torch.ones(3), torch.ones(3)), {"times": 3})])
        assert torch.equal(call.value(), 3 * torch.ones(3))

    def test_a_builtin_without_a_signature_has_numbered_arguments(self) -> None:
        assert only_call(torch.nn.functional.linear, torch.ones(2, 4), torch.ones(3, 4)).names[1] == "argument 1"


class TestModules:
    def test_a_module_uses_the_parameters_of_the_call_and_is_not_modified(self) -> None:
        module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        call = only_call(module, torch.randn(5, 4))
        zeros = call.at([torch.zeros_like(x) for x in call.inputs])
        assert not zeros.value().any()
        call.to(torch.float64).vjp(torch.ones(5, 3, dtype=torch.float64))
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())

    def test_a_plain_reference_takes_the_parameters_as_arguments(self) -> None:
        call = only_call(torch.nn.Linear(4, 3), torch.randn(5, 4))
        reference = as_callable(torch.nn.functional.linear, call.parameters, "it")
        torch.testing.assert_close(call.of(reference).value(), call.value())

    def test_a_reference_module_uses_the_same_parameters(self) -> None:
        call = only_call(torch.nn.Linear(4, 3), torch.randn(5, 4))
        reference = as_callable(torch.nn.Linear(4, 3), call.parameters, "it")
        torch.testing.assert_close(call.of(reference).value(), call.value())

    def test_a_reference_module_of_a_plain_function_uses_its_own_parameters(self) -> None:
        module = torch.nn.Linear(4, 3)
        call = only_call(
            lambda x: torch.nn.functional.linear(x, module.weight.double(), module.bias.double()), torch.ones(2, 4)
        )
        wide = call.to(torch.float64)
        torch.testing.assert_close(wide.of(as_callable(module, (), "it")).value(), wide.value())


class TestCloneWithLayout:
    @pytest.mark.parametrize(
        "tensor",
        [
            torch.randn(4, 3),
            torch.randn(4, 3).t(),
            expanded(torch.randn(4, 3)),
            strided(torch.randn(4, 3)),
            torch.randn(6)[::2],
            torch.zeros(0, 3),
            torch.tensor(1.0),
        ],
        ids=["plain", "transposed", "expanded", "gaps", "every other", "empty", "scalar"],
    )
    def test_values_and_strides_are_kept(self, tensor: Tensor) -> None:
        copy = clone_with_layout(tensor)
        assert torch.equal(copy, tensor)
        assert copy.stride() == tensor.stride()
        assert copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr() or not tensor.numel()

    def test_a_function_that_modifies_its_arguments_modifies_only_copies(self) -> None:
        x, counts = torch.ones(3), torch.arange(3)

        def modifying(x: Tensor, counts: Tensor) -> Tensor:
            counts.zero_()
            return x.detach().zero_() + x

        call = only_call(modifying, x, counts)
        call.value()
        call.run()
        for tensor, expected in (
            (x, [1, 1, 1]),
            (counts, [0, 1, 2]),
            *zip(call.args, ([1, 1, 1], [0, 1, 2]), strict=True),
        ):
            assert tensor.tolist() == expected


class TestOutputs:
    def test_a_tuple_is_concatenated(self) -> None:
        output = as_tensor((torch.ones(2, 2), torch.arange(3), torch.zeros(3)))
        assert output.tolist() == [1, 1, 1, 1, 0, 0, 0]

    def test_complex_numbers_become_pairs(self) -> None:
        assert as_tensor(torch.tensor([1 + 2j, 3j])).tolist() == [[1, 2], [0, 3]]

    @pytest.mark.parametrize("output", [None, 3.0, "text", torch.arange(3), (), torch.eye(2).to_sparse()])
    def test_an_output_without_a_floating_point_tensor_is_an_error(self, output: object) -> None:
        with pytest.raises(CannotCheck, match="not a dense Tensor of floating-point numbers"):
            as_tensor(output)

    def test_a_missing_gradient_is_zeros(self) -> None:
        call = only_call(lambda x, y: x.detach() * 1, torch.ones(2), torch.ones(3))
        assert {name: g.tolist() for name, g in call.vjp(torch.ones(2)).items()} == {"x": [0, 0], "y": [0, 0, 0]}
