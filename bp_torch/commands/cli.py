"""Command lines from dataclasses; a user's mistake is reported in one line."""

import atexit
import io
import logging
import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib import import_module
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any, TypeVar

import tyro

_Config = TypeVar("_Config")
_FRAME = " ╭╮╰╯│|+-─"


class UsageError(Exception):
    """The command line, or something that it names, cannot be used; the message is one line."""


def parse(config: type[_Config], arguments: Sequence[str], default: _Config | None = None) -> _Config:
    """Read a dataclass of flags from the command line; `default` has the values of flags that are not given.

    Raises:
        UsageError: for an unknown flag, or a value that does not fit, naming it.
    """
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):  # bytes that the locale cannot decode
            raise UsageError(f"the argument {argument!r} is not text in the encoding {sys.getfilesystemencoding()}")
    printed = io.StringIO()
    wanted = shutil.get_terminal_size().columns if {"-h", "--help"}.intersection(arguments) else 100_000
    try:  # in a narrow terminal tyro breaks numbers in two; with fewer than 10 columns its help does not end
        with redirect_stderr(printed), _columns(max(wanted, 40)):
            return tyro.cli(config, args=arguments, default=default or tyro.MISSING_NONPROP)
    except SystemExit as stop:
        if stop.code == 0:  # --help
            raise
        raise UsageError(_in_one_line(printed.getvalue())) from None


@contextmanager
def _columns(count: int) -> Iterator[None]:
    """Set COLUMNS temporarily."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def program() -> str:
    """How to call this program from the current folder: 'python scripts/train.py', or 'bp-torch train'."""
    processes = os.environ.get("LOCAL_WORLD_SIZE")
    torchrun = f"{installed('torchrun')} --nproc-per-node={processes}"
    if sys.argv[0].endswith(".py"):
        launcher = torchrun if processes else installed(Path(sys.executable).name)
        return f"{launcher} {shlex.quote(sys.argv[0])}"
    name, _, command = sys.argv[0].partition(" ")
    return f"{torchrun} --no-python {installed(name)} {command}" if processes else f"{installed(name)} {command}"


def dashboard(runs_dir: Path, tab: str) -> str:
    """The command that shows runs in TensorBoard, and the address of one of its tabs."""
    return f"{installed('tensorboard')} --logdir={shlex.quote(str(runs_dir))}, then open http://localhost:6006/#{tab}"


def installed(name: str) -> str:
    """A program of this Python environment: its name where PATH finds it, otherwise its path."""
    path = Path(sys.executable).with_name(name)
    if shutil.which(name) == str(path) or not path.exists():
        return name
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def import_object(name: str, flag: str) -> Any:
    """The object that 'package.module:object' or 'folder/file.py:object' names, found from the current folder too.

    Raises:
        UsageError: if there is none, or its module cannot be imported.
    """
    module, _, path = name.partition(":")
    if not module or not path:
        raise UsageError(f"{flag} {name!r} must be package.module:object or file.py:object")
    folder, file = os.path.split(module) if module.endswith(".py") else ("", module)
    if module.endswith(".py") and not os.path.isfile(module):
        raise UsageError(f"{flag} {name!r}: there is no file {module}")
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
    """Run a command and exit with its status; a user's mistake prints one line on stderr and exits with 2.

    Args:
        main: does the work and returns the exit status: 0 for success, 1 for a failed check.
        errors: exceptions in addition to UsageError and OSError whose message is that line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # for an encoding that lacks a character
    logging.basicConfig(format="%(message)s")
    logging.getLogger("bp_torch").setLevel(logging.INFO)  # reports downloads of MNIST
    user_errors: tuple[type[Exception], ...] = (UsageError, OSError, *errors)  # OSError: a full disk
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # the reader of the output has exited, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except user_errors as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # before other exit handlers, such as torch's
    sys.exit(status)


def _in_one_line(panel: str) -> str:
    """The message inside tyro's framed panel: below its title, the lines up to the next rule."""
    lines = dropwhile(_is_rule, (line.strip("│| ") for line in panel.splitlines()[1:]))
    words = " ".join(takewhile(lambda line: not _is_rule(line), lines)).split()
    return re.sub(r"^Error parsing \w+Config: ", "", " ".join(words))


def _is_rule(line: str) -> bool:
    return not line.strip(_FRAME)
