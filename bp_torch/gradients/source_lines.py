"""Name a line of a function in a message."""

import ast
import inspect
import textwrap
from pathlib import Path
from types import CodeType

from bp_torch.gradients.line_recorder import Step

MAX_WIDTH = 100


def location(step: Step) -> str:
    """The line of a step: `line 42 of mine.py, "ds = p * dp"`.

    Raises:
        OSError: if the source cannot be read.
    """
    statement, line, source = _statement(step.code, step.line, step.name)
    text = " ".join((ast.get_source_segment(source, statement) or "").split())
    text = textwrap.shorten(text, MAX_WIDTH, placeholder=" ...")
    return f'line {line} of {Path(step.code.co_filename).name}, "{text}"'


def _statement(code: CodeType, line: int, name: str) -> tuple[ast.stmt, int, str]:
    """The statement at a line that assigns a variable, the number of its first line, and the source of the function."""
    lines, first = inspect.getsourcelines(code)
    source = textwrap.dedent("".join(lines))
    statements = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    at = [node for node in statements if node.lineno <= line - first + 1 <= (node.end_lineno or node.lineno)]

    def rank(node: ast.stmt) -> tuple[int, bool, int]:
        stored = {x.id for x in ast.walk(node) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)}
        return (
            (node.end_lineno or 0) - node.lineno,
            name not in stored and not isinstance(node, ast.Return),
            node.lineno,
        )

    best = min(at, key=rank)
    return best, best.lineno + first - 1, source
