"""The Text tab: what was run, and how it ended, as pages of Markdown."""

from collections.abc import Mapping
from textwrap import indent
from typing import Any

from bp_torch.markdown import escape, table
from bp_torch.training.logging.events import FailureEvent, RunFinished, RunStarted


def start_page(record: RunStarted) -> str:
    """Everything one needs to know to run it again, the data first."""
    return "\n\n".join(
        [
            f"## Data: {escape(record.data)}",
            f"**{escape(record.data_origin)}**",
            "## Command",
            _verbatim(record.command),
            f"## Model: {record.parameters:,} weights and biases",
            _verbatim(record.model),
            f"## Configuration: steps {record.step:,} to {record.steps:,}, processes {record.processes}",
            _table("setting", record.config),
            "## Versions",
            _table("package", record.versions),
        ]
    )


def failure_page(record: FailureEvent) -> str:
    """What ended the run, and the mini-batch by which it can be replayed."""
    examples = " ".join(map(str, record.examples.tolist()))
    return "\n\n".join([f"## At step {record.step:,}", escape(record.what), "## Examples", examples])


def finish_page(record: RunFinished) -> str:
    """The final figures."""
    return f"## After {record.step:,} steps\n\n{_table('figure', record.summary)}"


def _table(heading: str, values: Mapping[str, Any]) -> str:
    return table((heading, ""), (map(escape, item) for item in values.items()))


def _verbatim(text: str) -> str:
    """A block of code by indentation: nothing in the text can end it."""
    return indent(text, "    ")
