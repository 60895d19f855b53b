"""Modules built on the hand-written functions; drop-in for torch.nn's of the same name."""

from bp_torch.nn.mlp import *
from bp_torch.nn.modules import *
