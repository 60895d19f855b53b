"""`check_gradients` and its report, for functions of a user."""

import json
import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from gradients.checking import failed, numbers, relu_with, statuses
from planted.custom import Detached, InNumpy, OldStyle, OnceDifferentiable, WithoutVmap
from torch import Tensor

import bp_torch.functional as F
from bp_torch.gradients import CannotCheck, GradientError, assert_gradients, check_gradients
from bp_torch.nn import mlp
from bp_torch.sample import Sample


class Halved(Detached):
    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return x * grad_output


class Raising(Detached):
    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        return grad_output / (len(grad_output) // 0)


class TestPassed:
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("reference", [torch.nn.functional.gelu, None])
    def test_a_correct_function_in_every_dtype(
        self, dtype: torch.dtype, reference: Callable[..., Tensor] | None
    ) -> None:
        report = check_gradients(F.gelu, [(numbers(4, 3, dtype=dtype),)], reference=reference)
        assert report.passed, str(report)
        assert "unsupported" not in set().union(*statuses(report).values())
        own = f"gradient in {str(dtype).removeprefix('torch.')}"
        assert (own in statuses(report)) == (dtype != torch.float64)

    def test_a_network_with_its_parameters(self) -> None:
        report = check_gradients(mlp((5, 4, 3)), [(numbers(6, 5, dtype=torch.float32),)])
        assert report.passed, str(report)
        assert report.inputs == (
            "input",
            "self.hidden1.weight",
            "self.hidden1.bias",
            "self.output.weight",
            "self.output.bias",
        )

    def test_a_sample_with_options_and_several_outputs(self) -> None:
        def parts(x: Tensor, *, at: int) -> tuple[Tensor, Tensor]:
            return x[:at].exp(), x[at:].sin()

        assert check_gradients(parts, [Sample((numbers(5),), {"at": 2})]).passed

    def test_a_module_with_nested_outputs(self) -> None:
        report = check_gradients(torch.nn.LSTM(2, 3), [(numbers(2, 1, 2, dtype=torch.float32),)])
        assert report.passed, str(report)
        assert [result.variant for result in report.results if result.check == "unused outputs"].count(
            "as given, output 2 alone"
        ) == len(report.inputs)

    @pytest.mark.parametrize(
        ("make", "shape"),
        [
            (lambda: [torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)], (5, 4)),
            (lambda: [torch.nn.Conv2d(2, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.ReLU()], (2, 2, 4, 4)),
        ],
        ids=["a bias before a normalisation", "many kinks at once"],
    )
    def test_layers_with_a_normalisation(
        self, make: Callable[[], list[torch.nn.Module]], shape: tuple[int, ...]
    ) -> None:
        torch.manual_seed(0)
        network = torch.nn.Sequential(*make())
        for seed in range(2):
            report = check_gradients(network, [(numbers(*shape, dtype=torch.float32),)], seed=seed)
            assert report.passed, str(report)

    @pytest.mark.parametrize(
        "statistic", [lambda x: x.median(1).values, lambda x: x.kthvalue(2, 1).values, lambda x: x.quantile(0.5, 1)]
    )
    def test_order_statistics(self, statistic: Callable[[Tensor], Tensor]) -> None:
        """The order of equal values is undefined."""
        report = check_gradients(statistic, [(numbers(4, 5),)])
        assert report.passed, str(report)

    def test_parameters_of_a_module_and_its_reference_match_by_name(self) -> None:
        class Affine(torch.nn.Module):
            def __init__(self, *names: str) -> None:
                super().__init__()
                for name in names:
                    self.register_parameter(name, torch.nn.Parameter(torch.ones(3)))

            def forward(self, x: Tensor) -> Tensor:
                return self.scale * x + self.shift

        report = check_gradients(Affine("scale", "shift"), [(numbers(4, 3),)], reference=Affine("shift", "scale"))
        assert report.passed, str(report)

    def test_unsupported_transforms_are_not_failures(self) -> None:
        report = check_gradients(OldStyle, [(numbers(3),)], reference=torch.exp)
        assert report.passed
        assert statuses(report)["forward mode"] == statuses(report)["vmap"] == {"unsupported"}
        assert "unsupported: forward mode, vmap" in report.verdict
        assert "raised NotImplementedError: You must implement the jvp ..." in str(report)

    @pytest.mark.parametrize("function", [OnceDifferentiable, InNumpy, Detached])
    def test_a_missing_second_derivative_is_unsupported(self, function: type[torch.autograd.Function]) -> None:
        report = check_gradients(function, [(numbers(3),)])
        assert report.passed, str(report)
        assert statuses(report)["double backward"] == {"unsupported"}

    @pytest.mark.parametrize(
        ("function", "args"),
        [
            (lambda x, mask: x.masked_fill(mask, 0.0), (numbers(4), torch.tensor([True, False, True, False]))),
            (torch.linalg.inv, (numbers(3, 3) + 4 * torch.eye(3),)),
            (torch.acosh, (1.1 + numbers(4).abs(),)),
            (torch.relu, (torch.zeros(3, dtype=torch.float64),)),
        ],
        ids=["a mask", "a singular variant", "a domain with an end", "zeros"],
    )
    def test_awkward_arguments(self, function: Callable[..., Tensor], args: tuple[Tensor, ...]) -> None:
        for reference in (function, None):
            report = check_gradients(function, [args], reference=reference)
            assert report.passed, str(report)

    def test_a_rejected_size_is_unsupported(self) -> None:
        def of_fours(x: Tensor) -> Tensor:
            if len(x) % 4:
                raise ValueError("only whole blocks")
            return x.sin()

        for reference in (torch.sin, None):
            report = check_gradients(of_fours, [(numbers(4, 3),)], reference=reference)
            assert report.passed, str(report)
            unsupported = [
                result for result in report.results if result.status == "unsupported" and result.kind == "size"
            ]
            assert {"raised ValueError: only whole blocks"} == {result.message for result in unsupported}
            assert {result.check for result in unsupported} == {"gradient"}

    def test_a_sample_at_the_edge_of_the_domain(self) -> None:
        """With targets of 0 and 1, PyTorch raises an error after any step."""
        input, target = torch.tensor([[0.2, 0.9], [0.0, 1.0]], dtype=torch.float64)
        with pytest.raises(CannotCheck, match=r"input 'target': the values determine no slope: .* inside the domain\?"):
            check_gradients(torch.nn.functional.binary_cross_entropy, [(input, target)])
        report = check_gradients(torch.nn.functional.binary_cross_entropy, [(input.requires_grad_(), target)])
        assert report.passed, str(report)

    def test_gradients_that_cancel_are_noise(self) -> None:
        """The gradient of a normalisation of two values is 0."""

        def normalised(x: Tensor) -> Tensor:
            x = x - x.mean(-1, keepdim=True)
            return x / (x.square().mean(-1, keepdim=True) + 1e-12).sqrt()

        for reference in (normalised, None):
            failures = check_gradients(normalised, [(numbers(4, 2),)], reference=reference).failures
            assert not {result.check for result in failures} & {"gradient", "linearity", "forward mode", "vmap"}

    def test_rounding_errors_of_a_bias_gradient(self) -> None:
        """They depend on the upstream gradient only, not on the inputs."""

        class Added(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor, bias: Tensor) -> Tensor:
                return x + bias

            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
                large = 10 * grad_output.abs().amax()
                return grad_output, (grad_output + large).sum(0) - large * len(grad_output)

        report = check_gradients(Added, [(numbers(512, 1), numbers(1))])
        assert report.passed, str(report)

    def test_a_kink_without_a_reference_may_take_either_side(self) -> None:
        at_the_kink = [(torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64),)]
        for slope in (0.0, 0.3, 1.0):
            assert check_gradients(relu_with(slope), at_the_kink).passed
        report = check_gradients(relu_with(1.5), at_the_kink)
        assert "not between the slopes" in str(report)

    def test_a_failure_of_the_reference_does_not_count(self) -> None:
        class Stale(Detached):
            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                (x,) = ctx.saved_tensors
                return 2 * x.data * grad_output * (1 if x.is_contiguous() else 3)

        report = check_gradients(Stale, [(numbers(4, 3),)], reference=Stale.apply)
        assert report.passed
        unsupported = [result for result in report.results if result.status == "unsupported"]
        assert {("layouts", "the reference fails this too")} <= {
            (result.check, result.message) for result in unsupported
        }
        assert not check_gradients(Stale, [(numbers(4, 3),)], reference=torch.square).passed

    def test_a_reference_that_is_correct_for_symmetric_matrices_only(self) -> None:
        """Finite differences use asymmetric matrices, for which PyTorch's gradient of cholesky is wrong."""
        symmetric = torch.tensor([[4.0, 1.0, 0.5], [1.0, 3.0, 0.2], [0.5, 0.2, 2.0]], dtype=torch.float64)
        report = check_gradients(torch.linalg.cholesky, [(symmetric,)], reference=torch.linalg.cholesky)
        assert report.passed, str(report)

    def test_a_reference_that_is_not_a_derivative(self) -> None:
        """A layer that reverses gradients on purpose."""

        def reversed(x: Tensor) -> Tensor:
            return x.detach() * 2 - x

        report = check_gradients(reversed, [(numbers(3),)], reference=reversed)
        assert report.passed
        assert statuses(report)["finite differences"] == {"unsupported"}
        assert not check_gradients(reversed, [(numbers(3),)]).passed


def _sum(upstream: Tensor | None, slope: Tensor) -> Tensor | int:
    return 0 if upstream is None else upstream * slope


@pytest.mark.parametrize("refuses", [False, True])
def test_an_error_by_accident_is_no_refusal(refuses: bool) -> None:
    """A backward without what it needs for a frozen weight: an error by accident, or a refusal."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
            ctx.save_for_backward(x if w.requires_grad else None, w)
            return x * w

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            x, w = ctx.saved_tensors
            if refuses and x is None:
                raise RuntimeError("w must require a gradient")
            return grad_output * w, grad_output * x

    report = check_gradients(Product, [(numbers(3), numbers(3))], checks=("gradient", "subsets of inputs"))
    assert failed(report).keys() == (set() if refuses else {"subsets of inputs"})
    assert not refuses or "unsupported: subsets of inputs as given, only x requires grad" in str(report)


def test_a_repeated_index_is_asked_of_a_reference() -> None:
    class Scatter(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, w: Tensor, index: Tensor) -> Tensor:
            ctx.save_for_backward(index)
            ctx.shape = w.shape
            return w[index]

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            gradient = grad_output.new_zeros(ctx.shape)
            gradient[ctx.saved_tensors[0]] = grad_output
            return gradient, None

    sample = (numbers(4, 2), torch.tensor([2, 0, 3, 1]))
    report = check_gradients(Scatter, [sample], reference=lambda w, index: w[index])
    assert "with a repeated index" in failed(report)["gradient"]
    assert "with a repeated index: only a reference says" in str(check_gradients(Scatter, [sample]))


def test_one_failure_does_not_leave_out_the_checks_of_other_samples() -> None:
    report = check_gradients(Halved, [(numbers(3),), (numbers(2),)], reference=torch.exp)
    assert not [result for result in report.results if result.status == "left out"]


def test_variants_are_checked_although_a_second_derivative_is_wrong() -> None:
    class Tanh(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            e = torch.exp(2 * x)
            ctx.save_for_backward(e)
            return torch.tanh(x)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            (e,) = ctx.saved_tensors
            return grad_output * (1 - ((e - 1) / (e + 1)).square())

    report = check_gradients(Tanh, [(numbers(3, 4),)])
    assert report.grade == "wrong"
    assert failed(report)["gradient"] == {"scaled by 1000"}


def test_a_refusal_at_the_sample() -> None:
    class Refusing(Detached):
        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            raise RuntimeError("call the other layer")

    with pytest.raises(CannotCheck, match="sample 0: the function raised RuntimeError: call the other layer"):
        check_gradients(Refusing, [(numbers(3),)])


def test_an_error_at_the_sample_is_the_only_failure() -> None:
    report = check_gradients(Raising, [(numbers(3),)])
    assert len(report.failures) == 1
    assert "FAILED: wrong: gradient (raised ZeroDivisionError" in str(report)
    assert "left out: the rest: the backward raises" in str(report)


def test_a_gradient_that_is_wrong_in_evaluation_mode() -> None:
    class Scaled(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, training: bool) -> Tensor:
            ctx.training = training
            return 3 * x

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            return (3 if ctx.training else 2) * grad_output, None

    class Layer(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return Scaled.apply(x, self.training)

    report = check_gradients(Layer(), [(numbers(3),)])
    assert {result.variant for result in report.failures} >= {"as given, in evaluation mode"}
    assert all("in evaluation mode" in result.variant for result in report.failures)


def test_another_choice_at_ties_is_right() -> None:
    """The median of tied values: along a random direction, the slope is that of no choice."""

    class Median(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            order = x.argsort(dim=-1, stable=True)[..., x.shape[-1] // 2 : x.shape[-1] // 2 + 1]
            ctx.save_for_backward(order)
            ctx.shape = x.shape
            return x.gather(-1, order)

        @staticmethod
        def backward(ctx: Any, grad_output: Tensor) -> Any:
            return grad_output.new_zeros(ctx.shape).scatter(-1, ctx.saved_tensors[0], grad_output)

    report = check_gradients(Median, [(numbers(4, 5),)], checks=("gradient",))
    assert report.passed, str(report)


def test_a_size_of_1_of_a_fixed_argument_stays() -> None:
    index = torch.tensor([[[2, 0]], [[1, 1]]])
    report = check_gradients(lambda x, i: x.gather(1, i), [(numbers(2, 3, 2), index)], checks=("gradient",))
    assert report.passed, str(report)
    assert not [result for result in report.results if "size 1 changed" in result.variant]


def test_sizes_that_are_not_tried_are_named() -> None:
    report = check_gradients(torch.tanh, [(numbers(2, 200),)], checks=("gradient",))
    assert "left out: size 2 changed to 1030: more than 100,000 components" in str(report)


class TestFailed:
    def test_the_report_shows_index_error_and_hint(self) -> None:
        report = check_gradients(Halved, [(numbers(4, 3),)], reference=torch.square)
        assert not report.passed
        worst = report.failures[0].comparison
        assert worst is not None
        for part in (
            "Halved(x) against square: FAILED",
            f"at {list(worst.index)}: hand-written {worst.value:.9g}, expected {2 * worst.value:.9g}",
            "4096 x rounding",
            "WRONG EQUATION",
            "hint: off by the constant factor 0.5",
            "Taylor order 1.00",
        ):
            assert part in str(report)

    def test_fail_fast_stops_at_the_first_failure(self) -> None:
        report = check_gradients(Halved, [(numbers(4, 3),)], reference=torch.square, fail_fast=True)
        assert report.failures == report.results[-1:]

    def test_a_side_effect_does_not_stop_the_other_checks(self) -> None:
        def modifying(x: Tensor) -> Tensor:
            y = 2 * x
            x.detach().zero_()
            return y

        report = check_gradients(modifying, [(numbers(3),)], reference=lambda x: 2 * x)
        assert "the forward modified 'x' in place" in str(report)
        assert statuses(report)["gradient"] == {"passed"}

    def test_an_error_of_a_hundredth_of_a_percent_is_a_wrong_equation(self) -> None:
        """The Taylor order shows it at short steps only."""

        class Exp(OldStyle):
            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Any:
                return 1.0001 * OldStyle.backward(ctx, grad_output)

        report = check_gradients(Exp, [(numbers(4),)])
        assert "WRONG EQUATION: the Taylor remainder is of order" in str(report)

    def test_the_report_without_a_reference(self) -> None:
        report = check_gradients(Halved, [(numbers(4, 3),)])
        assert "hint: off by the constant factor 0.5" in "".join(map(str, report.failures))
        assert "WRONG EQUATION: the Taylor remainder is of order 1.00" in str(report)

    @pytest.mark.parametrize("reference", [lambda x: (x.sin(), (x.cos(),)), None])
    @pytest.mark.parametrize(("wrong", "check"), [("if unused", "unused outputs"), ("if both", "gradient")])
    def test_one_output_of_several(self, reference: Any, wrong: str, check: str) -> None:
        class SineAndCosine(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
                ctx.set_materialize_grads(False)
                ctx.save_for_backward(x)
                return x.sin(), x.cos()

            @staticmethod
            def backward(ctx: Any, by_sine: Tensor | None, by_cosine: Tensor | None) -> Tensor | None:
                (x,) = ctx.saved_tensors
                if by_sine is None or by_cosine is None:
                    return None if wrong == "if unused" else _sum(by_sine, x.cos()) - _sum(by_cosine, x.sin())
                return by_sine * x.cos() - by_cosine * x.sin() * (1 if wrong == "if unused" else 2)

        def nested(x: Tensor) -> tuple[Tensor, tuple[Tensor]]:
            sine, cosine = SineAndCosine.apply(x)  # type: ignore[no-untyped-call]
            return sine, (cosine,)

        report = check_gradients(nested, [(numbers(4),)], reference=reference)
        assert check in failed(report)
        if wrong == "if unused":
            assert failed(report).keys() == {check}

    def test_a_failure_that_the_reference_does_not_share(self) -> None:
        def product_that_doubles(*batched: bool) -> Callable[..., Tensor]:
            class Product(torch.autograd.Function):
                @staticmethod
                def forward(x: Tensor, y: Tensor) -> Tensor:
                    return x * y

                @staticmethod
                def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
                    ctx.save_for_backward(*inputs)

                @staticmethod
                def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor]:
                    x, y = ctx.saved_tensors
                    return grad_output * y, grad_output * x

                @staticmethod
                def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, y: Tensor) -> tuple[Tensor, int]:
                    factor = 2 if tuple(dim is not None for dim in in_dims) == batched else 1
                    x, y = (a if dim is None else a.movedim(dim, 0) for a, dim in zip((x, y), in_dims, strict=True))
                    return factor * x * y, 0

            return Product.apply

        sample = [(numbers(3), numbers(3))]
        function, reference = product_that_doubles(True, False), product_that_doubles(False, True)
        assert {r.check for r in check_gradients(function, sample, reference=reference).failures} == {"vmap"}
        assert check_gradients(function, sample, reference=function).passed

    def test_a_value_that_changes_from_call_to_call(self) -> None:
        """The first calls agree, so that the function does not look random."""
        calls = count()

        def changing(x: Tensor) -> Tensor:
            return x * max(next(calls), 10)

        first = check_gradients(changing, [(numbers(30),)], isolate=False).failures[0]
        assert (first.check, first.input, first.variant) == ("repeatability", "output", "as given, called again")

    def test_a_wrong_value(self) -> None:
        report = check_gradients(lambda x: x.sin() + 1e-9, [(numbers(3),)], reference=torch.sin)
        assert failed(report).keys() == {"value"}

    def test_an_intermittent_error_fails_repeatability_first(self) -> None:
        calls = 0

        class EveryThird(Detached):
            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                nonlocal calls
                calls += 1
                (x,) = ctx.saved_tensors
                return 2 * x * grad_output * (1 if calls % 3 else 1.5)

        report = check_gradients(EveryThird, [(numbers(3),)], reference=torch.square)
        assert "repeatability of 'x', sample 0 as given, called again: FAILED" in str(report)

    @pytest.mark.parametrize("where", ["jvp", "vmap"])
    def test_an_exception_from_a_hand_written_rule_is_unsupported(self, where: str) -> None:
        def raising(*arguments: Any) -> Any:
            raise RuntimeError("my vmap rule requires grad and a jvp function")

        class Sine(WithoutVmap):
            pass

        setattr(Sine, where, staticmethod(raising))
        report = check_gradients(Sine, [(numbers(3),)], reference=torch.sin)
        assert report.passed
        assert statuses(report)["forward mode" if where == "jvp" else "vmap"] == {"unsupported"}

    def test_a_batch_of_upstream_gradients(self) -> None:
        class Doubling(Detached):
            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                (x,) = ctx.saved_tensors
                batched = "Batched" in str(torch._C._dispatch_keys(grad_output))
                return x * grad_output * (4 if batched else 2)

        report = check_gradients(Doubling, [(numbers(3),)], reference=torch.square)
        assert failed(report).keys() == {"batched gradients"}

    def test_only_the_error_of_saved_tensors_counts_as_detection(self) -> None:
        class Fragile(Detached):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                ctx.x, ctx.first = x, x.flatten()[0].item()
                return x * x

            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                if ctx.x.flatten()[0].item() != ctx.first:
                    raise RuntimeError("out of memory")
                return 2 * ctx.x.detach() * grad_output

        report = check_gradients(Fragile, [(numbers(3),)], reference=torch.square)
        assert "saved tensors" in failed(report)

    def test_an_exception_from_the_backward_is_a_failure_with_its_line(self) -> None:
        report = check_gradients(Raising, [(numbers(3),)], reference=torch.square)
        assert "raised ZeroDivisionError: integer division or modulo by zero, in backward (test_check.py, line" in str(
            report
        )

    def test_assert_gradients(self) -> None:
        assert_gradients(OldStyle, [(numbers(3),)], reference=torch.exp)
        with pytest.raises(GradientError, match=r"Halved.*FAILED") as caught:
            assert_gradients(Halved, [(numbers(3),)], reference=torch.square)
        assert isinstance(caught.value, AssertionError)

    def test_as_json(self) -> None:
        for function, passed in ((Detached, True), (Halved, False), (Raising, False)):
            report = check_gradients(function, [(numbers(3),)], reference=torch.square)
            read = json.loads(json.dumps(report.as_dict(), allow_nan=False))
            assert read["passed"] is passed
            assert len(read["results"]) == len(report.results)
            assert {"check", "status", "ratio", "comparison", "hint"} <= read["results"][0].keys()


class TestSideEffects:
    def test_samples_random_state_and_warnings_are_unchanged(self) -> None:
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


def test_small_samples_are_checked_with_one_thread() -> None:
    counts: list[int] = []

    def square(x: torch.Tensor) -> torch.Tensor:
        counts.append(torch.get_num_threads())
        return x.square()

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        check_gradients(square, [(torch.randn(3),)], reference=torch.square)
        assert (set(counts), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(threads)
