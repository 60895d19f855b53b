"""Bugs of padding, windows and resampling."""

from planted.bug import Bug, Original

BUGS: tuple[Bug, ...] = ()
ORIGINALS: tuple[Original, ...] = ()
