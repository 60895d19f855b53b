"""`check_gradients` and its report, as an engineer with a Function of their own meets them."""

import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import bp_torch.functional as F
from bp_torch.catalogue import Sample
from bp_torch.gradients import CannotCheck, GradientError, GradientReport, assert_gradients, check_gradients
from bp_torch.nn import mlp


class Square(torch.autograd.Function):
    """Old style: no setup_context, no jvp, no vmap rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad_output


class Halved(Square):
    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x * grad_output


class Once(Square):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * grad_output


class Numpy(Square):
    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return torch.from_numpy(2 * x.detach().numpy() * grad_output.detach().numpy())


class Raising(Square):
    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        raise ZeroDivisionError("no such luck")


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def statuses(report: GradientReport) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for result in report.results:
        found.setdefault(result.check, set()).add(result.status)
    return found


class TestWhatPasses:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("reference", [torch.nn.functional.gelu, None])
    def test_a_right_function_in_every_dtype(self, dtype: torch.dtype, reference: Callable[..., Tensor] | None) -> None:
        report = check_gradients(F.gelu, [(numbers(4, 3, dtype=dtype),)], reference=reference)
        assert report.passed, str(report)
        assert "not offered" not in set().union(*statuses(report).values())
        own = f"gradient in {str(dtype).removeprefix('torch.')}"
        assert (own in statuses(report)) == (dtype != torch.float64)

    def test_a_whole_network_with_its_parameters(self) -> None:
        report = check_gradients(mlp((5, 4, 3)), [(numbers(6, 5, dtype=torch.float32),)])
        assert report.passed, str(report)
        assert report.inputs == ("input", "self.0.weight", "self.0.bias", "self.2.weight", "self.2.bias")

    def test_a_sample_with_options_and_several_outputs(self) -> None:
        def parts(x: Tensor, *, at: int) -> tuple[Tensor, Tensor]:
            return x[:at].exp(), x[at:].sin()

        assert check_gradients(parts, [Sample((numbers(5),), {"at": 2})]).passed

    def test_what_a_function_does_not_offer_is_no_failure(self) -> None:
        report = check_gradients(Square, [(numbers(3),)], reference=torch.square)
        assert report.passed
        assert statuses(report)["forward mode"] == statuses(report)["vmap"] == {"not offered"}
        assert "not offered: NotImplementedError: You must implement the jvp function" in str(report)

    @pytest.mark.parametrize("function", [Once, Numpy])
    def test_neither_is_a_missing_second_derivative(self, function: type[torch.autograd.Function]) -> None:
        report = check_gradients(function, [(numbers(3),)])
        assert report.passed, str(report)
        assert statuses(report)["double backward"] == {"not offered"}

    def test_a_kink_without_a_reference_may_take_either_side(self) -> None:
        at_the_kink = [(torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64),)]
        for slope in (0.0, 0.3, 1.0):
            assert check_gradients(relu_with(slope), at_the_kink).passed
        report = check_gradients(relu_with(1.5), at_the_kink)
        assert "not between the slopes" in str(report)

    def test_a_reference_that_is_no_derivative_is_believed(self) -> None:
        """As of a layer that reverses gradients on purpose."""

        def reversed(x: Tensor) -> Tensor:
            return x.detach() * 2 - x

        report = check_gradients(reversed, [(numbers(3),)], reference=reversed)
        assert report.passed
        assert statuses(report)["finite differences"] == {"not offered"}
        assert not check_gradients(reversed, [(numbers(3),)]).passed

    def test_one_linear_sample_is_quick(self) -> None:
        sample = [(numbers(5, 4), numbers(3, 4), numbers(3))]
        check_gradients(F.linear, sample, reference=torch.nn.functional.linear)
        began = time.perf_counter()
        check_gradients(F.linear, sample, reference=torch.nn.functional.linear)
        assert time.perf_counter() - began < 5  # 0.1 s is usual; the benchmark measures it


def relu_with(slope: float) -> Callable[[Tensor], Tensor]:
    """A rectifier whose gradient at 0 is `slope`."""

    class ReLU(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return grad_output * torch.where(x == 0, slope, (x > 0).to(x.dtype))

    return ReLU.apply


class TestWhatFails:
    def test_the_report_says_where_by_how_much_and_why(self) -> None:
        report = check_gradients(Halved, [(numbers(4, 3),)], reference=torch.square)
        assert not report.passed
        worst = report.failures[0].comparison
        assert worst is not None
        for part in (
            "Halved(x), judged by square: FAILED",
            f"at {list(worst.index)}: hand-written {worst.value:.9g}, expected {2 * worst.value:.9g}",
            "4096 x rounding",
            "WRONG EQUATION",
            "hint: off by the constant factor 0.5",
            "median order 1.00",
        ):
            assert part in str(report)

    def test_without_a_reference_the_report_says_as_much(self) -> None:
        report = check_gradients(Halved, [(numbers(4, 3),)])
        assert "hint: off by the constant factor 0.5" in str(report)
        assert "WRONG EQUATION, not rounding" in "".join(result.message for result in report.failures)

    def test_an_exception_from_the_backward_is_a_failure_with_its_place(self) -> None:
        report = check_gradients(Raising, [(numbers(3),)], reference=torch.square)
        assert "raised ZeroDivisionError: no such luck, in backward (test_check.py, line" in str(report)

    def test_for_pytest(self) -> None:
        assert_gradients(Square, [(numbers(3),)], reference=torch.square)
        with pytest.raises(GradientError, match=r"Halved.*FAILED") as caught:
            assert_gradients(Halved, [(numbers(3),)], reference=torch.square)
        assert isinstance(caught.value, AssertionError)

    def test_as_json(self) -> None:
        for function, passed in ((Square, True), (Halved, False), (Raising, False)):
            report = check_gradients(function, [(numbers(3),)], reference=torch.square)
            read = json.loads(json.dumps(report.as_dict(), allow_nan=False))
            assert read["passed"] is passed
            assert len(read["results"]) == len(report.results)
            assert {"check", "status", "ratio", "comparison", "hint"} <= read["results"][0].keys()


class TestNothingIsTouched:
    def test_samples_numbers_and_warnings(self) -> None:
        x, weight = numbers(4, 3), torch.nn.Parameter(numbers(2, 3))
        before, state = x.clone(), torch.get_rng_state()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_gradients(F.linear, [(x, weight)], reference=torch.nn.functional.linear)
        assert torch.equal(x, before)
        assert weight.grad is None
        assert not x.requires_grad
        assert torch.equal(torch.get_rng_state(), state)
        assert not caught

    def test_a_seed_gives_the_same_report(self) -> None:
        first, again, other = (check_gradients(F.gelu, [(numbers(3),)], seed=seed) for seed in (0, 0, 1))
        assert first.as_dict() == again.as_dict() != other.as_dict()


def reference_of_another_shape(x: Tensor) -> Tensor:
    return x.sum()


class TestWhatCannotBeChecked:
    """Never a pass: an error in one line that says which."""

    @pytest.mark.parametrize(
        ("function", "samples", "reference", "says"),
        [
            (Square, [], None, "no samples"),
            (Square, torch.ones(3), None, "list of argument tuples, not Tensor"),
            (Square, [torch.ones(3)], None, "sample 0 must be a tuple of arguments, not Tensor"),
            (Square, [(torch.arange(3),)], None, "sample 0 has no input that needs a gradient"),
            (Square, [(torch.ones(3),), (2.0,)], None, "sample 1 has no input that needs a gradient"),
            (Square, [(torch.zeros(0),)], None, "every input is empty"),
            (lambda x: None, [(torch.ones(3),)], None, "sample 0: the function returns NoneType, not a Tensor"),
            (lambda x: x.long(), [(torch.ones(3),)], None, r"the function returns torch\.int64, not a Tensor"),
            (lambda x: x / 0, [(torch.ones(3),)], None, "the function returns inf, which has no finite differences"),
            (lambda x: x * torch.nan, [(torch.ones(3),)], torch.square, "returns nan, where the reference is finite"),
            (lambda x: x.no_such(), [(torch.ones(3),)], None, "the function raised AttributeError"),
            (Square, [(torch.ones(3), 2)], None, "the function raised TypeError"),
            (Square, [(torch.ones(3),)], torch.add, "the reference raised TypeError"),
            (Square, [(torch.ones(3),)], reference_of_another_shape, r"returns shape \(3,\), but the reference \(\)"),
            (lambda x: x.half(), [(numbers(3),)], torch.square, r"dtype torch\.float16, but the reference torch\."),
            (lambda x: x.half(), [(torch.ones(3),)], None, "does not take float64, and there is no reference"),
            (3, [(torch.ones(3),)], None, "int is not callable"),
            (torch.nn.Linear, [(torch.ones(3),)], None, "Linear is a class: give an instance"),
        ],
    )  # fmt: skip
    def test_it_is_an_error(self, function: Any, samples: Any, reference: Any, says: str) -> None:
        with pytest.raises(CannotCheck, match=says) as caught:
            check_gradients(function, samples, reference=reference)
        assert "\n" not in str(caught.value)

    def test_a_function_of_one_dtype_needs_a_reference(self) -> None:
        """As a kernel for bfloat16 has it: judged in its own dtype."""

        def kernel(x: Tensor) -> Tensor:
            if x.dtype != torch.bfloat16:
                raise RuntimeError("bfloat16 only")
            return F.gelu(x)

        x = [(numbers(4, 3, dtype=torch.bfloat16),)]
        report = check_gradients(kernel, x, reference=torch.nn.functional.gelu)
        assert report.passed, str(report)
        assert not check_gradients(lambda x: 1.1 * kernel(x), x, reference=torch.nn.functional.gelu).passed
        with pytest.raises(CannotCheck, match="no reference"):
            check_gradients(kernel, x)
