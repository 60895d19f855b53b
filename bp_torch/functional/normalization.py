"""Normalization: batch, layer, group, instance, RMS, local response."""

__all__: list[str] = []
