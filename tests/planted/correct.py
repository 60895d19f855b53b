"""Correct functions, for which any alarm is a false one.

Those of bp_torch's catalogue, the originals of the bugs, functions of PyTorch, custom Functions in several styles,
kernels of low precision, and functions as the field has them.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue import CATALOGUE, OpInfo
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.gradients.call import as_tensor
from bp_torch.sample import Sample
from planted import (
    activations,
    arithmetic,
    attention,
    classification,
    convolution,
    ctc,
    custom,
    dropout,
    embedding,
    field,
    fused,
    gathering,
    layer_normalization,
    likelihood_losses,
    linear,
    losses,
    low_precision,
    margin_losses,
    normalization,
    norms,
    piecewise_activations,
    pointwise,
    pooling,
    products,
    recurrent,
    resampling,
    shape,
    similarity,
    smooth_activations,
    softmax,
    statistics,
)
from planted.bug import CorrectFunction

FAMILIES = (
    linear,
    convolution,
    pooling,
    resampling,
    normalization,
    layer_normalization,
    norms,
    dropout,
    activations,
    piecewise_activations,
    smooth_activations,
    softmax,
    classification,
    losses,
    arithmetic,
    shape,
    pointwise,
    statistics,
    gathering,
    products,
    embedding,
    attention,
    recurrent,
    fused,
    likelihood_losses,
    margin_losses,
    similarity,
    ctc,
)
"""The modules of bugs in bp_torch's functions and of their originals."""
_draw = RandomTensors(17)


def _of_entry(entry: OpInfo) -> list[CorrectFunction]:
    """One per set of options without Tensors, with the first three samples of finite value."""
    calls: dict[str, list[Sample]] = {}
    options = {}
    for sample in entry.samples:
        no_tensors = not any(isinstance(value, Tensor) for value in sample.options.values())
        if no_tensors and as_tensor(entry.reference(*sample.args, **sample.options)).isfinite().all():
            name = ", ".join([entry.name, *(f"{key}={value}" for key, value in sample.options.items())])
            options[name] = sample.options
            calls.setdefault(name, []).append(replace(sample, options={}))
    return [
        CorrectFunction(
            f"bp_torch {name}",
            partial(entry.function, **options[name]),
            partial(entry.reference, **options[name]),
            tuple(samples[:3]),
        )
        for name, samples in calls.items()
    ]


with warnings.catch_warnings(action="ignore"):
    _catalogue = tuple(function for entry in CATALOGUE.values() for function in _of_entry(entry))

_originals = tuple(original.correct_function() for family in FAMILIES for original in family.ORIGINALS)


def _builtin(name: str, function: Callable[..., Tensor], *args: Any) -> CorrectFunction:
    return CorrectFunction(f"torch {name}", function, function, (args,))


_x = _draw(4, 6)
_builtins = (
    _builtin("abs", torch.abs, _x),
    _builtin("addmm", torch.addmm, _draw(3), _draw(4, 2), _draw(2, 3)),
    _builtin("amax", lambda x: torch.amax(x, 1), _x),
    _builtin("avg_pool1d", lambda x: F.avg_pool1d(x, 2), _draw(2, 3, 6)),
    _builtin("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), _x, _draw(6), _draw(6)),
    _builtin("bmm", torch.bmm, _draw(2, 3, 4), _draw(2, 4, 5)),
    _builtin("celu", F.celu, _x),
    _builtin("conv1d", F.conv1d, _draw(2, 3, 7), _draw(4, 3, 2), _draw(4)),
    _builtin("cosine_similarity", F.cosine_similarity, _x, _draw(4, 6)),
    _builtin("cumsum", lambda x: torch.cumsum(x, 1), _x),
    _builtin("embedding", lambda index, table: F.embedding(index, table), _draw.classes(5, below=4), _draw(4, 3)),
    _builtin("gelu", F.gelu, _x),
    _builtin("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), _draw(3, 4, 5), _draw(4), _draw(4)),
    _builtin("hardswish", F.hardswish, _x),
    _builtin("hardtanh", F.hardtanh, _x),
    _builtin("huber_loss", F.huber_loss, _x, _draw(4, 6)),
    _builtin("kl_div", lambda x, t: F.kl_div(x, t, reduction="batchmean"), _x.log_softmax(1), _x.softmax(1)),
    _builtin("layer_norm", lambda x, w, b: F.layer_norm(x, (6,), w, b), _x, _draw(6), _draw(6)),
    _builtin("lerp", torch.lerp, _x, _draw(4, 6), _draw(4, 6)),
    _builtin("logsumexp", lambda x: torch.logsumexp(x, 1), _x),
    _builtin("max of a dimension", lambda x: torch.max(x, 1).values, _x),
    _builtin("max_pool1d", lambda x: F.max_pool1d(x, 2), _draw(2, 3, 6)),
    _builtin("maximum", torch.maximum, _x, _draw(4, 6)),
    _builtin("mish", F.mish, _x),
    _builtin("norm", lambda x: torch.linalg.vector_norm(x, dim=1), _x),
    _builtin("prelu", F.prelu, _x, torch.tensor([0.25], dtype=torch.float64)),
    _builtin("prod", lambda x: torch.prod(x, 1), _x),
    _builtin("relu6", F.relu6, _x),
    _builtin("scaled_dot_product_attention", F.scaled_dot_product_attention, *(_draw(2, 5, 4) for _ in range(3))),
    _builtin("softmax", F.softmax, _x, 1),
    _builtin("softshrink", F.softshrink, _x),
    _builtin("sort", lambda x: torch.sort(x, 1).values, _x),
    _builtin("trace of a product", lambda a, b: (a @ b).trace(), _draw(3, 5), _draw(5, 3)),
    _builtin("var", lambda x: torch.var(x, 1), _x),
    _builtin("where", lambda x, y: torch.where(x > 0, x * y, y), _x, _draw(4, 6)),
)


def _custom(
    function: type[torch.autograd.Function], reference: Callable[..., Tensor], *samples: tuple[Any, ...]
) -> CorrectFunction:
    return CorrectFunction(f"custom {function.__name__}", function.apply, reference, samples)


_SAMPLES = ((_draw(4, 3),), (_draw(7),))
_customs = (
    _custom(custom.OldStyle, torch.exp, *_SAMPLES),
    _custom(custom.OnceDifferentiable, torch.tanh, *_SAMPLES),
    _custom(custom.InNumpy, F.softsign, *_SAMPLES),
    _custom(custom.Detached, torch.square, *_SAMPLES),
    _custom(custom.WithoutJvp, torch.sinh, *_SAMPLES),
    _custom(custom.WithoutVmap, torch.sin, *_SAMPLES),
    _custom(custom.OwnVmap, torch.sin, *_SAMPLES),
    _custom(custom.TakeRows, lambda table, index: table[index], (_draw(5, 3), torch.tensor([4, 0, 0, 2]))),
    _custom(custom.ScaleAndShift, lambda x, a, b: a * x + b, (_draw(4, 3), _draw(3), _draw(4, 1))),
    _custom(custom.RootMeanSquare, lambda x: x.square().mean(-1).sqrt(), *_SAMPLES),
    _custom(custom.OwnTemporary, torch.sigmoid, *_SAMPLES),
    _custom(custom.OnlyRequiredGradients, torch.matmul, (_draw(4, 3), _draw(3, 2))),
    _custom(custom.Recomputed, F.silu, *_SAMPLES),
    _custom(custom.Cube, lambda x: x**3, *_SAMPLES),
    _custom(custom.Clipped, F.hardtanh, *_SAMPLES),
    CorrectFunction(
        "custom MaxWithIndex",
        lambda x: custom.MaxWithIndex.apply(x)[0],  # type: ignore[no-untyped-call]
        lambda x: x.max(-1).values,
        ((_draw(4, 3),),),
    ),
)

CORRECT = (*_catalogue, *_originals, *_builtins, *_customs, *low_precision.CORRECT, *field.CORRECT)
