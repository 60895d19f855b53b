"""Markdown tables for the terminal, TensorBoard and the documentation."""

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any


def table(headings: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table with headings; cells are inserted as Markdown, without escaping."""
    return "\n".join([row(headings), rule(len(headings)), *map(row, rows)])


def row(cells: Iterable[object]) -> str:
    """A row of a table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def rule(columns: int) -> str:
    """The line below the headings."""
    return "|" + "---|" * columns


def escape(value: Any) -> str:
    """Format a value on one line and escape it, so that Markdown shows it literally, also in a table cell."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return re.sub(r"([\\`*_{}\[\]()#|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
