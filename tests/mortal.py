"""Trainings that may be killed at any moment.

Run as a script, this is a process that has torch and the data already; for each line that it is told it forks a
training, so that a hundred of them take no hundred times the start of torch.
"""

import gc
import json
import math
import os
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
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

    def train(self, *flags: str, after: float = math.inf, **fate: int) -> int:
        """Train, and return the exit status, or minus the signal that it died of.

        Args:
            flags: as on the command line.
            after: so many seconds it is killed.
            fate: `before` the so many-th operation on a file it is killed; in the so many-th it is `stuck`; no file may
                have more than `limit` bytes.
        """
        (pid,) = self.begin(*flags, **fate)
        if after < math.inf and not select.select([self._process.stdout], [], [], after)[0]:
            os.kill(pid, signal.SIGKILL)
        return self.end()[0]

    def begin(self, *flags: str, processes: int = 1, **fate: int) -> list[int]:
        """Begin to train, in so many processes as torchrun would start them; returns their numbers."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([flags, processes, fate]) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def end(self) -> list[int]:
        """How they ended, once all have."""
        return [os.waitstatus_to_exitcode(status) for status in self._hear()]

    def said(self, rank: int = 0) -> str:
        """What the last training said on stderr, in one of its processes."""
        return (self.folder / f"stderr{rank}").read_text(encoding="utf-8")

    def costs(self, rank: int = 0) -> list[float]:
        """Of each step that the last training took, in one of its processes."""
        return [float(line) for line in (self.folder / f"costs{rank}").read_text().split()]

    def _hear(self) -> list[int]:
        assert self._process.stdout is not None
        return [int(word) for word in self._process.stdout.readline().split()]


def _prepare() -> None:
    """Import what a training does, and have a thousand digits for it to learn from."""
    import torch
    from matplotlib.figure import Figure

    from bp_torch import data
    from bp_torch.dashboard import explanation_pictures, pictures
    from bp_torch.data.digits import draw

    torch.set_num_threads(1)
    train, test = (
        data.Split(draw(n, seed=s), n) for n, s in ((torch.arange(1000) % 10, 1), (torch.arange(200) % 10, 2))
    )
    digits = data.Dataset("digits", train, test, "a thousand digits")
    data.load = lambda *_, **__: digits
    blank = pictures.render(Figure(figsize=(0.1, 0.1)))  # to draw takes longer than to train
    explanation_pictures.probes = pictures.worst_digits = pictures.first_weights = lambda *_: blank
    runpy.run_path(str(SCRIPT), run_name="imported")
    torch.optim.SGD([torch.zeros(1)])  # which imports much
    gc.freeze()


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background has off
    _prepare()
    print(0, flush=True)
    for line in sys.stdin:
        flags, processes, fate = json.loads(line)
        port, pids = free_port(), []
        for rank in range(processes):
            Path(f"costs{rank}").write_text("")
            if (pid := os.fork()) == 0:
                if processes > 1:
                    os.environ |= _launched(rank, processes, port)
                _train(flags, rank, **fate)
            pids.append(pid)
        print(*pids, flush=True)
        print(*(os.waitpid(pid, 0)[1] for pid in pids), flush=True)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _launched(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells the processes that it starts."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    return {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in place.items()}}


def _train(flags: list[str], rank: int, before: int = 0, limit: int = resource.RLIM_INFINITY, stuck: int = 0) -> None:
    """Become a training that says what it says into files, and may kill itself."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())
    sys.argv = [str(SCRIPT), *flags]
    _tell_costs(Path(f"costs{rank}"))
    if before:
        sys.addaudithook(_before(before, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    if stuck:
        sys.addaudithook(_before(stuck, lambda: Path("stuck").touch()))
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(end.code or 0))  # without tidying up, which takes longer than the training


def _tell_costs(path: Path) -> None:
    """Have the cost of each step written into a file at once."""
    from bp_torch.training.learner import Learner

    make = Learner.__init__

    def made(learner: Any, *arguments: Any) -> None:
        make(learner, *arguments)
        step = learner.driver.sgd_step

        def told(*arguments: Any) -> Any:
            cost = step(*arguments)
            with path.open("a") as file:
                print(repr(cost.item()), file=file)
            return cost

        learner.driver.sgd_step = told

    Learner.__init__ = made  # type: ignore[method-assign]


def _before(left: int, act: Callable[[], None]) -> Any:
    """A hook that does something before the so many-th operation on a file in runs/, and then sleeps."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in OPERATIONS and "runs/" in str(arguments[0]):
            left -= 1
            if left == 0:
                act()
                time.sleep(60)

    return hook


if __name__ == "__main__":
    _serve()
