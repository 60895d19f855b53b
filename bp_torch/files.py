"""Atomic writes, and reads with a size limit."""

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from errno import EINVAL, ENOTSUP
from pathlib import Path


def atomic_write(path: Path, content: bytes | Iterable[bytes], *, backup: Path | None = None) -> None:
    """Replace a file's content in one step: other processes see the old content or the new, never a part.

    Args:
        path: the file.
        content: the new content, or chunks of it.
        backup: a path for the old content, which is lost by default.

    Raises:
        OSError: if writing fails; `path` then has its old content.
    """
    temporary = _unused_temporary(path)
    try:
        with temporary.open("xb") as file:  # "x": do not write through an existing symlink
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


def read_limited(path: Path, limit: int) -> bytes:
    """Read at most `limit` bytes.

    Raises:
        OSError: if reading fails, or `path` is not a regular file: reading a pipe could block.
    """
    if path.exists() and not path.is_file():
        raise OSError(EINVAL, "not a regular file")
    with path.open("rb") as file:
        return file.read(limit)


def _unused_temporary(path: Path) -> Path:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    return temporary


def _link_or_copy(path: Path, other: Path) -> None:
    """Hard-link `path` as `other`, or copy it if the file system has no hard links."""
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
