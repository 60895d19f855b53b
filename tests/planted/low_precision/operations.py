"""The operations, with their gradients and typical inputs."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import RandomTensors
from planted.low_precision.operation import Operation, up

EPS, CAP, DECAY = 1e-5, 5.0, 0.99

_draw = RandomTensors(19)


def _rms(x: Tensor, w: Tensor) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + EPS).rsqrt() * w


def rstd_of(x: Tensor) -> Tensor:
    """1 / RMS of each row, in float32 or float64."""
    return (up(x).square().mean(-1, keepdim=True) + EPS).rsqrt()


def rms_gradients(g: Tensor, x: Tensor, w: Tensor, rstd: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Gradients of x / RMS(x) · w for a given 1 / RMS(x)."""
    rstd = (x.square().mean(-1, keepdim=True) + EPS).rsqrt() if rstd is None else rstd
    normal = x * rstd
    scaled = g * w
    return rstd * (scaled - normal * (scaled * normal).mean(-1, keepdim=True)), (g * normal).sum(0)


def _layer(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred * (centred.square().mean(-1, keepdim=True) + EPS).rsqrt() * w + b


def layer_gradients(g: Tensor, x: Tensor, w: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of layer norm for given statistics."""
    normal = (x - mean) * rstd
    scaled = g * w
    centred = scaled - scaled.mean(-1, keepdim=True) - normal * (scaled * normal).mean(-1, keepdim=True)
    return rstd * centred, (g * normal).sum(0), g.sum(0)


def layer_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of each row."""
    mean = x.mean(-1, keepdim=True)
    return mean, ((x - mean).square().mean(-1, keepdim=True) + EPS).rsqrt()


def _normalise(x: Tensor) -> Tensor:
    return x * (x.square().sum(-1, keepdim=True) + EPS).rsqrt()


def normalise_gradient(g: Tensor, x: Tensor, inverse: Tensor) -> Tensor:
    """Gradient of x / |x| for a given 1 / |x|."""
    y = x * inverse
    return inverse * (g - y * (g * y).sum(-1, keepdim=True))


def softmax_gradient(g: Tensor, y: Tensor) -> Tensor:
    """Gradient of softmax from its output."""
    return y * (g - (g * y).sum(-1, keepdim=True))


def _cross_entropy(x: Tensor, target: Tensor) -> Tensor:
    return (x.logsumexp(-1) - x.gather(-1, target[:, None])[:, 0]).mean()


def one_hot(x: Tensor, target: Tensor) -> Tensor:
    """Ones at the targets, in the dtype of the logits."""
    return torch.zeros_like(x).scatter(-1, target[:, None], 1)


def cross_entropy_gradient(g: Tensor, x: Tensor, target: Tensor) -> tuple[Tensor, None]:
    """(softmax − one-hot) g / N."""
    return (x.softmax(-1) - one_hot(x, target)) * (g / len(x)), None


def _head_gradients(g: Tensor, x: Tensor, w: Tensor, target: Tensor) -> tuple[Tensor, Tensor, None]:
    scores, _ = cross_entropy_gradient(g, x @ w.t(), target)
    return scores @ w, scores.t() @ x, None


def _kl(x: Tensor, teacher: Tensor) -> Tensor:
    p, difference = teacher.softmax(-1), teacher.log_softmax(-1) - x.log_softmax(-1)
    return (p * difference).sum(-1).mean()


def kl_gradients(g: Tensor, log_q: Tensor, log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of KL(p ‖ q) for both logits, from the log-probabilities."""
    p, difference = log_p.exp(), log_p - log_q
    scale = g / len(p)
    return (log_q.exp() - p) * scale, p * (difference - (p * difference).sum(-1, keepdim=True)) * scale


def silu_slope(x: Tensor) -> Tensor:
    """Derivative of x σ(x)."""
    gate = torch.sigmoid(x)
    return gate * (1 + x * (1 - gate))


def _gelu_gradient(g: Tensor, x: Tensor) -> Tensor:
    return g * ((1 + torch.erf(x * 0.5**0.5)) / 2 + x * torch.exp(-x * x / 2) * 0.3989422804014327)


def gelu_tanh(x: Tensor) -> tuple[Tensor, Tensor]:
    """The tanh of GELU's approximation and the derivative of its argument."""
    return torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3)), 0.7978845608028654 * (1 + 0.134145 * x * x)


def _gelu_tanh_slope(x: Tensor) -> Tensor:
    t, slope = gelu_tanh(x)
    return (1 + t) / 2 + x * (1 - t * t) * slope / 2


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return probabilities(q, k) @ v


def attention_gradients(g: Tensor, q: Tensor, k: Tensor, v: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of attention for given probabilities."""
    scores = softmax_gradient(g @ v.t(), p) * q.shape[-1] ** -0.5
    return scores @ k, scores.t() @ q, p.t() @ g


def probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Softmax of the scaled scores."""
    return (q @ k.t() * float(q.shape[-1] ** -0.5)).softmax(-1)


def angles(x: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (T, 1) and frequencies (C,) of the rotary embedding."""
    positions = torch.arange(len(x), dtype=x.dtype)[:, None]
    return positions, torch.exp(torch.arange(x.shape[-1], dtype=x.dtype) * (-log(1e4) / max(1, x.shape[-1])))


def _rotary(a: Tensor, b: Tensor) -> Tensor:
    positions, frequencies = angles(a)
    cos, sin = (positions * frequencies).cos(), (positions * frequencies).sin()
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def rotated_back(g: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the rotary embedding for given angles."""
    a, b = g.chunk(2, -1)
    return a * angle.cos() + b * angle.sin(), b * angle.cos() - a * angle.sin()


def powers(count: int, decay: Tensor) -> Tensor:
    """decay^(count − 1), …, decay, 1 as a column."""
    return torch.stack([decay**n for n in reversed(range(count))])[:, None] if count else decay.new_zeros(0, 1)


def decay_in(dtype: torch.dtype) -> Tensor:
    """The decay as a Tensor."""
    return torch.tensor(DECAY, dtype=dtype)


def _scattered(rows: int, index: Tensor, g: Tensor) -> Tensor:
    return g.new_zeros(rows, g.shape[-1]).index_add(0, index, g)


def _one(rows: int, columns: int) -> tuple[Tensor]:
    return (_draw(rows, columns),)


def _two(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    return _draw(rows, columns), _draw(rows, columns)


def _with_weights(count: int) -> Callable[[int, int], tuple[Tensor, ...]]:
    return lambda rows, columns: (_draw(rows, columns), *(_draw(columns) for _ in range(count)))


def _offset(rows: int, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with a mean, as hidden states have."""
    return _draw(rows, columns) + _draw(rows, 1, scale=8.0), _draw(columns), _draw(columns)


def _labelled(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Logits of a trained network: the target is the most likely class of three rows in four."""
    logits, target = _draw(rows, columns, scale=2.0), _draw.classes(rows, below=columns)
    sure = torch.arange(rows)[torch.arange(rows) % 4 > 0]
    logits[sure, target[sure]] = logits[sure].amax(-1) + 4 + _draw(len(sure))
    return logits, target


def _student(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    teacher = _draw(rows, columns, scale=2.0)
    return teacher + _draw(rows, columns, scale=0.1), teacher


def _lookup(rows: int, columns: int) -> tuple[Tensor, Tensor]:
    return _draw(4, columns), _draw.classes(rows, below=4)


RMS_NORM = Operation("rms_norm", _rms, rms_gradients, _with_weights(1))
LAYER_NORM = Operation("layer_norm", _layer, lambda g, x, w, b: layer_gradients(g, x, w, *layer_statistics(x)), _offset)
NORMALISE = Operation(
    "normalise",
    _normalise,
    lambda g, x: normalise_gradient(g, x, (x.square().sum(-1, keepdim=True) + EPS).rsqrt()),
    _one,
)
SOFTMAX = Operation("softmax", lambda x: x.softmax(-1), lambda g, x: softmax_gradient(g, x.softmax(-1)), _one)
LOGSUMEXP = Operation("logsumexp", lambda x: x.logsumexp(-1), lambda g, x: g[:, None] * x.softmax(-1), _one)
CROSS_ENTROPY = Operation("cross_entropy", _cross_entropy, cross_entropy_gradient, _labelled)
CROSS_ENTROPY_32 = Operation("cross_entropy in float32", _cross_entropy, cross_entropy_gradient, _labelled, True)
HEAD = Operation(
    "linear and cross_entropy",
    lambda x, w, target: _cross_entropy(x @ w.t(), target),
    _head_gradients,
    lambda rows, columns: (_draw(rows, columns), _draw(24, columns), _draw.classes(rows, below=24)),
    True,
)
KL = Operation("kl", _kl, lambda g, x, t: kl_gradients(g, x.log_softmax(-1), t.log_softmax(-1)), _student)
MSE = Operation("mse", F.mse_loss, lambda g, x, t: ((x - t) * (2 * g / x.numel()), (t - x) * (2 * g / x.numel())), _two)
SILU = Operation("silu", lambda x: x * torch.sigmoid(x), lambda g, x: g * silu_slope(x), _one)
SWIGLU = Operation(
    "swiglu",
    lambda a, b: a * torch.sigmoid(a) * b,
    lambda g, a, b: (g * b * silu_slope(a), g * a * torch.sigmoid(a)),
    _two,
)
GELU = Operation("gelu", F.gelu, _gelu_gradient, _one)
GELU_TANH = Operation(
    "gelu by tanh", lambda x: x * (1 + gelu_tanh(x)[0]) / 2, lambda g, x: g * _gelu_tanh_slope(x), _one
)
GEGLU = Operation(
    "geglu",
    lambda a, b: F.gelu(a, approximate="tanh") * b,
    lambda g, a, b: (g * b * _gelu_tanh_slope(a), g * a * (1 + gelu_tanh(a)[0]) / 2),
    _two,
)
SOFT_CAP = Operation(
    "soft cap", lambda x: CAP * torch.tanh(x / CAP), lambda g, x: g * (1 - torch.tanh(x / CAP).square()), _one
)
BIAS = Operation("bias", torch.add, lambda g, x, b: (g, g.sum(0)), _with_weights(1))
AFFINE = Operation("affine", lambda x, w, b: x * w + b, lambda g, x, w, b: (g * w, (g * x).sum(0), g.sum(0)), _offset)
LINEAR = Operation(
    "linear",
    F.linear,
    lambda g, x, w, b: (g @ w, g.t() @ x, g.sum(0)),
    lambda rows, columns: (_draw(rows, columns), _draw(8, columns), _draw(8)),
)
RESIDUAL = Operation(
    "scaled residual",
    lambda x, branch, scale: x + branch * scale,
    lambda g, x, branch, scale: (g, g * scale, (g * branch).sum(0)),
    lambda rows, columns: (_draw(rows, columns), _draw(rows, columns), _draw(columns)),
)
GAIN = Operation(
    "gain",
    lambda x, s: x * s,
    lambda g, x, s: (g * s, (g * x).sum()),
    lambda rows, columns: (_draw(rows, columns), _draw()),
)
ATTENTION = Operation(
    "attention",
    _attention,
    lambda g, q, k, v: attention_gradients(g, q, k, v, probabilities(q, k)),
    lambda rows, columns: tuple(_draw(rows, columns) for _ in range(3)),
)
ROTARY = Operation(
    "rotary",
    _rotary,
    lambda g, a, b: rotated_back(g, angles(a)[0] * angles(a)[1]),
    _two,
)
CUMSUM = Operation("cumsum", lambda x: x.cumsum(0), lambda g, x: g.flip(0).cumsum(0).flip(0), _one)
DECAYED_SUM = Operation(
    "decayed sum",
    lambda x: (x * powers(len(x), decay_in(x.dtype))).sum(0),
    lambda g, x: g * powers(len(x), decay_in(x.dtype)),
    _one,
)
EMBEDDING = Operation(
    "embedding",
    lambda table, index: table[index],
    lambda g, table, index: (_scattered(len(table), index, g), None),
    _lookup,
)
POSITIONS = Operation(
    "embedding added",
    lambda x, table, index: x + table[index],
    lambda g, x, table, index: (g, _scattered(len(table), index, g), None),
    lambda rows, columns: (_draw(rows, columns), *_lookup(rows, columns)),
)
