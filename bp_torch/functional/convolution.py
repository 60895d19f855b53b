"""Convolution and transposed convolution."""

__all__: list[str] = []
