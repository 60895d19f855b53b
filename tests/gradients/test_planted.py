"""The checker catches every planted bug, and raises no false alarm on a correct function."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from gradients.checking import PLANTED, failed
from planted import BASELINES, BUGS, CORRECT, KINDS, Bug, CorrectFunction, field, low_precision
from planted.scoreboard import OURS, Score, Scoreboard, first_failure, scoreboard

from bp_torch.gradients import check_gradients

ORIGINALS = [function for function in CORRECT if function.name.endswith("original")]
NOT_OURS = [function for function in CORRECT if function.name.startswith(("torch", "custom"))]
IN_FLOAT64 = [*(function for function in CORRECT if function.name.startswith("bp_torch")), *ORIGINALS]
COMPARABLE = [function for function in field.CORRECT if function.reference is not None]
ALONE = [function for function in field.CORRECT if function.reference is None]
OTHER_BUGS = BUGS[: -len(low_precision.BUGS) - len(field.BUGS)]
NEEDS_REFERENCE = {
    "relu: ≥ for > at 0",
    "relu: half of g at 0",
    "leaky_relu: slope 1 at 0",
    "elu: slope 1 at 0",
    "selu: slope λ at 0",
    "prelu: slope 1 at 0",
    "relu6: slope 1 at 0",
    "l1_loss: 1 where x = t",
    "abs: 1 at 0",
    "maximum: all of g to both at a tie",
    "margin_ranking_loss, margin 0: > for ≥ at the margin",
    "clamp: 0 at a bound",
    "max_pool, no overlap: the last of equal values",
    "max_pool, no overlap: shared by equal values",
    "l1 distance: 1 at a tie with a frozen target",
    "scale in float32 of bfloat16: gradient summed in bfloat16",
    "squared error of bfloat16: float32 target rounded",
}
"""Bugs that only a reference shows: without one, any value between the one-sided slopes passes at a kink, errors of low
precision that change at perturbed inputs may be rounding, and updated buffers have no expected values."""
WRONG_IN_PYTORCH = {
    "torch batch_norm": "its gradient for the input reads a strided weight without its strides",
    "bp_torch clamp": "its gradient, as PyTorch's, at x = a = b, where y is constant",
    "torch mish": "its second derivative is NaN beyond 709, where the true one is 0",
    "custom RootMeanSquare": "its gradient at a row of zeros is NaN, as that of PyTorch's sqrt",
    "field gaussian_nll_loss": "its gradient for var ignores that var is clamped at eps",
}


def name_of(case: Any) -> str:
    """The name of a planted bug or correct function."""
    return str(case.name)


def some(chosen: Iterable[Any], step: int) -> list[Any]:
    """Every step-th, and all that are known to need a reference or to be wrong in PyTorch."""
    known = {*WRONG_IN_PYTORCH, *NEEDS_REFERENCE}
    return [case for number, case in enumerate(chosen) if number % step == 0 or case.name in known]


def test_names_and_kinds_of_the_bugs() -> None:
    assert len(PLANTED) == len(BUGS) + len(CORRECT)
    assert {bug.kind for bug in BUGS} == set(KINDS)
    assert PLANTED.keys() >= {*NEEDS_REFERENCE, *WRONG_IN_PYTORCH}


@pytest.mark.parametrize("bug", [*some(OTHER_BUGS, 10), *some(low_precision.BUGS, 4), *field.BUGS], ids=name_of)
def test_planted_bugs_are_caught(bug: Bug) -> None:
    """Some of them, with a reference; the scoreboard runs all."""
    assert first_failure(bug) is not None


@pytest.mark.parametrize("bug", [*some(OTHER_BUGS, 30), *some(field.BUGS, 3)], ids=name_of)
def test_planted_bugs_are_caught_by_finite_differences(bug: Bug) -> None:
    """Without a reference, every bug is caught that does not need one."""
    assert (first_failure(bug, with_reference=False) is None) == (bug.name in NEEDS_REFERENCE)


@pytest.mark.parametrize(
    "case",
    [*some([*ORIGINALS, *NOT_OURS], 14), *some(low_precision.CORRECT, 10), *some(COMPARABLE, 2)],
    ids=name_of,
)
def test_no_false_alarm_with_a_reference(case: CorrectFunction) -> None:
    """Some of them; the scoreboard runs all, and tests/functional checks those of the catalogue."""
    report = check_gradients(case.function, case.samples, reference=case.reference, seed=1)
    assert report.passed, str(report)


@pytest.mark.parametrize(
    "case",
    [*some(IN_FLOAT64, 40), *some([*NOT_OURS, *COMPARABLE], 6), *some(ALONE, 4)],
    ids=name_of,
)
def test_no_false_alarm_with_finite_differences(case: CorrectFunction) -> None:
    """Some of them; tests/functional compares all of bp_torch with a reference and finite differences."""
    report = check_gradients(case.function, case.samples)
    assert report.passed == (case.name not in WRONG_IN_PYTORCH), str(report)


@pytest.mark.parametrize(
    ("check", "name"),
    {
        "side effects": "softmax: maximum subtracted from the input in place",
        "repeatability": "squared_error: error saved in a global",
        "gradient": "linear: bias gradient averaged",
        "gradient, one-hot": "softmax: own term dropped for a one-hot g",
        "gradient, of ones": "sigmoid: g of ones averaged",
        "gradient, size": "linear: input gradient in pairs of examples",
        "gradient, every size": "linear: weight gradient by tiles",
        "gradient, scaled by 1e-06": "squared_error: error below 10⁻⁵ replaced by 0",
        "gradient, scaled": "sigmoid: 0 where |x| > 4",
        "gradient, with zeros": "relu: ≥ for > at 0",
        "gradient in float32": "gelu: slope of the tanh form below float64",
        "linearity": "tanh: g |g| for g",
        "linearity, e+30": "sigmoid: g clamped at 10⁹",
        "subsets of inputs": "linear: no bias gradient if the weight is frozen",
        "layouts, strided": "gelu: ignores the stride of a vector",
        "layouts, transposed": "linear: ignores the strides of the weight",
        "layouts, channels_last": "gelu: ignores channels-last strides",
        "layouts, offset": "gelu: ignores the storage offset of x",
        "layouts, expanded upstream": "linear: bias gradient of an expanded g from one row",
        "saved tensors": "linear: weight saved as a ctx attribute",
        "finite differences": "sigmoid: 1 − y dropped",
        "double backward": "sigmoid: slope saved by forward",
        "double backward, scaled": "elu: NaN for a large x: eˣ overflows",
        "forward mode": "sigmoid: tangent doubled",
        "forward mode, scaled": "tanh: tangent 0 where y is nearly ±1",
        "vmap": "squared_error: vmap rule averages over the batch",
        "vmap, then differentiated": "sigmoid: vmap rule detaches the input",
        "gradient, a row of zeros": "normalise: NaN at a row of zeros",
        "gradient, equal inputs": "l2 distance: NaN at a tie with a frozen target",
        "gradient, zeros in fixed": "gated tanh: tanh from the value over a frozen gate of 0",
        "gradient, a row of False": "masked softmax: NaN for a fully masked row",
        "gradient, a row of True": "prefix mask: a full row has length 0",
        "saved tensors, argument 1": "masked fill: stale mask",
        "repeatability, called again": "dropout: mask drawn again",
        "repeatability, the same graph": "square: slope freed by the first backward",
        "accumulation": "matmul: adds an existing .grad",
        "checkpoint": "square: no slope in a forward inside a backward",
        "torch.compile": "silu: gate detached under torch.compile",
        "autocast": "matmul: weight detached under autocast",
        "gradient in bfloat16": "bias in bfloat16: bias gradient summed row by row",
        "gradient in float16, scaled": "rms_norm in float16: squares in float16",
    }.items(),
)
def test_every_check_can_fail(check: str, name: str) -> None:
    bug = PLANTED[name]
    check, _, where = check.partition(", ")
    chosen = "precision" if check.startswith("gradient in") else check
    report = check_gradients(bug.function, bug.samples[:1], reference=bug.reference, checks=[chosen])
    assert [r for r in report.failures if r.check == check and where in r.variant], str(report)


@pytest.mark.parametrize(
    "name",
    [
        "softmax: own term dropped for a one-hot g",
        "sigmoid: g clamped at 10⁹",
        "sigmoid: vmap rule detaches the input",
        "gelu: ignores the storage offset of x",
        "linear: weight gradient by tiles",
        "tanh: tangent 0 where y is nearly ±1",
        "masked fill: stale mask",
        "matmul: adds an existing .grad",
        "silu: gate detached under torch.compile",
        "matmul: weight detached under autocast",
    ],
)
def test_some_bugs_fail_one_check_only(name: str) -> None:
    """None of these checks is redundant."""
    bug = PLANTED[name]
    report = check_gradients(bug.function, bug.samples[:1], reference=bug.reference)
    assert len(failed(report)) == 1


def test_the_scoreboard_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run sequentially on three bugs, two of which only bp_torch's checker catches, and four correct functions."""
    names = ("linear: bias gradient averaged", "relu: ≥ for > at 0", "tanh: tangent 0 where y is nearly ±1")
    quick = ("bp_torch sigmoid", "bp_torch tanh", "bp_torch relu", "torch abs")
    bugs, correct = (tuple(PLANTED[name] for name in selected) for selected in (names, quick))
    for name, cases in {"BUGS": bugs, "CORRECT": correct, "_CASES": bugs + correct}.items():
        monkeypatch.setattr(f"planted.scoreboard.{name}", cases)
    board = scoreboard(seeds=(0, 1))
    assert board.perfect
    assert [score.checker for score in board.scores] == [OURS, *BASELINES]
    assert [sorted(score.caught) for score in board.scores[1:]] == [[names[0]]] * len(BASELINES)
    assert all(score.seconds > 0 and not score.alarms for score in board.scores)
    assert board.correct == 4


def test_tables_of_a_scoreboard() -> None:
    bugs = {"a | b": "sign", "c": "factor", "d": "sign"}
    ours = Score("ours", frozenset(bugs), (), 1.0)
    theirs = Score("theirs", frozenset({"c"}), ("correct",), 2.0)
    board = Scoreboard(bugs, 9, (ours, theirs))
    assert board.perfect
    assert not replace(board, scores=(theirs, ours)).perfect
    assert not replace(board, scores=(replace(ours, alarms=("correct",)), theirs)).perfect
    assert board.table().splitlines()[2:] == ["| ours   | 3 | 0 | 1.0 |", "| theirs | 1 | 1 | 2.0 |"]
    assert board.table_of_kinds().splitlines()[2:] == ["| sign | 2 | 2 | 0 |", "| factor | 1 | 1 | 1 |"]
    assert board.table_of_bugs().splitlines()[2:] == [
        r"| sign | a \| b | caught | – |", "| sign | d | caught | – |", "| factor | c | caught | caught |",
    ]  # fmt: skip
