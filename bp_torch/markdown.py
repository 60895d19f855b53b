"""Tables of Markdown, for the terminal, for TensorBoard, and for the documentation."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Rows of cells below their headings; what the cells hold is Markdown."""
    return "\n".join([row(headings), rule(len(headings)), *map(row, rows)])


def row(cells: Iterable[object]) -> str:
    """One row."""
    return "| " + " | ".join(map(str, cells)) + " |"


def rule(columns: int) -> str:
    """The line between the headings and the first row."""
    return "|" + "---|" * columns


def escape(value: Any) -> str:
    """A value as Markdown that shows it as it is, on one line, also in a table."""
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return re.sub(r"([\\`*_{}\[\]()#|])", r"\\\1", html.escape(" ".join(shown.split()), quote=False))
