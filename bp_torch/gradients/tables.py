"""What was found, as tables of Markdown: for the terminal, for TensorBoard, and for the documentation."""

from collections.abc import Iterable, Iterator

from bp_torch.gradients.records import Accuracy, Scoreboard, Survey

ACCURACY = """\
Errors are in roundings, ε · max |truth|: the largest of value and gradients over all samples, with PyTorch's own in
brackets. In float64 PyTorch is the truth."""


PLANTED = """\
A gradient checker is worth what it finds. Here are wrong backwards as people write them, each planted in a function
that is otherwise right, with ordinary numbers as samples; and right functions, PyTorch's own and hand-written ones of
every make, on which an alarm is a false one. A checker catches a bug if it raises an alarm. Each is used as it is meant
to be, on the same samples: `gradcheck` and `gradgradcheck` in float64, the others against PyTorch's own function.

The bugs are in [tests/planted](../tests/planted), a line each. This page is what
`python scripts/check_gradients.py --planted --seeds 20` prints: bp_torch's checker must catch a bug with every seed and
raise no false alarm with any. `gradcheck, in full` is all that torch.autograd has to check: batched gradients, forward
mode and `gradgradcheck` too, whose alarms are on right functions that offer no second derivative. What
`allclose, ones, float32` catches of softmax it catches by luck: it compares zeros with rounding errors. The seconds are
those of one core, to be compared with each other."""


def functions(surveys: Iterable[Survey]) -> Iterator[str]:
    """A row for each function, as it comes: what was asked, what was wrong, and how exact it is in every dtype."""
    head_is_due = True
    for survey in surveys:
        if head_is_due:
            dtypes = (f"{accuracy.dtype:>15}" for accuracy in survey.accuracies)
            yield _row(f"{'function':<32}", "samples", "questions", "wrong", *dtypes)
            yield _rule(4 + len(survey.accuracies))
            head_is_due = False
        counts = f"{survey.samples:>7}", f"{survey.asked:>9}", f"{len(survey.wrong):>5}"
        yield _row(f"{survey.function:<32}", *counts, *map(_exactness, survey.accuracies))


def scores(board: Scoreboard) -> Iterator[str]:
    """A row for each checker."""
    width = max(len(score.checker) for score in board.scores)
    yield _row(f"{'checker':<{width}}", f"caught of {len(board.bugs)}", f"false alarms of {board.right}", "seconds")
    yield _rule(4)
    for score in board.scores:
        yield _row(f"{score.checker:<{width}}", len(score.caught), len(score.alarms), f"{score.seconds:.1f}")


def kinds(board: Scoreboard) -> Iterator[str]:
    """A row for each kind of bug: how many of them each checker catches."""
    yield _row("kind of bug", "planted", *(score.checker for score in board.scores))
    yield _rule(2 + len(board.scores))
    for kind in board.kinds:
        bugs = board.of_kind(kind)
        yield _row(kind, len(bugs), *(len(bugs & score.caught) for score in board.scores))


def bugs(board: Scoreboard) -> Iterator[str]:
    """A row for each bug: which checkers catch it."""
    yield _row("kind", "bug", *(score.checker for score in board.scores))
    yield _rule(2 + len(board.scores))
    for kind in board.kinds:
        for name in board.bugs:
            if board.bugs[name] == kind:
                marks = ("caught" if name in score.caught else "–" for score in board.scores)
                yield _row(kind, name.replace("|", r"\|"), *marks)


def page(board: Scoreboard) -> Iterator[str]:
    """All of it: the page that is kept as docs/planted-bugs.md."""
    yield from ("# Planted bugs", "", PLANTED, "")
    yield from scores(board)
    yield from ("", "## Kind by kind", "")
    yield from kinds(board)
    yield from ("", "## Bug by bug", "")
    yield from bugs(board)


def _exactness(accuracy: Accuracy) -> str:
    builtin = "" if accuracy.dtype == "float64" else f" ({accuracy.builtin:.2f})"
    return f"{accuracy.hand:.2f}{builtin}".rjust(15)


def _row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
