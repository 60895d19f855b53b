"""Bugs of rotary positions, gated units, low-rank adapters, and the linear layer with cross-entropy."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.fused import OP_INFOS
from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.gated import GeGLU, SwiGLU
from bp_torch.functional.linear_cross_entropy import LinearCrossEntropy
from bp_torch.functional.lora import LoraLinear
from bp_torch.functional.rotary import RotaryEmbedding
from bp_torch.functional.smooth_activations import GELUTanh
from bp_torch.sample import Sample
from planted.bug import Bug, Original, function_of

_draw = RandomTensors(41)
_REFERENCES = {entry.name: entry.reference for entry in OP_INFOS}


def _angles(*shape: int) -> tuple[Tensor, Tensor]:
    angles = 3 * _draw(*shape)
    return angles.cos(), angles.sin()


_QUERIES = (
    Sample((_draw(2, 3, 4), *_angles(3, 2)), axes="batch length 2*pairs, length pairs, length pairs"),
    Sample((_draw(2, 6), *_angles(2, 3)), axes="length 2*pairs, length pairs, length pairs"),
)
ROTARY = Original("rotary_embedding", RotaryEmbedding, _REFERENCES["rotary_embedding"], _QUERIES, (False,))
INTERLEAVED = Original(
    "rotary_embedding, interleaved",
    RotaryEmbedding,
    partial(_REFERENCES["rotary_embedding"], interleaved=True),
    _QUERIES,
    (True,),
)


def _rotary(name: str, kind: str, grad_input: Callable[..., tuple[Tensor, Tensor]]) -> Bug:
    """A bug in the gradient of x: (g₁, g₂, cos, sin) -> its two halves."""

    def backward(g: Tensor, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
        (x1, x2), (g1, g2) = x.chunk(2, -1), g.chunk(2, -1)
        grad_cos, grad_sin = (g1 * x1 + g2 * x2).sum_to_size(cos.shape), (g2 * x1 - g1 * x2).sum_to_size(sin.shape)
        return torch.cat(grad_input(g1, g2, cos, sin), -1), grad_cos, grad_sin

    return ROTARY.backward(name, kind, backward)


def _of_halves(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    ctx.interleaved = False
    return RotaryEmbedding.backward(ctx, g)


def _turned(ctx: Any, tangent: Tensor) -> Tensor:
    _, cos, sin = ctx.saved_tensors
    return RotaryEmbedding.forward(tangent, cos, sin, False)


_rotations = (
    _rotary("rotated forward again", "sign", lambda a, b, cos, sin: (a * cos - b * sin, b * cos + a * sin)),
    _rotary("sin and cos exchanged", "wrong formula", lambda a, b, cos, sin: (a * sin + b * cos, b * sin - a * cos)),
    _rotary("halves not exchanged back", "position", lambda a, b, cos, sin: (a * cos + a * sin, b * cos - b * sin)),
    _rotary("sin dropped", "dropped term", lambda a, b, cos, sin: (a * cos, b * cos)),
    _rotary(
        "angles of the first position",
        "position",
        lambda a, b, cos, sin: (a * cos[:1] + b * sin[:1], b * cos[:1] - a * sin[:1]),
    ),
    ROTARY.result("gradient of sin negated", "sign", sin=torch.neg),
    ROTARY.methods("tangents of the angles forgotten", "forward mode", jvp=lambda ctx, t, *_: _turned(ctx, t)),
    INTERLEAVED.methods("pairs taken by halves", "position", backward=_of_halves),
)


def _gate(a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """σ(a), silu(a) and its slope."""
    sigmoid = torch.sigmoid(a)
    return sigmoid, a * sigmoid, sigmoid + a * sigmoid * (1 - sigmoid)


def _by_exponential(a: Tensor) -> Tensor:
    return torch.exp(a) / (1 + torch.exp(a))


def _slope_saved(inputs: tuple[Tensor, ...], output: Tensor) -> tuple[Tensor, ...]:
    a, b = inputs
    return b, *(x.detach() for x in _gate(a)[1:])


_PAIRS = (Sample((_draw(3, 4), _draw(3, 4)), axes="rows columns, rows columns"),)
SWIGLU = Original("swiglu", SwiGLU, _REFERENCES["swiglu"], _PAIRS)
GEGLU = Original("geglu", GeGLU, _REFERENCES["geglu"], _PAIRS)


def _swiglu(name: str, kind: str, equation: Callable[..., tuple[Tensor, Tensor]]) -> Bug:
    """A bug of `SWIGLU`: (g, a, b, σ, silu, silu′) -> the gradients of a and b."""
    return SWIGLU.backward(name, kind, lambda g, a, b: equation(g, a, b, *_gate(a)))


_gates = (
    _swiglu("a σ′ dropped", "dropped term", lambda g, a, b, s, y, d: (g * b * s, g * y)),
    _swiglu("a forgotten in a σ′", "wrong formula", lambda g, a, b, s, y, d: (g * b * (s + s * (1 - s)), g * y)),
    _swiglu("gate and up exchanged", "position", lambda g, a, b, s, y, d: (g * y, g * b * d)),
    _swiglu("gate's gradient without up", "dropped term", lambda g, a, b, s, y, d: (g * d, g * y)),
    _swiglu("σ for silu in up's gradient", "wrong formula", lambda g, a, b, s, y, d: (g * b * d, g * s)),
    _swiglu("NaN for a large gate", "overflow", lambda g, a, b, s, y, d: (g * b * d, g * a * _by_exponential(a))),
    SWIGLU.backward(
        "slope saved by the forward",
        "second derivative",
        lambda g, b, y, d: (g * b * d, g * y),
        saved=_slope_saved,
    ),
    GEGLU.backward("a φ dropped", "dropped term", lambda g, a, b: (g * b * torch.special.ndtr(a), g * F.gelu(a))),
    GEGLU.backward(
        "slope of the tanh form", "wrong formula", lambda g, a, b: (g * b * GELUTanh.derivative(a), g * F.gelu(a))
    ),
)


_ADAPTED = (
    Sample(
        (_draw(4, 3), _draw(5, 3), _draw(5), _draw(2, 3), _draw(5, 2)),
        axes="batch in, out in, out, rank in, out rank",
    ),
)
LORA = Original("lora", LoraLinear, partial(_REFERENCES["lora_linear"], scaling=0.5), _ADAPTED, (0.5,))


def _lora(name: str, kind: str, **changed: Callable[..., Tensor]) -> Bug:
    """A bug of `LORA`: other gradients of some inputs, computed from (g, x, W, A, B)."""

    def backward(g: Tensor, x: Tensor, w: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        low = 0.5 * g @ b
        correct = {
            "x": g @ w + low @ a,
            "w": g.t() @ x,
            "bias": g.sum(0),
            "a": low.t() @ x,
            "b": 0.5 * g.t() @ (x @ a.t()),
        }
        return tuple(changed[key](g, x, w, a, b) if key in changed else value for key, value in correct.items())

    return LORA.backward(name, kind, backward)


def _tangent_without_b(ctx: Any, x: Tensor, w: Tensor, bias: Tensor, a: Tensor, b: Tensor, _: None) -> Tensor:
    return LoraLinear.jvp(ctx, x, w, bias, a, torch.zeros_like(b), None)


_adapters = (
    _lora("scaling missing in A's gradient", "factor", a=lambda g, x, w, a, b: (g @ b).t() @ x),
    _lora("scaling missing in B's gradient", "factor", b=lambda g, x, w, a, b: g.t() @ (x @ a.t())),
    _lora("scaling missing in x's gradient", "factor", x=lambda g, x, w, a, b: g @ w + g @ b @ a),
    _lora("x's gradient through W only", "dropped term", x=lambda g, x, w, a, b: g @ w),
    _lora("adapter added to W's gradient", "wrong formula", w=lambda g, x, w, a, b: g.t() @ x + 0.5 * b @ a),
    LORA.methods("tangent of B forgotten", "forward mode", jvp=_tangent_without_b),
)


_LOGITS = (Sample((_draw(5, 2), _draw(3, 2), _draw(3), _draw.classes(5, below=3)), axes="batch in, 3 in, 3, batch"),)


def _losses(x: Tensor, w: Tensor, b: Tensor, t: Tensor, smoothing: float = 0.0) -> Tensor:
    return F.cross_entropy(F.linear(x, w, b), t, reduction="none", label_smoothing=smoothing)


LOSS = Original("linear_cross_entropy", LinearCrossEntropy, _losses, _LOGITS, (None, 0.0, 2))
SMOOTHED = Original(
    "linear_cross_entropy, smoothed", LinearCrossEntropy, partial(_losses, smoothing=0.3), _LOGITS, (None, 0.3, 2)
)


def _loss(
    name: str,
    kind: str,
    delta: Callable[..., Tensor],
    weight_rows: Callable[[Tensor], Tensor] = lambda delta: delta,
    original: Original = LOSS,
) -> Bug:
    """A bug in δ: (z, onehot) -> δ without g; or in the rows of δ that count for the gradient of W."""

    def backward(g: Tensor, x: Tensor, w: Tensor, b: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        each = g.unsqueeze(1) * delta(F.linear(x, w, b), torch.eye(3, dtype=x.dtype)[t])
        return each @ w, weight_rows(each).t() @ x, each.sum(0)

    return original.backward(name, kind, backward, saved=lambda inputs, _: inputs[:4])


def _delta(z: Tensor, onehot: Tensor) -> Tensor:
    """The correct δ without smoothing."""
    return z.softmax(1) - onehot


def _whole_blocks(each: Tensor) -> Tensor:
    """The rows of blocks of two; a last one alone is replaced by 0."""
    rows = torch.arange(len(each)).unsqueeze(1)
    return torch.where(rows < len(each) // 2 * 2, each, 0)


def _of_blocks(z: Tensor, size: int = 2) -> Tensor:
    """The probabilities with a log-sum-exp for each block of classes."""
    return torch.cat([block.softmax(1) for block in z.split(size, 1)], 1)


def _last_block(each: Tensor) -> Tensor:
    rows = torch.arange(len(each)).unsqueeze(1)
    return torch.where(rows >= (len(each) - 1) // 2 * 2, each, 0)


_losses_of_rows = (
    _loss("onehot not subtracted", "dropped term", lambda z, onehot: z.softmax(1)),
    _loss("onehot alone", "dropped term", lambda z, onehot: -onehot),
    _loss("σ for softmax", "wrong formula", lambda z, onehot: z.sigmoid() - onehot),
    _loss("log-sum-exp of the block of classes", "wrong formula", lambda z, onehot: _of_blocks(z) - onehot),
    _loss("log-sum-exp of the first row", "position", lambda z, o: torch.exp(z - z[:1].logsumexp(1, True)) - o),
    _loss("last partial block forgotten", "sizes", lambda z, onehot: _whole_blocks(_delta(z, onehot))),
    _loss("dW from the last block only", "dropped term", _delta, _last_block),
    _loss("softmax detached", "second derivative", lambda z, onehot: z.softmax(1).detach() - onehot),
    _loss("NaN for large logits", "overflow", lambda z, o: torch.exp(z) / torch.exp(z).sum(1, keepdim=True) - o),
    LOSS.result("bias forgotten", "dropped term", bias=torch.zeros_like),
    _loss("smoothing forgotten", "dropped term", _delta, original=SMOOTHED),
    _loss(
        "smoothing not taken from the target",
        "factor",
        lambda z, onehot: z.softmax(1) - onehot - 0.3 / 3,
        original=SMOOTHED,
    ),
    _loss(
        "smoothing spread over the other classes",
        "wrong formula",
        lambda z, onehot: z.softmax(1) - 0.7 * onehot - 0.3 / 2 * (1 - onehot),
        original=SMOOTHED,
    ),
)


def _mean(x: Tensor, w: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(F.linear(x, w), t, ignore_index=1)


def _reduced(name: str, kind: str, delta: Callable[..., Tensor]) -> Bug:
    """A bug of the mean over the rows that are not ignored: (p, onehot, counted) -> δ without g."""

    def backward(g: Tensor, x: Tensor, w: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        p, onehot = F.linear(x, w).softmax(1), torch.eye(3, dtype=x.dtype)[t]
        each = g * delta(p, onehot, (t != 1).to(x.dtype).unsqueeze(1))
        return each @ w, each.t() @ x

    target = torch.tensor([0, 1, 2, 0, 1])
    samples = (Sample((_draw(5, 2), _draw(3, 2), target), axes="_ in, 3 in, _"),)
    return Bug(f"linear_cross_entropy, mean: {name}", kind, function_of(_with_inputs, backward), _mean, samples)


def _with_inputs(*inputs: Tensor) -> tuple[Tensor, ...]:
    return _mean(*inputs), *inputs


_reductions = (
    _reduced("onehot subtracted for ignored rows", "dropped term", lambda p, o, n: (p * n - o) / n.sum()),
    _reduced("ignored rows count", "dropped term", lambda p, o, n: (p - o) / n.sum()),
    _reduced("divided by all rows", "reduction", lambda p, o, n: (p - o) * n / len(n)),
)

BUGS = (*_rotations, *_gates, *_adapters, *_losses_of_rows, *_reductions)
ORIGINALS = (ROTARY, INTERLEAVED, SWIGLU, GEGLU, LORA, LOSS, SMOOTHED)
