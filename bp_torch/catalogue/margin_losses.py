"""Entries of the margin losses."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, by_autograd, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(25)
_op_info = partial(op_info, rejects_lists=True)


def _signs(*shape: int) -> Tensor:
    """Draw labels 1 and −1."""
    return 2 * _draw.classes(*shape, below=2) - 1


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else getattr(losses, reduction)()


def _hinge(z: Tensor) -> Tensor:
    return torch.where(z > 0, z, 0)


def _multi_margin(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """PyTorch's has no second derivative."""
    index = target.unsqueeze(-1)
    losses = (_hinge(margin - input.gather(-1, index) + input) ** p).scatter(-1, index, 0).mean(-1)
    return _reduced(losses if weight is None else losses * weight[target], reduction)


def _multilabel_margin(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """PyTorch's has no second derivative. It is 0, as this is piecewise linear."""
    losses = torch.zeros_like(input[..., 0])
    given = (target < 0).cumsum(-1) == 0
    others = ~((torch.arange(input.shape[-1]).unsqueeze(-1) == target.unsqueeze(-2)) & given.unsqueeze(-2)).any(-1)
    for position in range(target.shape[-1]):
        label = target[..., position : position + 1].clamp_min(0)
        hinges = _hinge(1 - input.gather(-1, label) + input)
        losses = losses + torch.where(others & given[..., position : position + 1], hinges, 0).mean(-1)
    return _reduced(losses, reduction)


_x, _classes = _draw(4, 3), torch.tensor([0, 2, 2, 1])
_labels = torch.tensor([[1, 3, -1, 0], [2, -1, -1, -1], [0, 0, 1, -1]])
_COMPLEX = ErrorInput((torch.zeros(2, dtype=torch.complex64), torch.ones(2).long()), NotImplementedError, "complex")
_REDUCTION = ErrorInput((_x, _signs(4, 3)), ValueError, "reduction", {"reduction": "average"})

OP_INFOS = (
    op_info(
        "margin_ranking_loss",
        "∂C/∂a = −g t where m − t (a − b) ≥ 0, else 0",
        (
            Sample((_x, _draw(4, 3), _signs(4, 3)), {"margin": 0.5, "reduction": "mean"}),
            Sample(
                (_x, _draw(4, 1), _draw(1, 3)),
                {"margin": 0.0, "reduction": "none"},
                axes="batch channels, batch 1, 1 channels",
            ),
            Sample((_draw(5), _draw(5), _signs(5)), {"margin": 1.0, "reduction": "sum"}),
        ),
        ErrorInput((_x, _x, _draw(3)), RuntimeError, r"target \(3,\)"),
        ErrorInput((_x, _x, _x), ValueError, "reduction", {"reduction": "average"}),
        kinks=(Kink((2, 1, 1), -1, {"margin": 1.0}),),
    ),
    _op_info(
        "hinge_embedding_loss",
        "∂C/∂x = g where t = 1; −g where t = −1 and x ≤ m, else 0",
        (
            Sample((_x, _signs(4, 3)), {"margin": 1.0, "reduction": "mean"}),
            Sample((_x, torch.tensor([1, -1, 0])), {"margin": 0.5, "reduction": "none"}, axes="batch _, _"),
            Sample((_draw(5), _signs(5)), {"margin": 1.0, "reduction": "sum"}),
        ),
        _REDUCTION,
        _COMPLEX,
        kinks=(Kink((1, -1), -1),),
    ),
    _op_info(
        "soft_margin_loss",
        "∂C/∂x = −g t σ(−t x)",
        (
            Sample((_x, _signs(4, 3)), {"reduction": "mean"}),
            Sample((_x, _signs(3)), {"reduction": "none"}, axes="batch channels, channels"),
            Sample((_draw(5), _signs(5)), {"reduction": "sum"}),
        ),
        _REDUCTION,
        ErrorInput((_draw(3), _signs(2, 3)), RuntimeError, "shape|size"),
        ErrorInput((_x, _draw(4, 3).requires_grad_()), RuntimeError, "'target'"),
    ),
    _op_info(
        "multi_margin_loss",
        "∂C/∂x = g w / C · p zᵖ⁻¹ where z = m − x_y + x > 0; the class y gets minus their sum",
        (
            Sample((_x, _classes, 1, 0.8), {"reduction": "mean"}, axes="batch _, batch, ,"),
            Sample((_x, _classes, 2, 0.5), {"reduction": "none", "weight": _draw(3).exp()}, axes="batch _, batch, ,"),
            Sample((_draw(3), torch.tensor(1), 2, 0.3), {"reduction": "sum"}, axes="_, , ,"),
        ),
        ErrorInput((_x, _classes), ValueError, "reduction", {"reduction": "average"}),
        ErrorInput((_x, _classes), ValueError, "p == 1 and p == 2", {"p": 3}),
        ErrorInput((_x, _classes + 1), RuntimeError, "out of range"),
        ErrorInput((_x, _classes[:3]), RuntimeError, "target"),
        ErrorInput((_x, _classes.int()), RuntimeError, "Long"),
        ErrorInput((_x, _classes), RuntimeError, "weight", {"weight": _draw(2)}),
        reference=by_autograd(F.multi_margin_loss, _multi_margin),
    ),
    _op_info(
        "multilabel_margin_loss",
        "∂C/∂x = g / C · number of pairs with 1 − x_label + x_other > 0; negative for a label",
        (
            Sample((_draw(3, 4), _labels), {"reduction": "mean"}, axes="batch _, batch _"),
            Sample((_draw(3, 4), _labels), {"reduction": "none"}, axes="batch _, batch _"),
            Sample((_draw(4), _labels[0]), {"reduction": "sum"}, axes="_, _"),
        ),
        ErrorInput((_draw(3, 4), _labels), ValueError, "reduction", {"reduction": "average"}),
        ErrorInput((_draw(3, 4), _labels + 1), RuntimeError, "out of range"),
        ErrorInput((_draw(3, 4), _labels[:2]), RuntimeError, "target"),
        reference=by_autograd(F.multilabel_margin_loss, _multilabel_margin),
    ),
    _op_info(
        "multilabel_soft_margin_loss",
        "∂C/∂x = g w / C · (σ(x) − t)",
        (
            Sample((_x, _draw(4, 3).sigmoid()), {"weight": _draw(3).exp()}),
            Sample((_x, _draw(3).gt(0).double()), {"reduction": "none"}, axes="batch classes, classes"),
            Sample((_draw(5), _draw(5).sigmoid()), {"reduction": "sum"}),
        ),
        _REDUCTION,
        ErrorInput((_draw(), _draw()), IndexError, ""),
    ),
    _op_info(
        "triplet_margin_loss",
        "∂C/∂a = g (∂d(a, p)/∂a − ∂d(a, n)/∂a) where d(a, p) − d(a, n) + m ≥ 0, else 0",
        (
            Sample((_x, _draw(4, 3), _draw(4, 3)), {"swap": False, "margin": 0.7, "p": 2.0, "reduction": "mean"}),
            Sample(
                (_x, _draw(1, 3), _draw(4, 3)),
                {"swap": True, "margin": 0.7, "p": 3.0, "reduction": "none"},
                axes="batch features, 1 features, batch features",
            ),
            Sample((_draw(5), _draw(5), _draw(5)), {"swap": True, "margin": 2.0, "p": 1.5, "reduction": "sum"}),
        ),
        ErrorInput((_x, _x, _x), ValueError, "margin", {"margin": 0.0}),
        ErrorInput((_x, _x, _draw(3)), RuntimeError, r"negative \(3,\)"),
        kinks=(Kink((0, 1, -2), -2, {"eps": 0.0}),),
    ),
    op_info(
        "triplet_margin_with_distance_loss",
        "as triplet_margin_loss, for any distance d",
        (
            Sample((_x, _draw(4, 3), _draw(4, 3)), {"swap": True, "margin": 0.7, "reduction": "mean"}),
            Sample((_draw(5), _draw(5), _draw(5)), {"swap": False, "margin": 2.0, "reduction": "none"}),
        ),
        ErrorInput((_x, _x, _x), ValueError, "margin", {"margin": 0.0}),
        ErrorInput((_x, _x, _draw(3)), RuntimeError, r"negative \(3,\)"),
    ),
)
