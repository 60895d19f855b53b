"""TODO."""

from planted.bug import Bug, Original

BUGS: tuple[Bug, ...] = ()
ORIGINALS: tuple[Original, ...] = ()
