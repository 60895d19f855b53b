"""TensorBoard in its own process, as a user starts it, and its answers."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen


class Answer(NamedTuple):
    """An answer of a server, also of an error."""

    status: int
    kind: str
    content: bytes


@contextmanager
def serving(logdir: Path, *options: str) -> Iterator[str]:
    """The address of a TensorBoard, which is stopped at the end of the block."""
    command = ["-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0", "--host", "127.0.0.1", *options]
    with NamedTemporaryFile() as said, subprocess.Popen([sys.executable, *command], stderr=said) as served:
        try:
            until(lambda: served.poll() is not None or address_in(Path(said.name)))
            assert served.poll() is None, Path(said.name).read_text()
            yield address_in(Path(said.name))
        finally:
            end(served)


def end(served: subprocess.Popen[bytes]) -> None:
    """Stop by SIGTERM, and then by SIGKILL, because TensorBoard can miss SIGTERM."""
    served.terminate()
    try:
        served.wait(timeout=5)
    except subprocess.TimeoutExpired:
        served.kill()


def address_in(said: Path) -> str:
    """Nothing, until it is said."""
    return "".join(re.findall(r" at (http://\S+/) ", said.read_text()))


def until(happens: Callable[[], Any], seconds: float = 60) -> None:
    """Wait until the condition holds, or a time limit; the test must assert the result."""
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.05)


def answer(address: str, path: str) -> Answer:
    try:
        with urlopen(f"{address}data/{path}", timeout=60) as given:
            return Answer(given.status, given.headers.get_content_type(), given.read())
    except HTTPError as error:
        with error:
            return Answer(error.code, error.headers.get_content_type(), error.read())


def get_json(address: str, path: str) -> Any:
    """The answer, parsed as JSON."""
    given = answer(address, path)
    assert (given.status, given.kind) == (200, "application/json"), given.content
    return json.loads(given.content)
