"""Modules of padding, windows and resampling."""

__all__: list[str] = []
