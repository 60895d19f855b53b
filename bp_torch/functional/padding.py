"""Padding: constant, reflected, replicated, circular."""

__all__: list[str] = []
