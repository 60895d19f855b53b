"""Bugs that depend on arguments held fixed, and on the domain: packed halves, lengths, constrained inputs."""

import torch
from torch import Tensor

from bp_torch.sample import Sample
from planted.field.entries import draw, free, wrong


def _softmax_of_allowed(x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Softmax over the allowed components; rows without any are 0."""
    powers = (x - x.amax(-1, keepdim=True).detach()).exp() * mask
    return powers / powers.sum(-1, keepdim=True).clamp_min(1e-300), x, mask


def _softmax_gradient(g: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    y = x.masked_fill(~mask, -torch.inf).softmax(-1)  # NaN if nothing is allowed
    return y * (g - (g * y).sum(-1, keepdim=True))


def _mean_of_allowed(x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    return (x * x * mask).sum(-1) / mask.sum(-1).clamp_min(1), x, mask


def _up_to_length(x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    return x.square() * mask, x, mask


def _first_forbidden(g: Tensor, x: Tensor, mask: Tensor) -> Tensor:
    length = mask.int().argmin(-1, keepdim=True)  # 0 if all are allowed
    return 2 * g * x * (torch.arange(x.shape[-1]) < length)


def _normalised(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12) * w, x, w


def _normalised_gradient(g: Tensor, x: Tensor, w: Tensor) -> Tensor:
    norm: Tensor = x.norm(dim=-1, keepdim=True)
    y = x / norm  # NaN for a row of zeros
    return (g * w - y * (g * w * y).sum(-1, keepdim=True)) / norm


_x, _w, _b = free(4, 3), draw(2, 3), free(2)
_mask = torch.tensor([[True, True, False], [True, False, False], [False, True, True], [True, True, False]])
_prefix = torch.tensor([[True, True, False], [True, False, False], [True, True, False], [True, True, False]])

_fixed = (
    wrong(
        "fixed argument",
        "linear: stale frozen weight",
        lambda x, w, b: (x @ w.t() + b, w),
        lambda g, w: (g @ w, None, g.sum(0)),
        _x,
        _w,
        _b,
        registered=False,
    ),
    wrong(
        "fixed argument",
        "masked fill: stale mask",
        lambda x, mask: (x.masked_fill(~mask, 0), mask),
        lambda g, mask: g * mask,
        _x,
        _mask,
        registered=False,
    ),
    wrong(
        "fixed argument",
        "masked softmax: NaN for a fully masked row",
        _softmax_of_allowed,
        _softmax_gradient,
        _x,
        _mask,
    ),
    wrong(
        "fixed argument",
        "masked mean: divided by a count of 0",
        _mean_of_allowed,
        lambda g, x, mask: 2 * x * mask * (g / mask.sum(-1))[:, None],
        _x,
        _mask,
    ),
    wrong("fixed argument", "prefix mask: a full row has length 0", _up_to_length, _first_forbidden, _x, _prefix),
    wrong("fixed argument", "normalise: NaN at a row of zeros", _normalised, _normalised_gradient, _x, draw(3)),
    wrong(
        "fixed argument",
        "l2 distance: NaN at a tie with a frozen target",
        lambda x, t: ((x - t).abs() ** 1.5, x, t),
        lambda g, x, t: 1.5 * g * (x - t) / (x - t).abs().sqrt(),
        _x,
        draw(4, 3),
    ),
    wrong(
        "fixed argument",
        "l1 distance: 1 at a tie with a frozen target",
        lambda x, t: ((x - t).abs(), x, t),
        lambda g, x, t: torch.where(x >= t, g, -g),
        _x,
        draw(4, 3),
    ),
    wrong(
        "fixed argument",
        "gated tanh: tanh from the value over a frozen gate of 0",
        lambda x, w: (y := x.tanh() * w, y, w),
        lambda g, y, w: g * w * (1 - (y / w).square()),
        _x,
        draw(4, 3),
    ),
    wrong(
        "fixed argument",
        "two slopes: ≥ for > at a frozen gate of 0",
        lambda x, gate: (torch.where(gate > 0, x, 0.1 * x), gate),
        lambda g, gate: torch.where(gate >= 0, g, 0.1 * g),
        _x,
        draw(4, 3),
    ),
)


def swiglu(x: Tensor) -> tuple[Tensor, Tensor]:
    """SwiGLU of the halves of x, and what its backward needs."""
    a, b = x.chunk(2, -1)
    return a * a.sigmoid() * b, x


def swiglu_gradients(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The correct gradients of both halves."""
    a, b = x.chunk(2, -1)
    s = a.sigmoid()
    return g * b * s * (1 + a * (1 - s)), g * a * s


def _whole_vectors_only(g: Tensor, x: Tensor) -> Tensor:
    """Halves of whole vectors of 4: the remainder is 0."""
    parts = [
        torch.cat([d[:, : d.shape[1] // 4 * 4], 0 * d[:, d.shape[1] // 4 * 4 :]], 1) for d in swiglu_gradients(g, x)
    ]
    return torch.cat(parts, -1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of components, one of each half."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rotary(x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The rotated input, and what the backward needs."""
    return rotate(x, cos, sin), cos, sin


def _numbers(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _rotary_inputs(time: int = 5, half: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Input and tables for angles t / 10^(i / half)."""
    angle = torch.arange(time).double()[:, None] / 10 ** (torch.arange(half).double() / half)
    return _numbers(time, 2 * half).requires_grad_(), angle.cos(), angle.sin()


_rope = (Sample(_rotary_inputs(), axes="time 2*half, time half, time half", make=_rotary_inputs),)


def _mean_of_lengths(x: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
    mask = torch.arange(x.shape[1]) < lengths[:, None]
    return (x.square() * mask).sum(1) / lengths.clamp_min(1), x, mask, lengths


def _with_lengths(batch: int = 3, time: int = 5) -> tuple[Tensor, Tensor]:
    """The recipe includes a length of 0."""
    return _numbers(batch, time), (torch.arange(batch) * 2 + 1) % (time + 1)


def _segment_sums(x: Tensor, offsets: Tensor) -> tuple[Tensor, ...]:
    sizes = torch.cat([offsets[1:], offsets.new_tensor([len(x)])]) - offsets
    owner = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    return x.new_zeros(len(sizes), x.shape[1]).index_add(0, owner, x.square()), x, owner


def _logdet(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.logdet(), x


def cholesky(x: Tensor) -> tuple[Tensor, Tensor]:
    """The factor, which is what its backward needs."""
    y = torch.linalg.cholesky(x)
    return y, y


def _cholesky_gradient(g: Tensor, y: Tensor) -> Tensor:
    """Without the halved diagonal of Φ."""
    inverse: Tensor = torch.linalg.inv(y)
    return inverse.mT @ (y.mT @ g).tril() @ inverse


def positive_definite(size: int) -> Tensor:
    """A symmetric positive definite matrix."""
    root = draw(size, size)
    return root @ root.mT + torch.eye(size, dtype=root.dtype)


def _trapezoid(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    return torch.trapezoid(y, x), y


_psd = (Sample((positive_definite(4),), constraint="psd"),)
_simplex = (Sample((draw(3, 4).softmax(-1),), constraint="simplex"),)

_domain = (
    wrong(
        "domain",
        "packed swiglu: halves exchanged",
        swiglu,
        lambda g, x: torch.cat(swiglu_gradients(g, x)[::-1], -1),
        draw(4, 6),
    ),
    wrong("domain", "packed swiglu: only whole vectors of 4", swiglu, _whole_vectors_only, draw(4, 8)),
    wrong("domain", "rotary: rotated forward again", rotary, rotate, samples=_rope),
    wrong(
        "domain",
        "rotary: angles repeat after 16 positions",
        rotary,
        lambda g, cos, sin: rotate(g, *(t[torch.arange(len(g)) % 16] for t in (cos, -sin))),
        samples=_rope,
    ),
    wrong(
        "domain",
        "mean of lengths: NaN at length 0",
        _mean_of_lengths,
        lambda g, x, mask, lengths: 2 * x * mask * (g / lengths)[:, None],
        samples=(Sample((draw(3, 5), torch.tensor([1, 3, 5])), axes="batch time, batch", make=_with_lengths),),
    ),
    wrong(
        "domain",
        "mean of lengths: divided by the longest",
        _mean_of_lengths,
        lambda g, x, mask, lengths: 2 * x * mask * (g / x.shape[1])[:, None],
        draw(3, 5),
        torch.tensor([1, 3, 5]),
    ),
    wrong(
        "domain",
        "segment sums: last segment of the first two",
        _segment_sums,
        lambda g, x, owner: 2 * x * g[owner.clamp_max(len(g) - 2)],
        draw(7, 2),
        torch.tensor([0, 2, 2, 5]),
    ),
    wrong(
        "domain", "logdet: inverse of the diagonal", _logdet, lambda g, x: g * (1 / x.diagonal()).diag(), samples=_psd
    ),
    wrong("domain", "cholesky: diagonal not halved", cholesky, _cholesky_gradient, samples=_psd),
    wrong(
        "domain",
        "entropy of a simplex: log p dropped",
        lambda p: (torch.special.entr(p).sum(-1), p),
        lambda g, p: -g[:, None] * p,
        samples=_simplex,
    ),
    wrong(
        "domain",
        "angle between unit vectors: root dropped",
        lambda a, b: ((a * b).sum(-1).acos(), a, b),
        lambda g, a, b: tuple(-(g / (1 - (a * b).sum(-1) ** 2))[:, None] * t for t in (b, a)),
        samples=(Sample((draw(3, 4), draw(3, 4)), constraint="unit"),),
    ),
    wrong(
        "domain",
        "angle of a rotation: trace not halved",
        lambda r: (((r.trace() - 1) / 2).acos(), r),
        lambda g, r: -g / (1 - ((r.trace() - 1) / 2) ** 2).sqrt() * torch.eye(3, dtype=r.dtype),
        samples=(Sample((draw(3, 3),), constraint="orthogonal"),),
    ),
    wrong(
        "domain",
        "integral over sorted points: gradient of the last point dropped",
        _trapezoid,
        lambda g, y: g * (torch.cat([-(y[:1] + y[1:2]), y[:-2] - y[2:], 0 * y[:1]]) / 2),
        samples=(Sample((draw(6).sort().values.requires_grad_(), draw(6)), constraint={"argument 0": "sorted"}),),
    ),
)

BUGS = (*_fixed, *_domain)
