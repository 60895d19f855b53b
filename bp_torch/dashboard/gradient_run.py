"""The run that shows what the gradient checker found: tables on the Text tab, plots among the Images."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bp_torch.dashboard import gradient_pictures, tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.values import image, text
from bp_torch.gradients import entry_report


def write_gradients(
    folder: Path, reports: Sequence[entry_report.EntryReport], scores: str, caught: Mapping[str, Mapping[str, int]]
) -> None:
    """Writes tables and plots as a run, in place of those that an earlier one left in TensorBoard.

    Args:
        folder: the run's; made if it does not exist. Nothing in it is removed.
        reports: one for each function.
        scores: the scoreboard of checkers, as Markdown.
        caught: for each kind of bug, how many are planted and then how many each checker catches.
    """
    functions = "\n".join([entry_report.HEADINGS, *map(entry_report.row, reports), "", entry_report.ACCURACY])
    values = [
        text(tags.CHECKED_FUNCTIONS, functions),
        text(tags.CHECKER_SCORES, scores),
        image(tags.CHECKED_FUNCTIONS_PICTURE, gradient_pictures.accuracies(reports)),
        image(tags.CHECKER_SCORES_PICTURE, gradient_pictures.caught(caught)),
    ]
    events = EventFile(folder)
    events.write(values, step=0)
    events.close()
