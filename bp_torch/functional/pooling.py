"""Pooling: the maximum, the mean or the norm of each window."""

__all__: list[str] = []
