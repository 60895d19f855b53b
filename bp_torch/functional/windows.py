"""Sliding windows: unfold and fold."""

__all__: list[str] = []
