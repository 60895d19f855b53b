"""Files that are written whole or not at all, and read no further than is sensible."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from errno import EINVAL, ENOTSUP
from pathlib import Path


def replace_file(path: Path, content: bytes | Iterable[bytes], *, before: Path | None = None) -> None:
    """Put a file in place of the one that is there, which stays as it is if that fails half-way.

    At every moment there is one or the other under this name.

    Args:
        path: the file.
        content: all of it, or its parts.
        before: where to keep the file that is there; without it, that one is lost.

    Raises:
        OSError: if it cannot be written.
    """
    temporary = _hidden(path)
    try:
        with temporary.open("xb") as file:  # a new one: nothing is written through a link that somebody left there
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            _name_too(path, before)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    _keep_names(path.parent)


def beginning(path: Path, most: int) -> bytes:
    """No more than so many bytes of a file, whoever made it so large.

    Raises:
        OSError: if it cannot be read; or is no file, such as a pipe, which might have no end, or no beginning.
    """
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, "it is no file")
    with path.open("rb") as file:
        return file.read(most)


def _hidden(path: Path) -> Path:
    """A name to write under, which is free."""
    hidden = path.with_name(f".{path.name}.new")
    hidden.unlink(missing_ok=True)
    return hidden


def _name_too(path: Path, other: Path) -> None:
    """Give a file another name beside its own, or where a disk knows no such thing, a copy."""
    temporary = _hidden(other)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(other)


def _keep_names(folder: Path) -> None:
    """Have the disk keep which files there are, as it keeps their contents; some, shared ones mostly, cannot."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (EINVAL, ENOTSUP):
            raise
    finally:
        os.close(descriptor)
