"""Padding: constant, reflected, replicated, circular."""

__all__: list[str] = []

from torch.nn.functional import pad as pad
