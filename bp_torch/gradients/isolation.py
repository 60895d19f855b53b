"""Run a generator in a child process, so that a crash of the function does not end this one."""

import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch

from bp_torch.gradients.call import CannotCheck

T = TypeVar("T")


class Crash(Exception):
    """The child process died: the message names the signal."""


def can_fork() -> bool:
    """Whether a child process can go on with the Tensors of this one: not with CUDA, and not on Windows."""
    return hasattr(os, "fork") and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def in_child(results: Callable[[], Iterator[T]], deadline: float) -> Iterator[T]:
    """The results of a generator that runs in a child process.

    Raises:
        Crash: if the child process dies.
        TimeoutError: if it is not done at the deadline, by `time.monotonic`.
    """
    reader, writer = Pipe(duplex=False)
    child = os.fork()
    if not child:
        reader.close()  # for an error, and not a wait, if this process is no longer there to read
        _run(results, writer)
    writer.close()
    try:
        yield from _received(reader, deadline)
    except EOFError:
        _, status = os.waitpid(child, 0)
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no signal"
        raise Crash(name) from None
    finally:
        reader.close()
        _end(child)


def _run(results: Callable[[], Iterator[Any]], writer: Connection) -> None:
    """Send every result; never return."""
    try:
        _forget_threads()
        gc.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for result in results():
                writer.send(result)
            writer.send(StopIteration())
        except CannotCheck as error:
            writer.send(error)
        except Exception:  # which may not be sendable
            writer.send(RuntimeError(traceback.format_exc()))
    finally:
        os._exit(0)


def _forget_threads() -> None:
    """The threads and processes of the parent are not in the child: those of PyTorch, and of its compiler."""
    torch.set_num_threads(1)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    if "torch._inductor.config" in sys.modules:
        sys.modules["torch._inductor.config"].compile_threads = 1  # type: ignore[attr-defined]


def _received(reader: Connection, deadline: float) -> Iterator[Any]:
    while True:
        if not reader.poll(max(deadline - time.monotonic(), 0)):
            raise TimeoutError
        value = reader.recv()
        if isinstance(value, StopIteration):
            return
        if isinstance(value, Exception):
            raise value
        yield value


def _end(child: int) -> None:
    """End the child process, if it still runs."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
