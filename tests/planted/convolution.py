"""Bugs of convolutions."""

from planted.bug import Bug, Original

BUGS: tuple[Bug, ...] = ()
ORIGINALS: tuple[Original, ...] = ()
