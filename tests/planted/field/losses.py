"""Correct losses, constrained functions and complex functions."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.sample import Sample
from planted.field.arguments import cholesky, positive_definite
from planted.field.entries import complex_numbers, conjugate_transposed, draw, free, plain, right

_x, _t = draw(5, 4), draw(5, 4)
_classes = torch.tensor([1, 0, 3, 2, 1])
_signs = torch.tensor([1.0, -1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
_labels = torch.tensor([[1, 2, 2], [3, 1, 0]])


def _ctc(x: Tensor) -> Tensor:
    return F.ctc_loss(x.log_softmax(-1), _labels, torch.tensor([6, 5]), torch.tensor([3, 2]))


def _focal(x: Tensor) -> Tensor:
    log_p = x.log_softmax(-1)[torch.arange(5), _classes]
    return -((1 - log_p.exp()) ** 2 * log_p).mean()


def _info_nce(a: Tensor, b: Tensor) -> Tensor:
    return F.cross_entropy(F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).t() / 0.2, torch.arange(len(a)))


def _dice(x: Tensor, t: Tensor) -> Tensor:
    p = x.sigmoid()
    return 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)


def _pinball(x: Tensor, t: Tensor) -> Tensor:
    return torch.maximum(0.9 * (t - x), -0.1 * (t - x)).mean()


_losses = (
    plain("ctc_loss, labels in a closure", _ctc, draw(6, 2, 4)),
    plain("focal loss, labels in a closure", _focal, _x),
    plain("InfoNCE", _info_nce, _x, _t),
    plain("dice loss", _dice, draw(5, 4).requires_grad_(), (_t > 0).double()),
    plain("pinball loss", _pinball, _x.clone().requires_grad_(), _t),
    plain("triplet_margin_loss", F.triplet_margin_loss, _x, _t, draw(5, 4)),
    plain("multi_margin_loss", F.multi_margin_loss, _x, _classes),
    plain("cosine_embedding_loss", lambda a, b: F.cosine_embedding_loss(a, b, _signs), _x, _t),
    plain("poisson_nll_loss", F.poisson_nll_loss, free(5, 4), _t.square()),
    plain(
        "binary_cross_entropy",
        F.binary_cross_entropy,
        reference=F.binary_cross_entropy,
        samples=(Sample((free(6), draw(6).sigmoid()), constraint={"input": torch.sigmoid}),),
    ),
    plain(
        "gaussian_nll_loss",
        F.gaussian_nll_loss,
        reference=F.gaussian_nll_loss,
        samples=(Sample((_x, _t, draw(5, 4).exp()), constraint={"var": "positive"}),),
    ),
)


def _inverse(x: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.linalg.inv(x)
    return y, y


def _cholesky_gradient(g: Tensor, y: Tensor) -> Tensor:
    """L⁻ᵀ Φ(Lᵀ g) L⁻¹, made symmetric; Φ is the lower triangle with half of the diagonal."""
    product = (y.mT @ g).tril()
    product = product - product.diagonal().diag() / 2
    inverse: Tensor = torch.linalg.inv(y)
    gradient = inverse.mT @ product @ inverse
    return (gradient + gradient.mT) / 2


def _interpolated(knots: Tensor, values: Tensor) -> Tensor:
    """Linear interpolation at fixed points."""
    points = torch.linspace(-0.6, 0.6, 7, dtype=knots.dtype)
    right = torch.searchsorted(knots.detach(), points).clamp(1, len(knots) - 1)
    weight = (points - knots[right - 1]) / (knots[right] - knots[right - 1])
    return (1 - weight) * values[right - 1] + weight * values[right]


_psd = (Sample((positive_definite(3),), constraint="psd"),)
_simplex = (Sample((draw(3, 4).softmax(-1), draw(3, 4).softmax(-1)), constraint="simplex"),)
_unit = (Sample((draw(3, 4), draw(3, 4)), axes="batch _, batch _", constraint="unit"),)  # one number has no angle
_rotation = (Sample((torch.linalg.qr(draw(3, 3)).Q,), constraint="orthogonal"),)
_sorted = (Sample((draw(5).sort().values, draw(5)), constraint={"knots": "sorted"}),)

_constrained = (
    right("cholesky", cholesky, _cholesky_gradient, samples=_psd),
    right("logdet", lambda x: (x.logdet(), x), lambda g, x: g * torch.linalg.inv(x).mT, samples=_psd),
    right("inverse of a symmetric matrix", _inverse, lambda g, y: -y @ g @ y, samples=_psd),
    plain("inverse quadratic form", lambda x: torch.linalg.solve(x, x.new_ones(3)).sum(), samples=_psd),
    plain("trace of a matrix root", lambda x: torch.linalg.eigvalsh(x).sqrt().sum(), samples=_psd),
    right(
        "KL on the simplex, without the constant 1",
        lambda p, q: ((p * (p / q).log()).sum(-1), p, q),
        lambda g, p, q: (g[:, None] * (p / q).log(), -g[:, None] * p / q),
        samples=_simplex,
        compared=False,
    ),
    plain(
        "entropy of a simplex",
        lambda p: torch.special.entr(p).sum(-1),
        samples=(Sample((draw(3, 4).softmax(-1),), constraint="simplex"),),
    ),
    plain("angle between unit vectors", lambda a, b: 2 * torch.asin((a - b).norm(dim=-1) / 2), samples=_unit),
    right(
        "dot of unit vectors",
        lambda a, b: ((a * b).sum(-1), a, b),
        lambda g, a, b: (g[:, None] * b, g[:, None] * a),
        samples=_unit,
    ),
    plain("rotated vector", lambda r: r @ r.new_tensor([1.0, 2.0, 3.0]), samples=_rotation),
    right("inverse of a rotation", lambda r: (r.t() * 1.0,), lambda g: g.t(), samples=_rotation),
    plain("interpolation at sorted knots", _interpolated, samples=_sorted),
    plain(
        "log density of a gamma variable",
        lambda x: x.log() * 2 - x - torch.lgamma(x + 1),
        samples=(Sample((draw(4, 3).exp(),), constraint="positive"),),
    ),
)

_z, _w = complex_numbers(4, 3), complex_numbers(3, 2)


def _rfft_gradient(g: Tensor, x: Tensor) -> Tensor:
    whole: Tensor = torch.fft.ifft(g, x.shape[-1])  # 0 for the frequencies that are not returned
    return whole.real * x.shape[-1]


_complex = (
    right(
        "complex product",
        lambda a, b: (a * b, a, b),
        lambda g, a, b: (g * b.conj(), g * a.conj()),
        _z,
        complex_numbers(4, 3),
    ),
    right(
        "complex matmul",
        lambda a, b: (a @ b, a, b),
        lambda g, a, b: (g @ conjugate_transposed(b), conjugate_transposed(a) @ g),
        _z,
        _w,
    ),
    right("|z|²", lambda z: ((z * z.conj()).real, z), lambda g, z: 2 * g * z, _z),
    right("rfft", lambda x: (torch.fft.rfft(x), x), _rfft_gradient, draw(4, 6)),
    right(
        "real weight of complex",
        lambda z, w: (z * w, z, w),
        lambda g, z, w: (g * w, (g * z.conj()).real),
        _z,
        draw(4, 3),
    ),
    plain("phase and modulus", lambda z: (z.abs(), z / (1 + z.abs())), _z),
    plain("power spectrum", lambda x: torch.fft.fft(x).abs().square(), draw(3, 8)),
    plain("Möbius map", lambda z: (z - 0.5j) / (z + 2), _z),
    plain("polar", lambda r, phase: torch.polar(r.exp(), phase), draw(5), draw(5)),
)


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)


_h = draw(5, 4)
_cancelling = (
    right(
        "√(1 + x²) − 1",
        lambda x: ((1 + x * x).sqrt() - 1, x),
        lambda g, x: g * x / (1 + x * x).sqrt(),
        _h,
        compared=False,
    ),
    right("1 − cos x", lambda x: (1 - x.cos(), x), lambda g, x: g * x.sin(), _h, compared=False),
    right("log cosh x", lambda x: (_log_cosh(x), x), lambda g, x: g * x.tanh(), _h, compared=False),
    right("log(1 + x²)", lambda x: ((1 + x * x).log(), x), lambda g, x: 2 * g * x / (1 + x * x), _h),
    right("1 − exp(−x²)", lambda x: (1 - torch.exp(-x * x), x), lambda g, x: 2 * g * x * torch.exp(-x * x), _h),
    plain("√(1 + x²) − 1 by autograd", lambda x: (1 + x * x).sqrt() - 1, _h),
    plain("eˣ − 1 by autograd", lambda x: x.exp() - 1, _h),
    plain("1 − cosine similarity", lambda a, b: 1 - F.cosine_similarity(a, b), _h, 0.999 * _h + 0.001 * draw(5, 4)),
    plain("sharp attention", lambda q, k, v: (1000 * q @ k.t()).softmax(-1) @ v, *(draw(3, 4) for _ in range(3))),
)

CORRECT = (*_losses, *_constrained, *_complex, *_cancelling)
