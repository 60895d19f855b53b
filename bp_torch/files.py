"""Files that are written whole or not at all, and read within a limit."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from errno import EINVAL, ENOTSUP
from pathlib import Path


def atomic_write(path: Path, content: bytes | Iterable[bytes], *, backup: Path | None = None) -> None:
    """Replace a file in one step: at every moment the old content or the new one has this name.

    Args:
        path: the file.
        content: all of it, or its parts.
        backup: where to keep the old content; without it, that is lost.

    Raises:
        OSError: if it cannot be written; the old file stays.
    """
    temporary = _unused_temporary(path)
    try:
        with temporary.open("xb") as file:  # a new file: never write through a link that someone left there
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        if backup is not None and path.exists():
            _link_or_copy(path, backup)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    _fsync_dir(path.parent)


def read_limited(path: Path, most: int) -> bytes:
    """Read at most `most` bytes.

    Raises:
        OSError: if it cannot be read, or is no regular file: a pipe might never end, or never begin.
    """
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, "it is no file")
    with path.open("rb") as file:
        return file.read(most)


def _unused_temporary(path: Path) -> Path:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    return temporary


def _link_or_copy(path: Path, other: Path) -> None:
    """Give a file a second name, or where the file system has no hard links, copy it."""
    temporary = _unused_temporary(other)
    try:
        os.link(path, temporary)
    except OSError:
        shutil.copyfile(path, temporary)
    temporary.replace(other)


def _fsync_dir(folder: Path) -> None:
    """Flush the directory, where the file system supports it."""
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
