"""Trainings that may be killed at any moment.

Run as a script, this is a process that has torch and the data already; for each line that it reads it forks a
training, so that a hundred of them take no hundred times the start of torch.
"""

import gc
import json
import math
import os
import resource
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
OPERATIONS = "open", "os.rename", "os.remove", "os.mkdir"


class TrainingServer:
    """Starts trainings, one at a time, in a folder."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, __file__]
        self.folder = folder
        self.program = f"{'python' if shutil.which('python') == sys.executable else sys.executable} {SCRIPT}"
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._running: list[int] = []

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def train(self, *flags: str, after: float = math.inf, **fate: int) -> int:
        """Train, and return the exit status, or minus the signal that killed it.

        Args:
            flags: as on the command line.
            after: seconds until it is killed.
            fate: it is killed `before` the so-many-th operation on a file; in the so-many-th it is `stuck`; no file may
                have more than `limit` bytes; in the so-many-th step, which is logged but not taken, it is on `hold`.
        """
        (pid,) = self.begin(*flags, **fate)
        if after < math.inf and not select.select([self._process.stdout], [], [], after)[0]:
            os.kill(pid, signal.SIGKILL)
        return self.end()[0]

    def begin(self, *flags: str | list[str], processes: int = 1, **fate: int) -> list[int]:
        """Begin to train, in so many processes as torchrun would start them; returns their numbers."""
        assert self._process.stdin is not None
        for pid in self._running:  # which a test that failed has left
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._running:
            self._read()
        self._process.stdin.write(json.dumps([flags, processes, fate]) + "\n")
        self._process.stdin.flush()
        self._running = self._read()
        return self._running

    def torchrun(self, *commands: list[str]) -> list[int]:
        """Run torchrun with each of these arguments at once, which starts processes of its own; the exit statuses."""
        self.begin(*commands)
        return self.end()

    def wait_for_hold(self, processes: int = 1) -> None:
        """Wait until all are on hold."""
        for rank in range(processes):
            wait_for(self.folder / f"held{rank}")

    def proceed(self) -> None:
        """Let those on hold go on."""
        (self.folder / "proceed").touch()

    def end(self) -> list[int]:
        """Their exit statuses, once all have ended."""
        statuses, self._running = self._read(), []
        return [os.waitstatus_to_exitcode(status) for status in statuses]

    def printed(self, rank: int = 0) -> str:
        """What the last training wrote to stderr, in one of its processes."""
        return (self.folder / f"stderr{rank}").read_text(encoding="utf-8")

    def errors(self, rank: int = 0) -> list[str]:
        """Its lines of errors; a traceback is a failure."""
        printed = self.printed(rank)
        assert "Traceback" not in printed, printed
        return [line for line in printed.splitlines() if line.startswith("error: ")]

    def costs(self, rank: int = 0) -> list[float]:
        """Of each step that the last training took, in one of its processes."""
        return [float(line) for line in (self.folder / f"costs{rank}").read_text().split()]

    def _read(self) -> list[int]:
        assert self._process.stdout is not None
        return [int(word) for word in self._process.stdout.readline().split()]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"there is no {path}"
        time.sleep(0.005)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _prepare() -> None:
    """Import what a training imports, and have a thousand digits to train on."""
    import torch
    from matplotlib.figure import Figure

    from bp_torch import data
    from bp_torch.dashboard import pictures
    from bp_torch.data.digits import draw

    torch.set_num_threads(1)
    train, test = (
        data.Split(draw(n, seed=s), n) for n, s in ((torch.arange(1000) % 10, 1), (torch.arange(200) % 10, 2))
    )
    digits = data.Dataset("digits", train, test, "a thousand digits")
    data.load = lambda *_, **__: digits
    blank = pictures.render(Figure(figsize=(0.1, 0.1)))  # drawing takes longer than training
    pictures.draw_explanations = pictures.worst_digits = pictures.first_weights = lambda *_: blank
    runpy.run_path(str(SCRIPT), run_name="imported")
    torch.optim.SGD([torch.zeros(1)])  # which imports much
    gc.freeze()


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup ignores
    _prepare()
    print(0, flush=True)
    for line in sys.stdin:
        flags, processes, fate = json.loads(line)
        agents = any(isinstance(flag, list) for flag in flags)
        processes = len(flags) if agents else processes
        port, pids = free_port(), []
        for name in ("proceed", "stuck", "received"):
            Path(name).unlink(missing_ok=True)
        for rank in range(processes):
            Path(f"costs{rank}").write_text("")
            Path(f"held{rank}").unlink(missing_ok=True)
            if (pid := os.fork()) == 0:
                if agents:
                    _launch(flags[rank], rank)
                if processes > 1:
                    os.environ |= _launched(rank, processes, port)
                _train(flags, rank, **fate)
            pids.append(pid)
        print(*pids, flush=True)
        print(*(os.waitpid(pid, 0)[1] for pid in pids), flush=True)


def _launched(rank: int, count: int, port: int) -> dict[str, str]:
    """The environment that torchrun gives to the processes that it starts."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    return {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in place.items()}}


def _train(
    flags: list[str], rank: int, before: int = 0, limit: int = resource.RLIM_INFINITY, stuck: int = 0, hold: int = 0
) -> None:
    """Become a training that prints into files, and may kill itself."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    _print_into_files(rank)
    sys.argv = [str(SCRIPT), *flags]
    _write_costs(rank, hold)
    _note_signals()
    if before:
        sys.addaudithook(_before(before, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    if stuck:
        sys.addaudithook(_before(stuck, lambda: Path("stuck").touch()))
    _exit_after(lambda: runpy.run_path(str(SCRIPT), run_name="__main__"))


def _launch(arguments: list[str], rank: int) -> None:
    """Become torchrun."""
    from torch.distributed.run import main

    _print_into_files(rank)
    _exit_after(lambda: main(arguments))


def _print_into_files(rank: int) -> None:
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())


def _exit_after(work: Callable[[], object]) -> None:
    """End the process with its status, without tidying up, which takes longer than a training."""
    status = 0
    try:
        work()
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _write_costs(rank: int, hold: int) -> None:
    """Append each step's cost to a file at once, and in the so-many-th step hold until told to proceed."""
    from bp_torch.training.loop import Trainer

    make = Trainer.__init__

    def made(trainer: Any, *arguments: Any, **options: Any) -> None:
        make(trainer, *arguments, **options)
        sgd_step, taken = trainer.backend.sgd_step, 0

        def step(*arguments: Any) -> Any:
            nonlocal taken
            taken += 1
            if taken == hold:
                Path(f"held{rank}").touch()
                wait_for(Path("proceed"))
            cost = sgd_step(*arguments)
            with Path(f"costs{rank}").open("a") as file:
                print(repr(cost.item()), file=file)
            return cost

        trainer.backend.sgd_step = step

    Trainer.__init__ = made  # type: ignore[method-assign]


def _note_signals() -> None:
    """Touch a file when a signal has been received."""
    from bp_torch.training.state.saver import StopSignals

    receive = StopSignals._receive

    def received(signals: Any, *arguments: Any) -> None:
        receive(signals, *arguments)
        Path("received").touch()

    StopSignals._receive = received  # type: ignore[method-assign]


def _before(left: int, act: Callable[[], None]) -> Any:
    """A hook that acts before the so-many-th operation on a file in runs/, and then sleeps."""

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
