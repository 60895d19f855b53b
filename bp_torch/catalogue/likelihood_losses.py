"""Entries of the losses of distributions."""

from functools import partial

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(24)
_op_info = partial(op_info, rejects_lists=True)


def _positive(x: Tensor) -> Tensor:
    """Map all numbers to positive ones; not to 0, where a logarithm has no derivative."""
    return 0.01 + torch.nn.functional.softplus(x)


_pair = (_draw(2, 3), _draw(2, 3).abs())
_REDUCTION = ErrorInput(_pair, ValueError, "reduction", {"reduction": "average"})
_NOT_BROADCAST = ErrorInput((_draw(2, 3), _draw(2)), RuntimeError, "")
_COMPLEX = ErrorInput((torch.zeros(2, dtype=torch.complex64), torch.ones(2)), NotImplementedError, "complex")

OP_INFOS = (
    _op_info(
        "kl_div",
        "∂C/∂x = −g t, ∂C/∂t = g (log t + 1 − x)",
        (
            Sample(
                (_draw(4, 3), _draw(4, 3).exp()),
                {"log_target": False, "reduction": "batchmean"},
                constraint={"target": _positive},
            ),
            Sample((_draw(4, 3), _draw(3)), {"log_target": True, "reduction": "none"}, axes="batch classes, classes"),
            Sample(
                (_draw(5), _draw(5).exp()), {"log_target": False, "reduction": "mean"}, constraint={"target": _positive}
            ),
        ),
        _REDUCTION,
        _NOT_BROADCAST,
        _COMPLEX,
        ErrorInput((torch.ones(2).long(), torch.ones(2)), RuntimeError, "'input'"),
        ErrorInput((torch.ones(2), torch.ones(2).long()), RuntimeError, "'target'"),
    ),
    _op_info(
        "poisson_nll_loss",
        "∂C/∂x = g (e^x − t), or g (1 − t / (x + ε)) for a rate x",
        (
            Sample((_draw(4, 3), _draw(4, 3).exp()), {"log_input": True, "full": False, "reduction": "mean"}),
            Sample(
                (_draw(4, 3).exp(), 4 * _draw(3).exp()),
                {"log_input": False, "full": True, "reduction": "none"},
                axes="batch channels, channels",
                constraint=_positive,
            ),
            Sample(
                (_draw(5), 4 * _draw(5).exp()),
                {"log_input": True, "full": True, "reduction": "sum"},
                constraint={"target": _positive},
            ),
        ),
        _REDUCTION,
        _NOT_BROADCAST,
        _COMPLEX,
    ),
    op_info(
        "gaussian_nll_loss",
        "∂C/∂x = g (x − t) / v, ∂C/∂v = ½ g (1 − (x − t)² / v) / v",
        (
            Sample(
                (_draw(4, 3), _draw(4, 3), _draw(4, 3).exp()),
                {"full": True, "reduction": "mean"},
                constraint={"var": _positive},
            ),
            Sample(
                (_draw(4, 3), _draw(3), _draw(4).exp()),
                {"full": False, "reduction": "none"},
                axes="batch channels, channels, batch",
                constraint={"var": _positive},
            ),
            Sample((_draw(5), _draw(5), 0.5), {"full": True, "reduction": "sum"}),
        ),
        ErrorInput((*_pair, _draw(2, 2).exp()), ValueError, r"var \(2, 2\)"),
        ErrorInput((*_pair, -_draw(2, 3).exp()), ValueError, "negative"),
        ErrorInput((*_pair, -0.5), ValueError, "negative"),
        ErrorInput((*_pair, 1.0), ValueError, "reduction", {"reduction": "average"}),
    ),
)
