"""Modules of dropout."""

__all__: list[str] = []
