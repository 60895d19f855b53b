"""Axes of a sample: which sizes change together, to which sizes, and how the arguments change."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients.checking import numbers
from torch import Tensor

from bp_torch.gradients import CannotCheck, check_gradients
from bp_torch.gradients.axes import MAX_COMPONENTS, SIZES, USUAL_SIZE, axes_of, resized
from bp_torch.gradients.call import Call, as_calls
from bp_torch.sample import Sample


def call_of(function: Callable[..., Any], *args: Any, **options: Any) -> Call:
    (call,) = as_calls(function, [Sample(args, **options)])
    return call


def shapes(call: Call, **sizes: int) -> list[tuple[int, ...]]:
    """The shapes of the arguments if the named axes change."""
    axes = {axis.name: axis for axis in axes_of(call)}
    other = resized(call, {axes[name]: size for name, size in sizes.items()}, torch.Generator().manual_seed(0))
    assert other is not None
    return [tuple(arg.shape) for arg in other.args if isinstance(arg, Tensor)]


@pytest.fixture
def linear() -> Call:
    return call_of(torch.nn.functional.linear, numbers(5, 4), numbers(3, 4), numbers(3))


class TestEqualSizes:
    def test_equal_sizes_change_together(self, linear: Call) -> None:
        assert [axis.name for axis in axes_of(linear)] == ["size 3", "size 4", "size 5"]
        usual = {size for size in SIZES if size <= USUAL_SIZE}  # larger ones are for custom Functions
        assert all(set(axis.sizes) == usual - {axis.size} for axis in axes_of(linear))
        by_size = {axis.size: axis for axis in axes_of(linear)}
        other = resized(linear, {by_size[3]: 1030, by_size[5]: 1}, torch.Generator())
        assert other is not None
        assert [tuple(x.shape) for x in other.inputs] == [(1, 4), (1030, 4), (1030,)]
        assert by_size[3].label(33) == "size 3 changed to 33"

    def test_rows_of_a_larger_size_are_distinct(self, linear: Call) -> None:
        grown = resized(linear, {axes_of(linear)[2]: 50}, torch.Generator().manual_seed(0))
        assert grown is not None
        assert len(grown.inputs[0].unique(dim=0)) == 50  # type: ignore[no-untyped-call]

    def test_fixed_arguments_keep_their_values(self) -> None:
        x, w = numbers(4, 3).requires_grad_(), numbers(4, 3)
        call = call_of(torch.mul, x, w)
        grown = resized(call, {axes_of(call)[1]: 8}, torch.Generator().manual_seed(0))
        assert grown is not None
        assert torch.equal(grown.args[1], w.repeat(2, 1))
        assert not torch.equal(grown.args[0][:4], x)

    def test_a_size_of_a_fixed_argument_of_another_shape_is_kept(self) -> None:
        call = call_of(lambda x, w: x * w, numbers(5, 3).requires_grad_(), numbers(3))
        assert [axis.name for axis in axes_of(call)] == ["size 5"]

    def test_too_large_variants_are_skipped(self) -> None:
        """Except for Tensors of few columns."""
        for columns, skipped in ((6, True), (4, False)):
            call = call_of(torch.sin, numbers(5, columns))
            axis = next(axis for axis in axes_of(call) if axis.size == 5)
            assert (resized(call, {axis: MAX_COMPONENTS}, torch.Generator()) is None) == skipped

    def test_labels_grow_with_the_batch_and_stay_in_range(self) -> None:
        x, t = numbers(4, 3), torch.tensor([0, 1, 2, -100])
        call = call_of(lambda x, t: torch.nn.functional.cross_entropy(x, t), x, t)
        by_name = {axis.name: axis for axis in axes_of(call)}
        grown = resized(call, {by_name["size 4"]: 7}, torch.Generator().manual_seed(0))
        fewer = resized(call, {by_name["size 3"]: 1}, torch.Generator().manual_seed(0))
        assert grown is not None
        assert fewer is not None
        assert grown.args[1].tolist() == [0, 1, 2, -100, 0, 1, 2]
        assert fewer.args[1].tolist() == [0, 0, 0, -100]

    def test_labels_of_one_byte_stay(self) -> None:
        t = torch.tensor([0, 1, 2, 2], dtype=torch.uint8)
        call = call_of(lambda x, t: torch.nn.functional.cross_entropy(x, t.long()), numbers(4, 3), t)
        larger = resized(call, {axes_of(call)[0]: 256}, torch.Generator().manual_seed(0))
        assert larger is not None
        assert larger.args[1].tolist() == [0, 1, 2, 2]


def halves(x: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return left * right.sigmoid()


def of_sequences(x: Tensor, lengths: Tensor) -> Tensor:
    return torch.stack([part.mean(0) for part in x.split(lengths.tolist())])  # type: ignore[no-untyped-call]


def with_hidden_labels(x: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(x, torch.tensor([0, 3, 1]), reduction="sum")


class TestDomains:
    def test_an_axis_that_is_split_keeps_its_multiple(self) -> None:
        call = call_of(halves, numbers(3, 6))
        axis = axes_of(call)[1]
        assert (axis.name, axis.size, axis.dims) == ("size 6", 3, ((0, 1, 2),))
        assert axis.label(33) == "size 6 changed to 66"
        assert shapes(call, **{"size 6": 33}) == [(3, 66)]

    def test_an_axis_with_lengths_along_it_is_left_out(self) -> None:
        call = call_of(of_sequences, numbers(9, 3), torch.tensor([2, 5, 2]))
        assert [axis.reason for axis in axes_of(call) if axis.size == 9] == ["integers may be lengths along it"]

    def test_hidden_labels_bound_the_size(self) -> None:
        axis = next(axis for axis in axes_of(call_of(with_hidden_labels, numbers(3, 5))) if axis.size == 5)
        assert min(axis.sizes) == 8

    def test_a_size_that_cannot_change_is_left_out(self) -> None:
        call = call_of(lambda x: x.reshape(5, -1), numbers(5, 3))
        assert [axis.reason for axis in axes_of(call)] == ["", ""]
        call = call_of(lambda x: x + torch.ones(5, 3), numbers(5, 3))
        assert {axis.reason for axis in axes_of(call)} == {"the function takes no other size"}

    @pytest.mark.parametrize(
        ("function", "args"),
        [
            (halves, (numbers(3, 6),)),
            (of_sequences, (numbers(9, 3), torch.tensor([2, 5, 2]))),
            (with_hidden_labels, (numbers(3, 5),)),
        ],
    )
    def test_right_functions_pass(self, function: Callable[..., Tensor], args: tuple[Tensor, ...]) -> None:
        for reference in (function, None):
            report = check_gradients(function, [args], reference=reference, checks=("value", "gradient"))
            assert report.passed, str(report)


class TestNames:
    def test_dimensions_of_one_name_change_together(self) -> None:
        call = call_of(torch.matmul, numbers(4, 4), numbers(4, 4), axes="n k, k m")
        assert [axis.name for axis in axes_of(call)] == ["n", "k", "m"]
        assert shapes(call, k=7) == [(4, 7), (7, 4)]

    def test_multiples_allowed_sizes_and_kept_sizes(self) -> None:
        call = call_of(lambda x, y: (x, y), numbers(2, 6, 3), numbers(8, 5), axes="_ 2*half 3, d=2|8|64 _")
        half, d = axes_of(call)
        assert (half.name, half.size, half.dims) == ("half", 3, ((0, 1, 2),))
        assert (d.size, d.allowed, d.sizes) == (8, (2, 8, 64), [2, 64])
        assert shapes(call, half=5, d=64) == [(2, 10, 3), (64, 5)]
        assert half.label(5) == "half changed to 5"

    def test_allowed_sizes_hold_wherever_the_name_stands(self) -> None:
        (axis,) = axes_of(call_of(torch.mul, numbers(8), numbers(8), axes="d, d=8|16"))
        assert (axis.dims, axis.allowed, axis.sizes) == (((0, 0, 1), (1, 0, 1)), (8, 16), [16])

    def test_arguments_without_dimensions_have_no_names(self) -> None:
        call = call_of(lambda x, n, y: x * n * y, numbers(3), 2.0, numbers(3), axes="n,, n")
        assert shapes(call, n=5) == [(5,), (5,)]

    def test_the_pair_of_a_complex_number_has_no_name(self) -> None:
        call = call_of(torch.abs, torch.view_as_complex(numbers(3, 2)), axes="n")
        assert shapes(call, n=5) == [(5, 2)]

    @pytest.mark.parametrize(
        ("axes", "message"),
        [
            ("n, n, n", "has 3 lists of names, for 2 arguments"),
            ("n k m, k", r"'n k m' does not fit a Tensor of shape \(4, 6\)"),
            ("n 6*, k", r"'6\*' must be a name, as in batch, 2\*half, dim=2\|8, or a number or _"),
            ("n k=a, k", "'k=a' must be a name"),
            ("n n, k", "'n' does not fit size 6, with n = 4"),
            ("n 4*k, _", r"'4\*k' does not fit size 6, with k = 1"),
        ],
    )
    def test_a_pattern_that_does_not_fit_is_an_error(self, axes: str, message: str) -> None:
        with pytest.raises(CannotCheck, match=message):
            check_gradients(lambda x, y: x.sum() * y.sum(), [Sample((numbers(4, 6), numbers(3)), axes=axes)])

    def test_a_wrong_gradient_at_an_allowed_size_is_found(self) -> None:
        class Blocks(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: Tensor) -> Tensor:
                assert len(x) in (4, 16)
                return x * 2

            @staticmethod
            def backward(ctx: Any, grad_output: Tensor) -> Tensor:
                return grad_output * (2 if len(grad_output) == 4 else 3)

        sample = Sample((numbers(4),), axes="n=4|16")
        (failure,) = check_gradients(Blocks, [sample], checks=("gradient",)).failures
        assert failure.variant == "n changed to 16"


def triangles(batch: int = 2, n: int = 3) -> tuple[Tensor]:
    return (torch.randn(batch, n, n).tril() + n * torch.eye(n),)


class TestMake:
    def test_the_recipe_makes_the_arguments_of_other_sizes(self) -> None:
        call = call_of(torch.linalg.inv, *triangles(), axes="batch n n", make=triangles)
        batch, n = axes_of(call)
        other = resized(call, {n: 5, batch: 4}, torch.Generator().manual_seed(0))
        assert other is not None
        assert other.args[0].shape == (4, 5, 5)
        assert torch.equal(other.args[0], other.args[0].tril())
        again = resized(call, {n: 5, batch: 4}, torch.Generator().manual_seed(0))
        assert again is not None
        assert torch.equal(again.args[0], other.args[0])

    def test_without_names_it_is_made_anew(self) -> None:
        seen: list[tuple[int, ...]] = []

        def recipe() -> tuple[Tensor]:
            seen.append((len(seen) + 4,))
            return (torch.randn(seen[-1]),)

        report = check_gradients(torch.sin, [Sample((numbers(3),), make=recipe)], checks=("gradient",), isolate=False)
        assert report.passed
        assert seen == [(4,), (5,), (6,)]
        labels = {result.variant for result in report.results if result.kind == "size"}
        assert labels == {"made anew, 1", "made anew, 2", "made anew, 3"}
