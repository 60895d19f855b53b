"""The equations: each layer as a Function with its backward written out, and the typed function that calls it.

Drop-in for `torch.nn.functional`, name by name: `import bp_torch.functional as F`.
"""

from bp_torch.functional.activations import elu, leaky_relu, relu, sigmoid, tanh
from bp_torch.functional.affine import linear
from bp_torch.functional.binary import binary_cross_entropy_with_logits
from bp_torch.functional.classification import cross_entropy, nll_loss
from bp_torch.functional.dense import dense
from bp_torch.functional.losses import l1_loss, mse_loss, smooth_l1_loss, squared_error
from bp_torch.functional.smooth_activations import gelu, silu, softplus
from bp_torch.functional.softmax import log_softmax, softmax

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dense",
    "elu",
    "gelu",
    "l1_loss",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "relu",
    "sigmoid",
    "silu",
    "smooth_l1_loss",
    "softmax",
    "softplus",
    "squared_error",
    "tanh",
]
