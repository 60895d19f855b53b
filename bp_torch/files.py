"""Files that are written whole or not at all, and survive a loss of power."""

import os
from contextlib import suppress
from pathlib import Path


def replace_file(path: Path, content: bytes, *, before: Path | None = None) -> None:
    """Put a file in place of the one that is there, which stays as it is if that fails half-way.

    Args:
        path: the file.
        content: all of it.
        before: where to put the file that is there; without it, that one is lost.

    Raises:
        OSError: if it cannot be written; nothing has been changed then.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before is not None and path.exists():
            path.replace(before)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    _keep_names(path.parent)


def _keep_names(folder: Path) -> None:
    """Have the disk keep which files there are, as it keeps their contents."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
