"""The equations: each operation as a Function with a hand-written backward, and the typed function that calls it.

Each function has the signature of its namesake in `torch.nn.functional` or `torch`. Each family has a file.
"""

import inspect

from bp_torch.functional.activations import *
from bp_torch.functional.adaptive_pooling import *
from bp_torch.functional.arithmetic import *
from bp_torch.functional.attention import *
from bp_torch.functional.bce import *
from bp_torch.functional.class_margin_losses import *
from bp_torch.functional.classification import *
from bp_torch.functional.convolution import *
from bp_torch.functional.ctc import *
from bp_torch.functional.dropout import *
from bp_torch.functional.embedding import *
from bp_torch.functional.embedding_bag import *
from bp_torch.functional.gated import *
from bp_torch.functional.gathering import *
from bp_torch.functional.indexing import *
from bp_torch.functional.likelihood_losses import *
from bp_torch.functional.linear import *
from bp_torch.functional.linear_cross_entropy import *
from bp_torch.functional.lora import *
from bp_torch.functional.losses import *
from bp_torch.functional.margin_losses import *
from bp_torch.functional.multi_head_attention import *
from bp_torch.functional.normalization import *
from bp_torch.functional.norms import *
from bp_torch.functional.ordering import *
from bp_torch.functional.padding import *
from bp_torch.functional.piecewise_activations import *
from bp_torch.functional.pointwise import *
from bp_torch.functional.pooling import *
from bp_torch.functional.products import *
from bp_torch.functional.rectifiers import *
from bp_torch.functional.recurrent import *
from bp_torch.functional.reductions import *
from bp_torch.functional.resampling import *
from bp_torch.functional.rotary import *
from bp_torch.functional.selection import *
from bp_torch.functional.shape import *
from bp_torch.functional.similarity import *
from bp_torch.functional.smooth_activations import *
from bp_torch.functional.softmax import *
from bp_torch.functional.statistics import *
from bp_torch.functional.windows import *

__all__ = sorted(name for name, value in globals().items() if inspect.isfunction(value))
