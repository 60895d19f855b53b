"""The console command `bp-torch`, with a module for each subcommand.

Importing it makes Ctrl-C print "interrupted" instead of a traceback, also while torch is being imported, and opens the
standard streams that were closed by the shell.
"""

import os
import sys
from importlib import import_module
from types import TracebackType

COMMANDS = {
    "train": "train a network of hand-written layers on handwritten digits",
    "check": "check the gradients of a function",
    "explain": "show how one test digit nudges every weight, bias, activation and pixel",
    "experiments": "measure the claims of 3Blue1Brown's lecture on backpropagation",
}
USAGE = "\n".join(
    ["usage: bp-torch COMMAND [flags]   (bp-torch COMMAND --help lists them)", ""]
    + [f"  {name:<12} {summary}" for name, summary in COMMANDS.items()]
)


def main() -> None:
    """Run a subcommand and exit with its status."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("", "-h", "--help"):
        print(USAGE, file=sys.stdout if name else sys.stderr)
        sys.exit(0 if name else 2)
    if name not in COMMANDS:
        sys.exit(_error(f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}"))
    sys.argv[:2] = [f"bp-torch {name}"]
    try:
        import_module("bp_torch.commands.cli")  # fails before torch is imported, which would print warnings
        command = import_module(f"bp_torch.commands.{name}")
    except ModuleNotFoundError as error:
        sys.exit(_error(f"bp-torch needs {error.name}: install bp_torch with its extra 'train'"))
    command.main()


def _error(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _report_interrupt(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _open_closed_streams() -> None:
    """Open closed standard streams on the null device; a data file must not get the number of stderr."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


sys.excepthook = _report_interrupt
_open_closed_streams()
