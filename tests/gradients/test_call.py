"""What a call is differentiated by, and that nothing of its caller's is touched."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bp_torch.catalogue import Sample
from bp_torch.gradients.call import Call, CannotCheck, as_calls, as_tensor, callable_of, copied
from bp_torch.gradients.variants import expanded, strided


def only(function: Any, *args: Any) -> Call:
    (call,) = as_calls(function, [args])
    return call


def multiplied(x: Tensor, y: Tensor, times: int = 1) -> Tensor:
    return times * x * y


class TestWhatIsChecked:
    def test_every_floating_point_tensor(self) -> None:
        call = only(multiplied, torch.ones(3), torch.ones(3), 2)
        assert call.names == {0: "x", 1: "y"}

    def test_those_that_require_a_gradient_if_any_does(self) -> None:
        call = only(multiplied, torch.ones(3), torch.ones(3, requires_grad=True))
        assert call.names == {1: "y"}

    def test_the_parameters_of_a_module(self) -> None:
        call = only(torch.nn.Linear(4, 3), torch.ones(2, 4))
        assert list(call.names.values()) == ["input", "self.weight", "self.bias"]
        assert call.parameters == ("weight", "bias")

    def test_a_function_class_is_applied(self) -> None:
        class Double(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, numbers: Tensor) -> Tensor:
                return 2 * numbers

        call = only(Double, torch.ones(3))
        assert call.names == {0: "numbers"}
        assert torch.equal(call.value(), 2 * torch.ones(3))

    def test_options_of_a_sample_are_held_fixed(self) -> None:
        (call,) = as_calls(multiplied, [Sample((torch.ones(3), torch.ones(3)), {"times": 3})])
        assert torch.equal(call.value(), 3 * torch.ones(3))

    def test_a_builtin_without_a_signature_has_numbered_arguments(self) -> None:
        assert only(torch.nn.functional.linear, torch.ones(2, 4), torch.ones(3, 4)).names[1] == "argument 1"


class TestModules:
    def test_it_computes_with_the_parameters_it_is_given_and_stays_as_it_is(self) -> None:
        module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        call = only(module, torch.randn(5, 4))
        moved = call.at([torch.zeros_like(x) for x in call.inputs])
        assert not moved.value().any()
        call.to(torch.float64).pull(torch.ones(5, 3, dtype=torch.float64))
        assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())

    def test_a_plain_reference_takes_the_parameters_as_arguments(self) -> None:
        call = only(torch.nn.Linear(4, 3), torch.randn(5, 4))
        reference = callable_of(torch.nn.functional.linear, call.parameters, "it")
        torch.testing.assert_close(call.of(reference).value(), call.value())

    def test_a_reference_module_of_the_same_parameters_shares_them(self) -> None:
        call = only(torch.nn.Linear(4, 3), torch.randn(5, 4))
        reference = callable_of(torch.nn.Linear(4, 3), call.parameters, "it")
        torch.testing.assert_close(call.of(reference).value(), call.value())

    def test_a_reference_module_beside_a_plain_function_keeps_its_own(self) -> None:
        module = torch.nn.Linear(4, 3)
        call = only(
            lambda x: torch.nn.functional.linear(x, module.weight.double(), module.bias.double()), torch.ones(2, 4)
        )
        wide = call.to(torch.float64)
        torch.testing.assert_close(wide.of(callable_of(module, (), "it")).value(), wide.value())


class TestCopiesOfTensors:
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
    def test_they_keep_numbers_and_strides(self, tensor: Tensor) -> None:
        copy = copied(tensor)
        assert torch.equal(copy, tensor)
        assert copy.stride() == tensor.stride()
        assert copy.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr() or not tensor.numel()

    def test_a_function_that_writes_into_its_arguments_spoils_nothing(self) -> None:
        x, counts = torch.ones(3), torch.arange(3)

        def spoiling(x: Tensor, counts: Tensor) -> Tensor:
            counts.zero_()
            return x.detach().zero_() + x

        call = only(spoiling, x, counts)
        call.value()
        call.run()
        for tensor, expected in (
            (x, [1, 1, 1]),
            (counts, [0, 1, 2]),
            *zip(call.args, ([1, 1, 1], [0, 1, 2]), strict=True),
        ):
            assert tensor.tolist() == expected


class TestOutputs:
    def test_a_tuple_counts_as_one_long_vector(self) -> None:
        output = as_tensor((torch.ones(2, 2), torch.arange(3), torch.zeros(3)))
        assert output.tolist() == [1, 1, 1, 1, 0, 0, 0]

    @pytest.mark.parametrize("output", [None, 3.0, "text", torch.arange(3), (), torch.ones(2, dtype=torch.complex64)])
    def test_what_is_no_tensor_of_real_numbers(self, output: object) -> None:
        with pytest.raises(CannotCheck, match="not a dense Tensor of real floating-point numbers"):
            as_tensor(output)

    def test_no_gradient_is_zeros(self) -> None:
        call = only(lambda x, y: x.detach() * 1, torch.ones(2), torch.ones(3))
        assert {name: g.tolist() for name, g in call.pull(torch.ones(2)).items()} == {"x": [0, 0], "y": [0, 0, 0]}
