"""Bugs of layer, group and instance normalization."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm
from planted.alterations import in_fours
from planted.bug import Original
from planted.standardized import EPS, by_inverse, correctly, detached_sigma, equation_of, unbiased

_draw = RandomTensors(21)
_ROWS = (_draw(5, 3), _draw(3), _draw(3))

LAYER = Original(
    "layer_norm",
    LayerNorm,
    lambda x, w, b: F.layer_norm(x, (3,), w, b, EPS),
    (_ROWS, (_draw(2, 3, 3), _draw(3), _draw(3))),
    ((3,), EPS, None),
)
LAYER_OF_MATRICES = Original(
    "layer_norm over two axes",
    LayerNorm,
    lambda x, w, b: F.layer_norm(x, (2, 3), w, b, EPS),
    ((_draw(4, 2, 3), _draw(2, 3), _draw(2, 3)),),
    ((2, 3), EPS, None),
)
GROUP = Original(
    "group_norm",
    GroupNorm,
    lambda x, w, b: F.group_norm(x, 2, w, b, EPS),
    ((_draw(3, 4, 2), _draw(4), _draw(4)), (_draw(2, 6, 2, 2), _draw(6), _draw(6))),
    (2, EPS, None),
)
INSTANCE = Original(
    "instance_norm",
    InstanceNorm,
    lambda x, w, b: F.instance_norm(x, None, None, w, b, eps=EPS),
    ((_draw(3, 2, 4), _draw(2), _draw(2)), (_draw(2, 3, 2, 2), _draw(3), _draw(3))),
    (None, None, 0.0, EPS, None),
)

_INSTANCE = InstanceNorm.layout
_LAYER, _MATRICES = (partial(LayerNorm.layout, normalized_shape=shape) for shape in ((3,), (2, 3)))
_GROUP = partial(GroupNorm.layout, groups=2)


def _layer_outside(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    grad_input = equation_of(_LAYER)(g, x, torch.ones_like(weight))[0]
    return grad_input * weight, *equation_of(_LAYER)(g, x, weight)[1:]


def _from_output(g: Tensor, output: Tensor, weight: Tensor, bias: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """x̂ from the output: not where γ is 0."""
    return equation_of(_LAYER, standardized=lambda v, mean: ((output - bias) / weight, correctly(v, mean)[1]))(
        g, x, weight
    )


_layer = (
    LAYER.backward(
        "mean(δ) dropped", "dropped term", equation_of(_LAYER, lambda d, x, r, mean: (d - x * mean(d * x)) * r)
    ),
    LAYER.backward("x̂ mean(δ x̂) dropped", "dropped term", equation_of(_LAYER, lambda d, x, r, mean: (d - mean(d)) * r)),
    LAYER.backward("γ outside of the means", "wrong formula", _layer_outside),
    LAYER.backward("means over the batch", "reduction", equation_of(_LAYER, axes=(0,)), samples=(_ROWS,)),
    LAYER.backward("unbiased variance", "reduction", equation_of(_LAYER, standardized=unbiased)),
    LAYER.backward(
        "x̂ = (y − β) / γ", "overflow", _from_output, saved=lambda inputs, y: (y, inputs[1], inputs[2], inputs[0])
    ),
    LAYER.backward("σ detached in the backward", "second derivative", equation_of(_LAYER, standardized=detached_sigma)),
    LAYER.result("γ's gradient of whole fours", "sizes", weight=in_fours),
    LAYER_OF_MATRICES.backward("over the last axis only", "reduction", equation_of(_MATRICES, axes=(2,))),
    LAYER_OF_MATRICES.backward(
        "γ's gradient the same for all rows",
        "reduction",
        lambda g, x, w: (
            *equation_of(_MATRICES)(g, x, w)[:1],
            (d := equation_of(_MATRICES)(g, x, w)[1]).mean(0).expand_as(d),
        ),
    ),
)


def _interleaved(x: Tensor) -> Tensor:
    """Channels in the order in which every second one belongs to a group."""
    return x.unflatten(1, (-1, 2)).transpose(1, 2).flatten(1, 2)


def _of_interleaved_groups(g: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    other = _interleaved(weight[None])[0]
    grad_input, *sums = equation_of(_GROUP)(_interleaved(g), _interleaved(x), other)
    back = grad_input.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
    return back, *(each.unflatten(0, (2, -1)).t().flatten() for each in sums)


_group_and_instance = (
    GROUP.backward(
        "mean(δ) dropped", "dropped term", equation_of(_GROUP, lambda d, x, r, mean: (d - x * mean(d * x)) * r)
    ),
    GROUP.backward("groups interleaved", "position", _of_interleaved_groups),
    GROUP.backward("all channels as one group", "reduction", equation_of(partial(GroupNorm.layout, groups=1))),
    GROUP.backward("each channel as a group", "reduction", equation_of(_INSTANCE)),
    GROUP.backward(
        "means over the positions only", "reduction", equation_of(_GROUP, axes=(3,)), samples=GROUP.samples[:1]
    ),
    GROUP.result(
        "γ's gradient averaged over each group",
        "reduction",
        weight=lambda d: d.view(2, -1).mean(1, True).expand(2, len(d) // 2).reshape(-1),
    ),
    INSTANCE.backward("batch normalization's", "reduction", equation_of(BatchNorm.layout)),
    INSTANCE.backward("group normalization's", "reduction", equation_of(partial(GroupNorm.layout, groups=1))),
    INSTANCE.backward("ε forgotten", "epsilon", equation_of(_INSTANCE, standardized=by_inverse(torch.rsqrt))),
    INSTANCE.backward(
        "γ's gradient of the first example",
        "position",
        lambda g, x, w: (*equation_of(_INSTANCE)(g, x, w)[:1], *equation_of(_INSTANCE)(g[:1], x[:1], w)[1:]),
    ),
)

BUGS = (*_layer, *_group_and_instance)
ORIGINALS = (LAYER, LAYER_OF_MATRICES, GROUP, INSTANCE)
