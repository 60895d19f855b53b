"""Trainings that may be killed at any moment.

Run as a script, this is a process that has torch and the data already; for each line that it is told it forks a
training, so that a hundred of them take no hundred times the start of torch.
"""

import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
OPERATIONS = "open", "os.rename", "os.remove", "os.mkdir"


class Nursery:
    """Starts trainings, one at a time, in a folder."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__]
        self.folder = folder
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        self._hear()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def train(self, *flags: str, **deadly: float) -> int:
        """Train, and return the exit status, or minus the signal that it died of.

        Args:
            flags: as on the command line.
            deadly: `after` so many seconds, or `before` the so many-th operation on a file, it is killed.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([flags, deadly.get("before", 0)]) + "\n")
        self._process.stdin.flush()
        pid = self._hear()
        if "after" in deadly and not self._speaks(deadly["after"]):
            os.kill(pid, signal.SIGKILL)
        return os.waitstatus_to_exitcode(self._hear())

    def said(self) -> str:
        """What the last training said on stderr."""
        return (self.folder / "stderr").read_text(encoding="utf-8")

    def _speaks(self, seconds: float) -> bool:
        return bool(select.select([self._process.stdout], [], [], seconds)[0])

    def _hear(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())


def _serve() -> None:
    import torch

    from bp_torch.data import Dataset, Split
    from bp_torch.data.digits import draw
    from bp_torch.training import run

    torch.set_num_threads(1)
    train, test = torch.arange(1000) % 10, torch.arange(200) % 10
    digits = Dataset("digits", Split(draw(train, seed=1), train), Split(draw(test, seed=2), test), "a thousand digits")
    run.load = lambda *_, **__: digits
    runpy.run_path(str(SCRIPT), run_name="imported")
    torch.optim.SGD([torch.zeros(1)])  # which imports much
    print(0, flush=True)
    for line in sys.stdin:
        flags, before = json.loads(line)
        if (pid := os.fork()) == 0:
            _train(flags, before)
        print(pid, flush=True)
        print(os.waitpid(pid, 0)[1], flush=True)


def _train(flags: list[str], before: int) -> None:
    """Become a training that says what it says into files, and may kill itself."""
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    sys.argv = [str(SCRIPT), *flags]
    if before:
        sys.addaudithook(_deadly(before))
    runpy.run_path(str(SCRIPT), run_name="__main__")


def _deadly(left: int) -> Any:
    """A hook that kills this process before the so many-th operation on a file in runs/."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and "runs/" in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)

    return hook


if __name__ == "__main__":
    _serve()
