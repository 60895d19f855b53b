"""Models of hand-written functions only, and each backward called directly, against autograd."""

import math
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

import bp_torch.functional as F
from bp_torch.functional import (
    adaptive_pooling,
    arithmetic,
    indexing,
    padding,
    pooling,
    reductions,
    resampling,
    selection,
    shape,
    windows,
)
from bp_torch.functional.function import Function

Tensors = dict[str, Tensor]


class Builtin:
    """PyTorch's own functions under the names of `bp_torch.functional`."""

    getitem = staticmethod(lambda input, index: input[index])
    expand = staticmethod(torch.Tensor.expand)
    linear = staticmethod(torch.nn.functional.linear)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def draw(**shapes: tuple[int, ...]) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()}


def residual_mlp(f: Any, x: Tensor, w: Tensor, b: Tensor, v: Tensor) -> Tensor:
    """Two blocks with shared weights, and a scale for each feature."""
    for _ in range(2):
        x = f.add(x, f.mul(f.sigmoid(f.linear(x, w, b)), v), alpha=0.5)
    return x


def attention(f: Any, x: Tensor, qkv: Tensor, out: Tensor, position: Tensor) -> Tensor:
    """Causal attention with two heads and position embeddings: softmax(q kᵀ / √d) v."""
    batch, length, width = x.shape
    x = f.add(x, f.expand(f.unsqueeze(position, 0), (batch, -1, -1)))
    parts = f.permute(f.reshape(f.matmul(x, qkv), (batch, length, 3, 2, width // 2)), (2, 0, 3, 1, 4))
    q, k, v = (f.getitem(parts, i) for i in range(3))  # (N, heads, T, d)
    scores = f.div(f.matmul(q, f.transpose(k, -2, -1)), math.sqrt(width // 2))
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    weights = f.softmax(f.masked_fill(scores, future, -math.inf), -1)
    return f.add(x, f.matmul(f.flatten(f.movedim(f.matmul(weights, v), 1, 2), 2), out))


def pooled_head(f: Any, x: Tensor, token: Tensor, w: Tensor) -> Tensor:
    """A class token in front, layer normalisation, and a maximum over the positions."""
    x = f.cat((f.expand(token, (x.shape[0], 1, -1)), x), 1)
    centred = f.sub(x, f.mean(x, -1, keepdim=True))
    scale = f.rsqrt(f.add(f.mean(f.square(centred), -1, keepdim=True), 1e-5))
    first, rest = f.split(f.mul(centred, scale), (1, x.shape[1] - 1), 1)
    return f.matmul(f.maximum(f.squeeze(first, 1), f.amax(f.abs(rest), 1)), w)


MODELS: dict[Callable[..., Tensor], Tensors] = {
    residual_mlp: draw(x=(5, 4), w=(4, 4), b=(4,), v=(4,)),
    attention: draw(x=(2, 3, 4), qkv=(4, 12), out=(4, 4), position=(3, 4)),
    pooled_head: draw(x=(2, 3, 4), token=(1, 1, 4), w=(4, 3)),
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_gradients_are_autograds(model: Callable[..., Tensor]) -> None:
    results = []
    for functions in (F, Builtin()):
        leaves = [x.clone().requires_grad_() for x in MODELS[model].values()]
        output = model(functions, *leaves)
        upstream = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).reshape(output.shape)
        results.append([output, *torch.autograd.grad(output, leaves, upstream)])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


class Context:
    """A minimal ctx, outside of autograd."""

    def __init__(self, inputs: tuple[Any, ...]) -> None:
        self.needs_input_grad = tuple(isinstance(x, Tensor) and x.is_floating_point() for x in inputs)

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        self.saved_tensors = tensors


_ROW, _MATRIX = torch.tensor([0.5, 2.0, -1.0]), torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3)
_BATCH = torch.arange(1.0, 13.0).reshape(2, 2, 3).double()
_IMAGES = torch.arange(16.0).reshape(1, 4, 2, 2)
CALLS: list[tuple[type[Function], tuple[Any, ...]]] = [
    (arithmetic.Add, (_ROW, _MATRIX, 2)),
    (arithmetic.Add, (_MATRIX.int(), _ROW, -1)),
    (arithmetic.Sub, (_ROW, _MATRIX, 2)),
    (arithmetic.Mul, (_ROW, _MATRIX)),
    (arithmetic.Mul, (_ROW, 2.5)),
    (arithmetic.Div, (_ROW, _MATRIX)),
    (arithmetic.DivRounded, (_ROW, _MATRIX, "floor")),
    (arithmetic.Pow, (_MATRIX, _ROW)),
    (arithmetic.Pow, (_ROW, 2)),
    (selection.Maximum, (_ROW, _MATRIX)),
    (selection.Minimum, (_ROW, _MATRIX)),
    (selection.Where, (_MATRIX > 2, _ROW, _MATRIX)),
    (selection.Where, (_MATRIX > 2, 0.0, _ROW)),
    (selection.MaskedFill, (_MATRIX > 2, torch.tensor(2.0), _MATRIX)),
    (selection.Amax, (_MATRIX, 1, False)),
    (reductions.Sum, (_ROW, 0, False, torch.float64)),
    (reductions.Mean, (_ROW, None, False, torch.float64)),
    (reductions.Matmul, (_BATCH, _ROW.double())),
    (reductions.Matmul, (_MATRIX, _BATCH.mT)),
    (shape.Expand, (_ROW, (2, 3))),
    (shape.To, (_ROW, torch.float64)),
    (indexing.Cat, (0, _ROW.unsqueeze(0), _MATRIX)),
    (indexing.Stack, (0, _ROW, _MATRIX[0])),
    (indexing.GetItem, (_MATRIX, slice(None), torch.tensor([2, 2]))),
    (pooling.AvgPool, (_BATCH.bfloat16(), 2, 2, 1, (0, 1), True, False, None)),
    (adaptive_pooling.AdaptiveAvgPool, (_BATCH.half(), 2, (3, 2))),
    (resampling.Interpolate, (_BATCH.bfloat16(), (4,), None, "linear", None, None, False)),
    (resampling.PixelShuffle, (_IMAGES, 2)),
    (resampling.PixelUnshuffle, (_IMAGES, 2)),
    (padding.ConstantPad, (_BATCH, (1, -1), 2.0)),
    (padding.CopyPad, (_BATCH.half(), (1, 2), "replicate", None)),
    (windows.Unfold, (_IMAGES, 2, 1, 1, 2)),
    (windows.Fold, (_BATCH.repeat(1, 2, 1), (2, 4), 2, 1, 0, 1)),
]


@pytest.mark.parametrize(("function", "inputs"), CALLS, ids=lambda value: getattr(value, "__name__", ""))
def test_gradients_have_the_shape_and_dtype_of_their_inputs(function: type[Function], inputs: tuple[Any, ...]) -> None:
    """Called directly, because autograd's engine silently sums and casts gradients of the wrong shape or dtype."""
    ctx = Context(inputs)
    output = function.forward(*inputs)
    function.setup_context(ctx, inputs, output)
    upstream = torch.cos(torch.arange(output.numel())).reshape(output.shape).to(output.dtype)
    gradients = function.backward(ctx, upstream)
    leaves = [x.clone().requires_grad_() if needs else x for x, needs in zip(inputs, ctx.needs_input_grad, strict=True)]
    expected = torch.autograd.grad(
        function.forward(*leaves), [x for x in leaves if isinstance(x, Tensor) and x.requires_grad], upstream
    )
    assert len(gradients) == len(inputs)
    torch.testing.assert_close([gradient for gradient in gradients if gradient is not None], list(expected))


_PAIR, _FLAT, _NAN = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 2.0]), math.nan
UNUSUAL: list[tuple[str, tuple[Any, ...]]] = [
    ("div", (torch.tensor([3, 200], dtype=torch.uint8), _PAIR)),
    ("div", (torch.tensor([True, False]), _PAIR)),
    ("div", (_PAIR, 0)),
    ("div", (torch.tensor([1e-3], dtype=torch.half), torch.tensor([1e-5], dtype=torch.half))),
    ("div", (torch.tensor([1e-20]), torch.tensor([1e-39]))),
    ("mul", (_PAIR, torch.tensor([True, False]))),
    ("pow", (_FLAT, 0)),
    ("pow", (_FLAT, torch.tensor([0.0, 0.0]))),
    ("pow", (torch.tensor([2, 0], dtype=torch.uint8), _FLAT)),
    ("rsqrt", (torch.tensor([0.0, -0.0, -1.0, math.inf, -math.inf, _NAN]),)),
    ("sqrt", (torch.tensor([0.0, -0.0, -1.0, math.inf, _NAN]),)),
    ("pow", (torch.tensor(2), torch.tensor([0.5, 1.5], dtype=torch.float64))),
    ("sum", (_MATRIX, [])),
    ("sum", (_MATRIX, numpy.int64(0))),
    ("mean", (_MATRIX, [])),
    ("amax", (_MATRIX, [])),
    ("getitem", (_MATRIX, ((1, 1, 0),))),
    ("getitem", (_MATRIX, numpy.array([1, 1, 0]))),
    ("getitem", (_MATRIX, (slice(None), numpy.array([0, 0])))),
    ("getitem", (_MATRIX, ([1, 1], [0, 0]))),
    ("getitem", (_MATRIX, [True, False])),
    ("getitem", (_MATRIX, [])),
    ("masked_fill", (_ROW, _ROW > 0, torch.tensor(2.0, dtype=torch.float64))),
    ("masked_fill", (_ROW.half(), _ROW > 0, 0.1)),
    ("linear", (_ROW, _ROW, torch.tensor(0.5))),
    ("linear", (_MATRIX, _MATRIX, torch.tensor(0.5, dtype=torch.float64))),
]


@pytest.mark.parametrize(("name", "args"), UNUSUAL, ids=[name for name, _ in UNUSUAL])
def test_unusual_arguments_behave_as_in_pytorch(name: str, args: tuple[Any, ...]) -> None:
    results = []
    for functions in (F, Builtin()):
        leaves = [x.clone().requires_grad_(x.is_floating_point()) if isinstance(x, Tensor) else x for x in args]
        output = getattr(functions, name)(*leaves)
        needed = [x for x in leaves if isinstance(x, Tensor) and x.requires_grad]
        results.append([output, *torch.autograd.grad(output, needed, torch.ones_like(output))])
    torch.testing.assert_close(*results, equal_nan=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda f, x: f.maximum(x, torch.tensor([1, 0, 2])),
        lambda f, x: f.minimum(torch.tensor([1, 0, 2]), x),
        lambda f, x: f.maximum(x[0].double(), x),
        lambda f, x: f.cat((torch.tensor([1]), x)),
        lambda f, x: f.stack((x, torch.tensor([1, 0, 2])), 1),
        lambda f, x: f.pow(torch.tensor([1, 0, 2]), x.half()),
    ],
)
def test_tangents_with_integer_operands_are_pytorchs(function: Callable[[Any, Tensor], Tensor]) -> None:
    hand, builtin = (torch.func.jvp(lambda x, f=f: function(f, x), (_ROW,), (_ROW,)) for f in (F, Builtin()))
    torch.testing.assert_close(hand, builtin)


def test_integers_have_no_tangent() -> None:
    _, tangent = torch.func.jvp(lambda x: F.to(x, torch.int64), (_ROW,), (_ROW,))
    assert not tangent.any()


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("sub", (torch.tensor(True), torch.tensor(True))),
        ("masked_fill", (_ROW, _ROW > 0, torch.tensor([2.0]))),
        ("masked_fill", (_ROW, (_ROW > 0).int(), 2.0)),
        ("linear", (_MATRIX, _MATRIX[0], _MATRIX[0])),
        ("linear", (_MATRIX[0], _MATRIX, _MATRIX[:, :2])),
    ],
)
def test_calls_that_pytorch_rejects_are_rejected(name: str, args: tuple[Any, ...]) -> None:
    for functions in (F, Builtin()):
        with pytest.raises(RuntimeError):
            getattr(functions, name)(*args)


def test_a_list_of_slices_is_rejected_as_an_index() -> None:
    with pytest.raises(TypeError, match="must be of integers or booleans"):
        F.getitem(_MATRIX, [slice(0, 2)])


@pytest.mark.parametrize(
    "view",
    [
        lambda f, x: f.reshape(x, (3, 2)),
        lambda f, x: f.flatten(x[0]),
        lambda f, x: f.transpose(x, 0, 1),
        lambda f, x: f.getitem(x, (slice(None), 1)),
        lambda f, x: f.chunk(x, 2)[0],
        lambda f, x: f.expand(x, (4, 2, 3)),
    ],
)
def test_views_are_views_and_must_not_be_changed_in_place(view: Callable[[Any, Tensor], Tensor]) -> None:
    x = torch.rand(2, 3, dtype=torch.float64, requires_grad=True)
    hand, builtin = view(F, x), view(Builtin(), x)
    assert (hand.data_ptr(), hand.stride()) == (builtin.data_ptr(), builtin.stride())
    with pytest.raises(RuntimeError, match="modified inplace"):
        hand.add_(1)
