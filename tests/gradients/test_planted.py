"""The checker, checked: every planted bug is caught, and no right function is called wrong."""

import pytest
from planted import BUGS, KINDS, RIGHT, RIVALS, Bug, Right
from planted.scoreboard import OURS, finds, scoreboard

from bp_torch.gradients import check_gradients

by_name = {case.name: case for case in (*BUGS, *RIGHT)}
INVISIBLE = {
    "relu: ≥ for > at 0",
    "relu: half of g at 0",
    "leaky_relu: slope 1 at 0",
    "elu: slope 1 at 0",
    "l1_loss: 1 where x = t",
    "softplus: 1 − σ(−βx) for σ(βx): rounded to 0 where small",
}
"""Only a reference tells them: beside a kink, any value between the slopes will do, and the last is right to 1e-16."""
REALLY_WRONG = {"torch mish": "its second derivative is NaN far below 0, where the true one is 0"}


def test_the_library_is_what_it_says() -> None:
    assert len(by_name) == len(BUGS) + len(RIGHT)
    assert len(BUGS) >= 60
    assert {bug.kind for bug in BUGS} == set(KINDS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_planted_bug_is_caught(bug: Bug) -> None:
    assert finds(bug, seed=0)


@pytest.mark.parametrize("right", RIGHT, ids=lambda right: right.name)
def test_no_right_function_is_called_wrong(right: Right) -> None:
    report = check_gradients(right.function, right.samples, reference=right.reference, seed=1)
    assert report.passed, str(report)


@pytest.mark.parametrize("bug", BUGS[::4], ids=lambda bug: bug.name)
def test_finite_differences_alone_catch_what_can_be_seen(bug: Bug) -> None:
    report = check_gradients(bug.function, bug.samples)
    assert report.passed == (bug.name in INVISIBLE)


@pytest.mark.parametrize("right", RIGHT[::4], ids=lambda right: right.name)
def test_finite_differences_alone_raise_no_false_alarm(right: Right) -> None:
    report = check_gradients(right.function, right.samples)
    assert report.passed == (right.name not in REALLY_WRONG), str(report)


@pytest.mark.parametrize(
    ("check", "name"),
    {
        "side effects": "softmax: maximum subtracted in the input's memory",
        "gradient": "linear: bias gradient averaged",
        "linearity": "tanh: g |g| for g",
        "subsets of inputs": "linear: no bias gradient where the weight is frozen",
        "layouts": "linear: reads the weight row by row, whatever its strides",
        "repeatability": "squared_error: errors kept in one place for all calls",
        "saved tensors": "linear: weight kept as an attribute, and updated before backward",
        "finite differences": "sigmoid: 1 − y dropped",
        "Taylor remainder": "sigmoid: 1 − y dropped",
        "double backward": "sigmoid: slope kept by forward",
        "forward mode": "sigmoid: tangent doubled",
        "vmap": "squared_error: vmap rule averages over the batch",
        "gradient in float32": "gelu: slope of the tanh form below float64",
    }.items(),
)
def test_every_check_can_fail(check: str, name: str) -> None:
    bug = by_name[name]
    report = check_gradients(bug.function, bug.samples, reference=bug.reference)
    assert check in {result.check for result in report.failures}


def test_the_scoreboard_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of some bugs and right functions, one after the other, without a pool; some of them only we can see."""
    names = ("linear: bias gradient averaged", "relu: ≥ for > at 0", "sigmoid: tangent doubled")
    bugs, right = tuple(by_name[name] for name in names), RIGHT[:4]
    for name, cases in {"BUGS": bugs, "RIGHT": right, "_CASES": bugs + right}.items():
        monkeypatch.setattr(f"planted.scoreboard.{name}", cases)
    board = scoreboard(seeds=(0, 1))
    assert board.perfect
    assert [score.checker for score in board.scores] == [OURS, *RIVALS]
    assert [sorted(score.caught) for score in board.scores[1:]] == [[names[0]]] * len(RIVALS)
    assert all(score.seconds > 0 and not score.alarms for score in board.scores)
    assert board.right == 4
