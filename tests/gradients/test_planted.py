"""The checker catches every planted bug, and raises no false alarm on a correct function."""

import functools
from dataclasses import replace

import pytest
from planted import BASELINES, BUGS, CORRECT, KINDS, Bug, CorrectFunction
from planted.scoreboard import OURS, Score, Scoreboard, first_failure, scoreboard

from bp_torch.gradients import GradientReport, check_gradients

by_name = {case.name: case for case in (*BUGS, *CORRECT)}
NOT_OURS = [function for function in CORRECT if function.name.startswith(("torch", "custom"))]
ORIGINALS = [function for function in CORRECT if function.name.endswith("original")]
NEEDS_REFERENCE = {
    "relu: ≥ for > at 0",
    "relu: half of g at 0",
    "leaky_relu: slope 1 at 0",
    "elu: slope 1 at 0",
    "l1_loss: 1 where x = t",
    "abs: 1 at 0",
    "maximum: all of g to both at a tie",
}
"""Bugs that only a reference shows: without one, any value between the one-sided slopes passes at a kink."""
COMPARED = {"value", "gradient", "double backward", "gradient in float32"}
"""Checks that compare with a reference, or with finite differences without one."""
WRONG_IN_PYTORCH = {
    "torch batch_norm": "its gradient for the input reads a strided weight without its strides",
    "torch mish": "its second derivative is NaN beyond 709, where the true one is 0",
}


def test_names_and_kinds_of_the_bugs() -> None:
    assert len(by_name) == len(BUGS) + len(CORRECT)
    assert len(BUGS) >= 60
    assert {bug.kind for bug in BUGS} == set(KINDS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_planted_bug_is_caught(bug: Bug) -> None:
    """With a reference, and without one if the check depends on it."""
    failure = first_failure(bug)
    assert failure is not None
    if failure.check in COMPARED:
        assert (first_failure(bug, with_reference=False) is None) == (bug.name in NEEDS_REFERENCE)


@pytest.mark.parametrize("case", [*ORIGINALS, *NOT_OURS], ids=lambda case: case.name)
def test_no_false_alarm_with_a_reference(case: CorrectFunction) -> None:
    """tests/functional checks those of the catalogue."""
    report = check_gradients(case.function, case.samples, reference=case.reference, seed=1)
    assert report.passed, str(report)


@pytest.mark.parametrize("case", [*CORRECT[: -len(NOT_OURS) : 6], *NOT_OURS], ids=lambda case: case.name)
def test_no_false_alarm_with_finite_differences(case: CorrectFunction) -> None:
    """Every sixth of bp_torch's functions; tests/functional compares all with a reference and finite differences."""
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
    }.items(),
)
def test_every_check_can_fail(check: str, name: str) -> None:
    report = report_on(name)
    check, _, where = check.partition(", ")
    assert [r for r in report.failures if r.check == check and where in r.variant], str(report)


@functools.cache
def report_on(name: str) -> GradientReport:
    bug = by_name[name]
    return check_gradients(bug.function, bug.samples[:1], reference=bug.reference)


@pytest.mark.parametrize(
    "name",
    [
        "softmax: own term dropped for a one-hot g",
        "sigmoid: g clamped at 10⁹",
        "sigmoid: vmap rule detaches the input",
        "gelu: ignores the storage offset of x",
        "linear: weight gradient by tiles",
        "tanh: tangent 0 where y is nearly ±1",
    ],
)
def test_some_bugs_fail_one_check_only(name: str) -> None:
    """None of these checks is redundant."""
    assert len({result.check for result in report_on(name).failures}) == 1


def test_the_scoreboard_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run sequentially on three bugs, two of which only bp_torch's checker catches, and four correct functions."""
    names = ("linear: bias gradient averaged", "relu: ≥ for > at 0", "tanh: tangent 0 where y is nearly ±1")
    quick = ("bp_torch sigmoid", "bp_torch tanh", "bp_torch relu", "torch abs")
    bugs, correct = (tuple(by_name[name] for name in selected) for selected in (names, quick))
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
