"""Run a generator in a child process, so that a crash of the function does not end this one."""

import gc
import os
import pickle
import select
import signal
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import torch

T = TypeVar("T")
_HEADER = struct.Struct("!Q")


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
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _run(results, writer)
    os.close(writer)
    try:
        yield from _read(reader, deadline)
    except EOFError:
        _, status = os.waitpid(child, 0)
        name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "no signal"
        raise Crash(name) from None
    finally:
        os.close(reader)
        _end(child)


def _run(results: Callable[[], Iterator[Any]], writer: int) -> None:
    """Write every result to the pipe; never return."""
    try:
        torch.set_num_threads(1)  # the threads of this process are not in the child
        gc.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with os.fdopen(writer, "wb") as pipe:
            try:
                for result in results():
                    _write(pipe, result)
                _write(pipe, StopIteration())
            except Exception as error:
                _write(pipe, error)
    finally:
        os._exit(0)


def _write(pipe: Any, value: Any) -> None:
    data = pickle.dumps(value)
    pipe.write(_HEADER.pack(len(data)) + data)
    pipe.flush()


def _read(reader: int, deadline: float) -> Iterator[Any]:
    while True:
        header = _receive(reader, _HEADER.size, deadline)
        (size,) = _HEADER.unpack(header)
        value = pickle.loads(_receive(reader, size, deadline))
        if isinstance(value, StopIteration):
            return
        if isinstance(value, Exception):
            raise value
        yield value


def _receive(reader: int, size: int, deadline: float) -> bytes:
    data = b""
    while len(data) < size:
        ready, _, _ = select.select([reader], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        part = os.read(reader, size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _end(child: int) -> None:
    """End the child process, if it still runs."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
