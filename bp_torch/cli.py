"""Command lines from dataclasses; a user's mistake is answered in one line.

A script imports this first: from then on Ctrl-C prints "interrupted" instead of a traceback, also while torch is still
being imported.
"""

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from itertools import dropwhile, takewhile
from types import TracebackType
from typing import Any, TypeVar

import tyro

_Config = TypeVar("_Config")
_FRAME = " ╭╮╰╯│|+-─"


class UsageError(Exception):
    """The command line, or something it names, cannot be used; the message is one line."""


def parse(config: type[_Config], arguments: Sequence[str]) -> _Config:
    """Read a dataclass of flags from the command line.

    Raises:
        UsageError: for an unknown flag, or a value that does not fit, naming it.
    """
    printed = io.StringIO()
    try:
        with redirect_stderr(printed):
            return tyro.cli(config, args=arguments)
    except SystemExit as stop:
        if stop.code == 0:  # --help
            raise
        raise UsageError(_in_one_line(printed.getvalue())) from None


def import_object(name: str, flag: str) -> Any:
    """The object that 'package.module:object' or 'folder/file.py:object' names, found from the current folder too.

    Raises:
        UsageError: if there is none, or its module cannot be imported.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise UsageError(f"{flag} {name!r} must be package.module:object or file.py:object")
    folder, file = os.path.split(module) if module.endswith(".py") else ("", module)
    sys.path.insert(0, os.path.abspath(folder))
    try:
        found: Any = import_module(file.removesuffix(".py"))
    except (Exception, SystemExit) as error:  # whatever a module raises while it is imported
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{flag} {name!r}: cannot import {module}: {type(error).__name__}: {reason}") from None
    for part in path.split("."):
        if not hasattr(found, part):
            raise UsageError(f"{flag} {name!r}: {getattr(found, '__name__', found)!r} has no {part!r}")
        found = getattr(found, part)
    return found


def run(main: Callable[[], int], *errors: type[Exception]) -> None:
    """Run a script and exit with its status; a user's mistake prints one line on stderr and exits with 2.

    Args:
        main: does the work and returns the exit status: 0 for success, 1 for a finding.
        errors: exceptions beside UsageError whose message is such a line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for a terminal that lacks a character
    mistakes: tuple[type[Exception], ...] = (UsageError, OSError, *errors)  # OSError: a full disk, for instance
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of our output has gone, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except mistakes as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    sys.exit(status)


def _before_run(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Handle a Ctrl-C that comes before `run`; leave other exceptions to Python."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _before_run


def _in_one_line(panel: str) -> str:
    """The message inside tyro's framed panel: below its title, the lines up to the next rule."""
    lines = dropwhile(_is_rule, (line.strip("│| ") for line in panel.splitlines()[1:]))
    words = " ".join(takewhile(lambda line: not _is_rule(line), lines)).split()
    return re.sub(r"^Error parsing \w+Config: ", "", " ".join(words))


def _is_rule(line: str) -> bool:
    return not line.strip(_FRAME)
