"""The run that shows what the gradient checker found, as tables on the Text tab."""

from pathlib import Path

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.values import text


def write_gradients(folder: Path, functions: str, scores: str) -> None:
    """Writes tables of Markdown as a run, in place of those that an earlier one left in TensorBoard.

    Args:
        folder: the run's; made if it does not exist. Nothing in it is removed.
        functions: a row for each function.
        scores: a row for each checker.
    """
    events = EventFile(folder)
    events.write([text(tags.CHECKED_FUNCTIONS, functions), text(tags.CHECKER_SCORES, scores)], step=0)
    events.close()
