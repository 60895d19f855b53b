"""Modules of convolutions."""

__all__: list[str] = []
