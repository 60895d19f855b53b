"""The run that shows what the gradient checker found: tables on the Text tab, plots among the Images."""

from collections.abc import Sequence
from pathlib import Path

from bp_torch.dashboard import gradient_pictures, tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.values import image, text
from bp_torch.gradients import tables
from bp_torch.gradients.records import Scoreboard, Survey


def write_gradients(folder: Path, surveys: Sequence[Survey], board: Scoreboard) -> None:
    """Writes tables and plots as a run, in place of those that an earlier one left in TensorBoard.

    Args:
        folder: the run's; made if it does not exist. Nothing in it is removed.
        surveys: what became of each function.
        board: what each checker finds.
    """
    functions = "\n".join([*tables.functions(surveys), "", tables.ACCURACY])
    planted = "\n\n".join("\n".join(table) for table in (tables.scores(board), tables.kinds(board)))
    values = [
        text(tags.CHECKED_FUNCTIONS, functions),
        text(tags.CHECKER_SCORES, planted),
        image(tags.CHECKED_FUNCTIONS_PICTURE, gradient_pictures.accuracies(surveys)),
        image(tags.CHECKER_SCORES_PICTURE, gradient_pictures.caught(board)),
    ]
    events = EventFile(folder)
    events.write(values, step=0)
    events.close()
