"""The run that shows what the gradient checker found, as tables on the Text tab."""

from pathlib import Path

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.values import text


def write_gradients(folder: Path, functions: str, scores: str) -> None:
    """Writes tables of Markdown, one of functions and one of checkers, in place of those of an earlier run there."""
    events = EventFile(folder)
    events.write([text(tags.CHECKED_FUNCTIONS, functions), text(tags.CHECKER_SCORES, scores)], step=0)
    events.close()
