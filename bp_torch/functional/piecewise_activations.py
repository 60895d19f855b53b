"""Piecewise activations: hardtanh, threshold, shrink functions, parametric rectifiers."""

__all__: list[str] = []
