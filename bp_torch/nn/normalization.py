"""Modules of normalization."""

__all__: list[str] = []
