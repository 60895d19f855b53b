"""The console command `bp-torch`, with a module for each subcommand."""

import os
import signal
import sys
from importlib import import_module
from types import FrameType

import bp_torch

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
    if name in COMMANDS:
        sys.argv[:2] = [f"bp-torch {name}"]
        run_module(f"bp_torch.commands.{name}")
    if name in ("-h", "--help", "--version"):
        print(f"bp_torch {bp_torch.__version__}" if name == "--version" else USAGE)
        sys.exit()
    problem = f"unknown command {name!r}; expected" if name else "expected a command:"
    sys.exit(_error(f"{problem} one of {', '.join(COMMANDS)}"))


def run_module(module: str) -> None:
    """Import the module of a command and call its `main`.

    During the import, Ctrl-C exits at once: an exception would leave torch half imported.
    """
    _open_closed_streams()
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit_at_once)
    try:
        import_module("bp_torch.commands.cli")  # fails before torch is imported, which would print warnings
        command = import_module(module)
    except ModuleNotFoundError as error:
        sys.exit(_error(f"this command needs {error.name}: install bp_torch with its extra 'train'"))
    finally:
        signal.signal(signal.SIGINT, handler)
    command.main()


def _error(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _exit_at_once(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted\n")
    os._exit(130)


def _open_closed_streams() -> None:
    """Open closed standard streams on the null device; a data file must not get the number of stderr."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
