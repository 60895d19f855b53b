"""Resampling: interpolation along each axis, and pixels moved between channels and space."""

__all__: list[str] = []
