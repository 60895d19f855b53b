"""How a function must be called: random numbers, changes in place, outputs without a gradient, freed storage."""

import os
import random
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from gradients.checking import check_planted, numbers
from torch import Tensor

from bp_torch.functional.dropout import Dropout as HandWrittenDropout
from bp_torch.gradients import CannotCheck, check_gradients
from bp_torch.gradients.call import IN_PLACE, RANDOM
from bp_torch.gradients.randomness import replayed


class Dropout(torch.autograd.Function):
    """Dropout of half the components."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mask = (torch.rand_like(x) > 0.5).to(x.dtype)
        ctx.save_for_backward(mask)
        return 2 * x * mask

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        (mask,) = ctx.saved_tensors
        return 2 * grad_output * mask  # type: ignore[no-any-return]


def seeded(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return Dropout.apply(x)  # type: ignore[no-any-return, no-untyped-call]


def of_the_system(x: Tensor) -> Tensor:
    return x * (1 + int.from_bytes(os.urandom(2)) / 1000)


class TestRandom:
    @pytest.mark.parametrize(
        "function", [Dropout, seeded, torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.Dropout())]
    )
    def test_a_right_function_passes_with_a_remark(self, function: Callable[..., Any]) -> None:
        sample = (numbers(3, 4, dtype=torch.float32),)
        report = check_gradients(function, [sample], checks=("repeatability", "gradient", "linearity", "layouts"))
        assert report.passed, str(report)
        assert RANDOM in report.remarks
        assert f"note: {RANDOM}" in str(report)

    def test_a_mask_drawn_anew_in_the_backward_fails(self) -> None:
        checks = ("repeatability", "gradient")
        report = check_planted("dropout: mask drawn again", with_reference=False, checks=checks)
        assert report.grade == "wrong"
        assert {result.check for result in report.failures} == {"repeatability"}
        assert "random numbers drawn anew" in str(report)

    @pytest.mark.parametrize("isolate", [True, False])
    def test_unseeded_numbers_cannot_be_checked(self, isolate: bool) -> None:
        with pytest.raises(CannotCheck, match="sample 0: the function returns different values in two calls with the"):
            check_gradients(of_the_system, [(numbers(3),)], isolate=isolate)

    def test_a_function_without_random_numbers_has_no_remark(self) -> None:
        assert check_gradients(torch.nn.Dropout().eval(), [(numbers(3),)], checks=("gradient",)).remarks == ()

    @pytest.mark.parametrize("draw", [torch.rand, lambda n: random.random(), lambda n: numpy.random.rand()])
    def test_the_generators_are_replayed_and_restored(self, draw: Callable[[int], Any]) -> None:
        def drawn(seed: int | None) -> float:
            with replayed(seed):
                return float(draw(1))

        states = torch.get_rng_state(), random.getstate(), repr(numpy.random.get_state())
        assert drawn(0) == drawn(0) != drawn(1)
        after = torch.get_rng_state(), random.getstate(), repr(numpy.random.get_state())
        assert torch.equal(states[0], after[0])
        assert states[1:] == after[1:]
        assert drawn(None) != drawn(None)


class DropoutVmap(HandWrittenDropout):
    """Dropout with a vmap rule that detaches the input."""

    generate_vmap_rule = False

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor, factors: Tensor, shift: None) -> tuple[Tensor, Any]:
        return (x.detach().movedim(dims[0], 0) * factors), 0


def of_a_batch_drawn_anew(x: Tensor) -> Tensor:
    if torch._C._are_functorch_transforms_active():
        torch.rand(1)
    return torch.nn.functional.dropout(x)


class TestRandomUnderVmap:
    """The examples have the random numbers of a single call."""

    def status(self, function: Callable[[Tensor], Tensor]) -> set[str]:
        report = check_gradients(function, [(numbers(4, 3),)], checks=("gradient", "vmap"))
        return {result.status for result in report.results if result.check == "vmap"}

    def test_values_and_gradients_are_compared(self) -> None:
        assert self.status(torch.nn.functional.dropout) == {"passed"}

    def test_a_wrong_rule_fails(self) -> None:
        assert "failed" in self.status(lambda x: DropoutVmap.apply(x, (torch.rand(x.shape) < 0.5).to(x), None))  # type: ignore[no-untyped-call]

    def test_numbers_that_differ_for_a_batch_are_left_out(self) -> None:
        assert self.status(of_a_batch_drawn_anew) == {"left out"}


class Doubled(torch.autograd.Function):
    """Twice x, in place."""

    factor = 2

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        return x.mul_(2)

    @classmethod
    def backward(cls, ctx: Any, grad_output: Tensor) -> Tensor:
        return cls.factor * grad_output


class WronglyDoubled(Doubled):
    factor = 3


@pytest.mark.parametrize("function", [Doubled, torch.nn.ReLU(inplace=True), torch.Tensor.exp_])
@pytest.mark.parametrize("reference", [True, False])
def test_an_in_place_function_passes_with_a_remark(function: Any, reference: bool) -> None:
    x = numbers(3, 4, dtype=torch.float32)
    expected = function.apply if function is Doubled else function
    report = check_gradients(function, [(x,)], reference=expected if reference else None)
    assert report.passed, str(report)
    assert IN_PLACE in report.remarks
    assert torch.equal(x, numbers(3, 4, dtype=torch.float32))
    assert not check_gradients(WronglyDoubled, [(x,)], checks=("gradient",)).passed


class Softmax(torch.autograd.Function):
    """Softmax and its log-sum-exp, which is marked non-differentiable."""

    factor = 1

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y, lse = x.softmax(-1), x.logsumexp(-1)
        ctx.save_for_backward(y)
        ctx.mark_non_differentiable(lse)
        return lse, y

    @classmethod
    def backward(cls, ctx: Any, _: Tensor, g: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return cls.factor * y * (g - (g * y).sum(-1, keepdim=True))  # type: ignore[no-any-return]


class WrongSoftmax(Softmax):
    factor = 2


def detached(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.logsumexp(-1).detach(), x.softmax(-1)


@pytest.mark.parametrize("reference", [detached, None])
def test_outputs_marked_non_differentiable_are_left_out(reference: Any) -> None:
    checks = ("value", "gradient", "unused outputs", "layouts", "vmap", "batched gradients")
    report = check_gradients(Softmax, [(numbers(4, 3),)], reference=reference, checks=checks)
    assert report.passed, str(report)
    assert report.remarks == ("only these outputs have a gradient: 1",)
    assert not check_gradients(WrongSoftmax, [(numbers(4, 3),)], reference=reference, checks=checks).passed


def test_a_function_that_frees_its_input_cannot_be_checked() -> None:
    def freeing(x: Tensor) -> Tensor:
        y = 2 * x
        x.untyped_storage().resize_(0)
        return y

    with pytest.raises(CannotCheck, match="sample 0: the function frees the storage of its input"):
        check_gradients(freeing, [(numbers(3),)])
