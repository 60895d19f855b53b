"""The Text tab: what was run, and how it ended, as pages of Markdown."""

import html
import re
from collections.abc import Iterable, Sequence
from textwrap import indent
from typing import Any

from bp_torch.training.logging.events import FailureEvent, RunFinished, RunStarted


def start_page(record: RunStarted) -> str:
    """Everything one needs to know to run it again, the data first."""
    return "\n\n".join(
        [
            f"## Data: {plain(record.data)}",
            f"**{plain(record.data_origin)}**",
            "## Command",
            _verbatim(record.command),
            f"## Model: {record.parameters:,} weights and biases",
            _verbatim(record.model),
            f"## Configuration: steps {record.first_step:,} to {record.steps:,}, processes {record.processes}",
            table(("setting", ""), record.config.items()),
            "## Versions",
            table(("package", ""), record.versions.items()),
        ]
    )


def failure_page(record: FailureEvent) -> str:
    """What ended the run, and the mini-batch by which it can be replayed."""
    examples = " ".join(map(str, record.examples.tolist()))
    return "\n\n".join([f"## At step {record.step:,}", plain(record.what), "## Examples", examples])


def finish_page(record: RunFinished) -> str:
    """The final figures."""
    return "\n\n".join([f"## After {record.step:,} steps", table(("figure", ""), record.summary.items())])


def plain(value: Any) -> str:
    """A value as Markdown that shows it as it is, on one line, also in a table."""
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return re.sub(r"([\\`*_{}\[\]()#|])", r"\\\1", html.escape(" ".join(shown.split()), quote=False))


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows of plain values below their headings."""
    lines = [headings, ["---"] * len(headings), *(map(plain, row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _verbatim(text: str) -> str:
    """A block of code by indentation: nothing in the text can end it."""
    return indent(text, "    ")
