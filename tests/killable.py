"""Training processes that tests kill, pause or run out of disk space.

Run as a script, this is a server that has imported torch and drawn the data. It forks a training process for each line
of stdin, so a test does not wait for the import.
"""

import gc
import json
import math
import os
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
from importlib import import_module
from pathlib import Path
from resource import RLIM_INFINITY, RLIMIT_FSIZE, setrlimit
from typing import Any, Self

SCRIPT = Path(__file__).parents[1] / "scripts" / "train.py"
FILE_OPERATIONS = "open", "os.rename", "os.remove", "os.mkdir"


class TrainingServer:
    """Starts training runs in a folder, one at a time."""

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

    def train(self, *flags: str, kill_after: float = math.inf, **faults: int) -> int:
        """Train, and return the exit status, or minus the number of the signal that killed the process.

        Args:
            flags: the command line.
            kill_after: seconds until the process is killed.
            faults: as for `start`.
        """
        (pid,) = self.start(*flags, **faults)
        if kill_after < math.inf and not select.select([self._process.stdout], [], [], kill_after)[0]:
            os.kill(pid, signal.SIGKILL)
        return self.wait()[0]

    def start(self, *flags: str | list[str], processes: int = 1, **faults: int) -> list[int]:
        """Start a training run and return its process ids.

        Args:
            flags: the command line.
            processes: number of processes, with the environment that torchrun would give them.
            faults: `kill_at=n` kills a process before its n-th operation on a file in runs/, and `block_at=n` makes it
                sleep there; `pause_at=n` pauses it before the update of its n-th step; `file_size` limits its files to
                that many bytes.
        """
        assert self._process.stdin is not None
        for pid in self._running:  # left by a test that failed
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._running:
            self._read()
        self._process.stdin.write(json.dumps([flags, processes, faults]) + "\n")
        self._process.stdin.flush()
        self._running = self._read()
        return self._running

    def torchrun(self, *commands: list[str]) -> list[int]:
        """Run torchrun with each of these argument lists at the same time, and return the exit statuses."""
        self.start(*commands)
        return self.wait()

    def wait_for_pause(self, processes: int = 1) -> None:
        """Wait until every process is paused."""
        for rank in range(processes):
            wait_for(self.folder / f"paused{rank}")

    def unpause(self) -> None:
        (self.folder / "unpaused").touch()

    def stop_at_pause(self, pid: int, number: int, processes: int = 1) -> list[int]:
        """Send a signal to a process while all are paused, let them continue, and return the exit statuses."""
        self.wait_for_pause(processes)
        os.kill(pid, number)
        if number != signal.SIGKILL:
            wait_for(self.folder / "signalled")
        self.unpause()
        return self.wait()

    def wait(self) -> list[int]:
        """Wait for the processes to end, and return their exit statuses."""
        statuses, self._running = self._read(), []
        return [os.waitstatus_to_exitcode(status) for status in statuses]

    def stdout(self, rank: int = 0) -> str:
        """The output of one process of the last run."""
        return (self.folder / f"stdout{rank}").read_text(encoding="utf-8")

    def stderr(self, rank: int = 0) -> str:
        """The messages of one process of the last run."""
        return (self.folder / f"stderr{rank}").read_text(encoding="utf-8")

    def errors(self, rank: int = 0) -> list[str]:
        """The error lines of one process; a traceback fails the test."""
        stderr = self.stderr(rank)
        assert "Traceback" not in stderr, stderr
        return [line for line in stderr.splitlines() if line.startswith("error: ")]

    def costs(self, rank: int = 0) -> list[float]:
        """The cost of every step that one process of the last run took."""
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
    """Import what training imports, and replace the data by a thousand digits and the figures by empty ones."""
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
    import_module("bp_torch.commands.train")
    torch.optim.SGD([torch.zeros(1)])  # its first use imports many modules
    gc.freeze()


def _serve() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a background job of a shell
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored under nohup
    _prepare()
    print(0, flush=True)
    for line in sys.stdin:
        flags, processes, faults = json.loads(line)
        torchrun = any(isinstance(flag, list) for flag in flags)
        processes = len(flags) if torchrun else processes
        port, pids = free_port(), []
        for name in ("unpaused", "blocked", "signalled"):
            Path(name).unlink(missing_ok=True)
        for rank in range(processes):
            Path(f"costs{rank}").write_text("")
            Path(f"paused{rank}").unlink(missing_ok=True)
            if (pid := os.fork()) == 0:
                if torchrun:
                    _run_torchrun(flags[rank], rank)
                if processes > 1:
                    os.environ |= _torchrun_environment(rank, processes, port)
                _train(flags, rank, **faults)
            pids.append(pid)
        print(*pids, flush=True)
        print(*(os.waitpid(pid, 0)[1] for pid in pids), flush=True)


def _torchrun_environment(rank: int, count: int, port: int) -> dict[str, str]:
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    return {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", **{k: str(v) for k, v in numbers.items()}}


def _train(
    flags: list[str], rank: int, kill_at: int = 0, block_at: int = 0, pause_at: int = 0, file_size: int = RLIM_INFINITY
) -> None:
    """Run the training script with faults, and end the process."""
    setrlimit(RLIMIT_FSIZE, (file_size, file_size))
    _redirect_output(rank)
    sys.argv = [str(SCRIPT), *flags]
    _patch_trainer(rank, pause_at)
    _patch_signals()
    if kill_at:
        sys.addaudithook(_at_file_operation(kill_at, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    if block_at:
        sys.addaudithook(_at_file_operation(block_at, lambda: Path("blocked").touch()))
    _run_and_exit(lambda: runpy.run_path(str(SCRIPT), run_name="__main__"))


def _run_torchrun(arguments: list[str], rank: int) -> None:
    """Do what torchrun does, but fork its processes instead of starting new interpreters."""
    from torch.distributed.launcher import elastic_launch
    from torch.distributed.run import config_from_args, parse_args

    _redirect_output(rank)
    options = parse_args(["--start-method=fork", *arguments])
    config, _, _ = config_from_args(options)
    sys.argv = [options.training_script, *options.training_script_args]
    _run_and_exit(lambda: elastic_launch(config, _run_script)())


def _run_script() -> None:
    """Run the script; its exit status is raised as an error, because torchrun expects a function to return."""
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"exit status {end.code}") from None


def _redirect_output(rank: int) -> None:
    """Redirect stdout and stderr to files."""
    for stream, name in ((sys.stdout, "stdout"), (sys.stderr, "stderr")):
        os.dup2(os.open(f"{name}{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream.fileno())


def _run_and_exit(work: Callable[[], object]) -> None:
    """Run, and exit with the status, without the interpreter's cleanup, which takes longer than a training run."""
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


def _patch_trainer(rank: int, pause_at: int) -> None:
    """Append each step's cost to a file, and pause before step number `pause_at` until `unpause`."""
    from bp_torch.training.loop import Trainer

    init = Trainer.__init__

    def patched_init(trainer: Any, *arguments: Any, **options: Any) -> None:
        init(trainer, *arguments, **options)
        sgd_step, count = trainer.backend.sgd_step, 0

        def patched_step(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            if count == pause_at:
                Path(f"paused{rank}").touch()
                wait_for(Path("unpaused"))
            cost = sgd_step(*arguments)
            with Path(f"costs{rank}").open("a") as file:
                print(repr(cost.item()), file=file)
            return cost

        trainer.backend.sgd_step = patched_step

    Trainer.__init__ = patched_init  # type: ignore[method-assign]


def _patch_signals() -> None:
    """Touch a file after a signal was received."""
    from bp_torch.training.state.saver import StopSignals

    receive = StopSignals._receive

    def patched_receive(signals: Any, *arguments: Any) -> None:
        receive(signals, *arguments)
        Path("signalled").touch()

    StopSignals._receive = patched_receive  # type: ignore[method-assign]


def _at_file_operation(number: int, action: Callable[[], None]) -> Any:
    """An audit hook that acts before operation `number` on a file in runs/, and then sleeps."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        if event in FILE_OPERATIONS and "runs/" in str(arguments[0]):
            number -= 1
            if number == 0:
                action()
                time.sleep(60)

    return hook


if __name__ == "__main__":
    _serve()
