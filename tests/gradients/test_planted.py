"""The checker, checked: every planted bug is caught, and no right function is called wrong."""

import functools
from dataclasses import replace

import pytest
from planted import BUGS, KINDS, RIGHT, RIVALS, Bug, RightFunction
from planted.scoreboard import OURS, Score, Scoreboard, first_failure, scoreboard

from bp_torch.gradients import GradientReport, check_gradients

by_name = {case.name: case for case in (*BUGS, *RIGHT)}
OF_OTHERS = [right for right in RIGHT if right.name.startswith(("torch", "custom"))]
HOSTS = [right for right in RIGHT if right.name.endswith("host of bugs")]
INVISIBLE = {
    "relu: ≥ for > at 0",
    "relu: half of g at 0",
    "leaky_relu: slope 1 at 0",
    "elu: slope 1 at 0",
    "l1_loss: 1 where x = t",
    "abs: 1 at 0",
    "maximum: all of g to both at a tie",
}
"""Only a reference tells them: beside a kink, any value between the slopes will do."""
COMPARED = {"value", "gradient", "double backward", "gradient in float32"}
"""The checks that compare with a reference, or else with finite differences."""
REALLY_WRONG = {
    "torch batch_norm": "its gradient for the input reads a strided weight without its strides",
    "torch mish": "its second derivative is NaN beyond 709, where the true one is 0",
}


def test_the_library_is_what_it_says() -> None:
    assert len(by_name) == len(BUGS) + len(RIGHT)
    assert len(BUGS) >= 60
    assert {bug.kind for bug in BUGS} == set(KINDS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_planted_bug_is_caught(bug: Bug) -> None:
    """By a reference, and by finite differences alone; most checks are the same for both."""
    failure = first_failure(bug)
    assert failure is not None
    if failure.check in COMPARED:
        assert (first_failure(bug, by_reference=False) is None) == (bug.name in INVISIBLE)


@pytest.mark.parametrize("right", [*HOSTS, *OF_OTHERS], ids=lambda right: right.name)
def test_no_right_function_is_called_wrong(right: RightFunction) -> None:
    """Those of the catalogue are checked in tests/functional."""
    report = check_gradients(right.function, right.samples, reference=right.reference, seed=1)
    assert report.passed, str(report)


@pytest.mark.parametrize("right", [*RIGHT[: -len(OF_OTHERS) : 6], *OF_OTHERS], ids=lambda right: right.name)
def test_finite_differences_alone_raise_no_false_alarm(right: RightFunction) -> None:
    """Of bp_torch's own, every sixth: all of them are compared with finite differences beside their reference too."""
    report = check_gradients(right.function, right.samples)
    assert report.passed == (right.name not in REALLY_WRONG), str(report)


@pytest.mark.parametrize(
    ("check", "name"),
    {
        "side effects": "softmax: maximum subtracted in the input's memory",
        "repeatability": "squared_error: errors kept in one place for all calls",
        "gradient": "linear: bias gradient averaged",
        "gradient, one-hot": "softmax: a single g ≠ 0 forgets its own term",
        "gradient, of ones": "sigmoid: g of ones averaged",
        "gradient, size": "linear: input gradient two examples at a time",
        "gradient, every size": "linear: weight gradient by tiles",
        "gradient, scaled by 1e-06": "squared_error: an error below 10⁻⁵ taken for none",
        "gradient, scaled": "sigmoid: 0 where |x| > 4",
        "gradient, with zeros": "relu: ≥ for > at 0",
        "gradient in float32": "gelu: slope of the tanh form below float64",
        "linearity": "tanh: g |g| for g",
        "linearity, e+30": "sigmoid: g clamped at 10⁹",
        "subsets of inputs": "linear: no bias gradient where the weight is frozen",
        "layouts, strided": "gelu: reads a vector from its first number on, whatever the gaps",
        "layouts, transposed": "linear: reads the weight row by row, whatever its strides",
        "layouts, channels_last": "gelu: reads images in the order of memory",
        "layouts, displaced": "gelu: reads x from the beginning of its memory",
        "layouts, expanded upstream": "linear: bias gradient of an expanded g is one row's",
        "saved tensors": "linear: weight kept as an attribute, and updated before backward",
        "finite differences": "sigmoid: 1 − y dropped",
        "double backward": "sigmoid: slope kept by forward",
        "double backward, scaled": "elu: eˣ of a large x returns as NaN",
        "forward mode": "sigmoid: tangent doubled",
        "forward mode, scaled": "tanh: tangent 0 where y is nearly ±1",
        "vmap": "squared_error: vmap rule averages over the batch",
        "vmap, then differentiated": "sigmoid: vmap rule loses the graph",
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
        "softmax: a single g ≠ 0 forgets its own term",
        "sigmoid: g clamped at 10⁹",
        "sigmoid: vmap rule loses the graph",
        "gelu: reads x from the beginning of its memory",
        "linear: weight gradient by tiles",
        "tanh: tangent 0 where y is nearly ±1",
    ],
)
def test_some_bugs_are_seen_by_one_check_alone(name: str) -> None:
    """So none of these checks is superfluous."""
    assert len({result.check for result in report_on(name).failures}) == 1


def test_the_scoreboard_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some bugs and right functions, one after the other, without a pool; some of them only we can see."""
    names = ("linear: bias gradient averaged", "relu: ≥ for > at 0", "tanh: tangent 0 where y is nearly ±1")
    quick = ("bp_torch sigmoid", "bp_torch tanh", "bp_torch relu", "torch abs")
    bugs, right = (tuple(by_name[name] for name in chosen) for chosen in (names, quick))
    for name, cases in {"BUGS": bugs, "RIGHT": right, "_CASES": bugs + right}.items():
        monkeypatch.setattr(f"planted.scoreboard.{name}", cases)
    board = scoreboard(seeds=(0, 1))
    assert board.perfect
    assert [score.checker for score in board.scores] == [OURS, *RIVALS]
    assert [sorted(score.caught) for score in board.scores[1:]] == [[names[0]]] * len(RIVALS)
    assert all(score.seconds > 0 and not score.alarms for score in board.scores)
    assert board.right == 4


def test_the_tables_of_a_scoreboard() -> None:
    bugs = {"a | b": "sign", "c": "factor", "d": "sign"}
    ours = Score("ours", frozenset(bugs), (), 1.0)
    theirs = Score("theirs", frozenset({"c"}), ("right",), 2.0)
    board = Scoreboard(bugs, 9, (ours, theirs))
    assert board.perfect
    assert not replace(board, scores=(theirs, ours)).perfect
    assert not replace(board, scores=(replace(ours, alarms=("right",)), theirs)).perfect
    assert board.table().splitlines()[2:] == ["| ours   | 3 | 0 | 1.0 |", "| theirs | 1 | 1 | 2.0 |"]
    assert board.table_of_kinds().splitlines()[2:] == ["| sign | 2 | 2 | 0 |", "| factor | 1 | 1 | 1 |"]
    assert board.table_of_bugs().splitlines()[2:] == [
        r"| sign | a \| b | caught | – |", "| sign | d | caught | – |", "| factor | c | caught | caught |",
    ]  # fmt: skip
