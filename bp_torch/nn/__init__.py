"""Modules on the hand-written functions, and the lecture's network.

Each subclasses the torch.nn module of the same name, with a forward that calls `bp_torch.functional`. (*) is any shape.
"""

from bp_torch.nn.activations import *
from bp_torch.nn.attention import *
from bp_torch.nn.builtin import *
from bp_torch.nn.convolution import *
from bp_torch.nn.dropout import *
from bp_torch.nn.embedding import *
from bp_torch.nn.layers import *
from bp_torch.nn.losses import *
from bp_torch.nn.network import *
from bp_torch.nn.normalization import *
from bp_torch.nn.pooling import *
from bp_torch.nn.recurrent import *
from bp_torch.nn.resampling import *
from bp_torch.nn.transformer import *
