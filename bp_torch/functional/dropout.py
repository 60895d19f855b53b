"""Dropout: random factors of 0 and 1/(1 − p)."""

__all__: list[str] = []
