"""Bugs of complex numbers, of functions that subtract nearly equal numbers, and of mixed dtypes."""

import math

import torch
from torch import Tensor

from planted.field.entries import complex_numbers, conjugate_transposed, draw, wrong
from planted.low_precision.operation import by_rows

_z, _w = complex_numbers(4, 3), complex_numbers(4, 3)
_BF16 = torch.bfloat16


_complex = (
    wrong(
        "complex",
        "complex product: no conjugate",
        lambda a, b: (a * b, a, b),
        lambda g, a, b: (g * b, g * a),
        _z,
        _w,
    ),
    wrong(
        "complex",
        "complex product: conjugate of g too",
        lambda a, b: (a * b, a, b),
        lambda g, a, b: (g * b.conj(), (g * a.conj()).conj()),
        _z,
        _w,
    ),
    wrong(
        "complex",
        "complex matmul: transposed without conjugate",
        lambda a, b: (a @ b, a, b),
        lambda g, a, b: (g @ conjugate_transposed(b), a.mT @ g),
        _z,
        complex_numbers(3, 2),
    ),
    wrong(
        "complex",
        "|z|²: factor 2 dropped, as in Wirtinger's ∂/∂z̄",
        lambda z: ((z * z.conj()).real, z),
        lambda g, z: g * z,
        _z,
    ),
    wrong("complex", "|z|: conjugate", lambda z: (z.abs(), z), lambda g, z: g * z.conj() / z.abs(), _z),
    wrong("complex", "Im z: −i g", lambda z: (z.imag * 1.0,), lambda g: torch.complex(torch.zeros_like(g), -g), _z),
    wrong(
        "complex",
        "angle: turned the wrong way",
        lambda z: (z.angle(), z),
        lambda g, z: -1j * g * z / z.abs() ** 2,
        _z,
    ),
    wrong("complex", "eᶻ: no conjugate", lambda z: (y := z.exp(), y), lambda g, y: g * y, _z),
    wrong("complex", "fft: forward transform again", lambda z: (torch.fft.fft(z),), torch.fft.fft, _z),
    wrong("complex", "fft: divided by n", lambda z: (torch.fft.fft(z),), torch.fft.ifft, _z),
    wrong(
        "complex",
        "rfft: inner frequencies counted twice",
        lambda x: (torch.fft.rfft(x), x),
        lambda g, x: torch.fft.irfft(g, x.shape[-1]) * x.shape[-1],
        draw(4, 6),
    ),
    wrong(
        "complex",
        "real weight of a complex input: modulus for the real part",
        lambda z, w: (z * w, z, w),
        lambda g, z, w: (g * w, (g * z.conj()).abs()),
        _z,
        draw(4, 3),
    ),
)

_x = draw(5, 4)


def _log_cosh(x: Tensor) -> Tensor:
    return x.abs() + torch.log1p(torch.exp(-2 * x.abs())) - math.log(2)


_cancellation = (
    wrong(
        "cancellation",
        "1 − cos x: sin x from the value, without its sign",
        lambda x: (y := 1 - x.cos(), y),
        lambda g, y: g * (y * (2 - y)).sqrt(),
        _x,
    ),
    wrong(
        "cancellation", "1 − cos x: x for a small x", lambda x: (1 - x.cos(), x), lambda g, x: g * x.clamp(-1, 1), _x
    ),
    wrong(
        "cancellation",
        "log cosh x: 1 − e^(−2|x|) for tanh",
        lambda x: (_log_cosh(x), x),
        lambda g, x: -g * x.sign() * torch.expm1(-2 * x.abs()),
        _x,
    ),
    wrong(
        "cancellation",
        "log cosh x: 1 % too large",
        lambda x: (_log_cosh(x), x),
        lambda g, x: 1.01 * g * x.tanh(),
        _x,
    ),
    wrong(
        "cancellation",
        "√(1 + x²) − 1: 1 + x² for its root",
        lambda x: ((1 + x * x).sqrt() - 1, x),
        lambda g, x: g * x / (1 + x * x),
        _x,
    ),
    wrong(
        "cancellation",
        "√(1 + x²) − 1: divided by the value",
        lambda x: (y := (1 + x * x).sqrt() - 1, x, y),
        lambda g, x, y: g * x / (y + 1e-6),
        _x,
    ),
    wrong(
        "cancellation",
        "log(1 + x²): 2 dropped",
        lambda x: (torch.log1p(x * x), x),
        lambda g, x: g * x / (1 + x * x),
        _x,
    ),
    wrong(
        "cancellation",
        "1 − exp(−x²): 0 below 0.01",
        lambda x: (-torch.expm1(-x * x), x),
        lambda g, x: torch.where(x.abs() < 0.01, 0, 2 * g * x * torch.exp(-x * x)),
        _x,
    ),
    wrong("cancellation", "eˣ − 1: y for y + 1", lambda x: (y := torch.expm1(x), y), lambda g, y: g * y, _x),
)

_low = draw(64, 8).to(_BF16)
_close = _low.float() + 0.01 * draw(64, 8).float()

_mixed = (
    wrong(
        "mixed dtypes",
        "scale in float32 of bfloat16: gradient summed in bfloat16",
        lambda x, s: (x.to(s.dtype) * s, x, s),
        lambda g, x, s: (g * s, by_rows(g.to(x.dtype) * x, torch.zeros_like(x[0]))),
        draw(512, 4).to(_BF16),
        draw(4).float(),
    ),
    wrong(
        "mixed dtypes",
        "squared error of bfloat16: float32 target rounded",
        lambda y, t: ((y.to(t.dtype) - t).square().mean(), y, t),
        lambda g, y, t: g * 2 * (y - t.to(y.dtype)) / y.numel(),
        _low.requires_grad_(),
        _close,
    ),
    wrong(
        "mixed dtypes",
        "int8 weight: gradient of the scale without the weight",
        lambda x, w, s: (x @ (w.to(s.dtype) * s).t(), x, w, s),
        lambda g, x, w, s: (g @ (w.to(s.dtype) * s), None, (g.t() @ x).sum().reshape(s.shape)),
        draw(16, 8),
        torch.arange(-20, 20, dtype=torch.int8).reshape(5, 8),
        draw(1),
    ),
    wrong(
        "mixed dtypes",
        "uint8 image: g rounded to int8",
        lambda image, mean: (image.to(mean.dtype) - mean,),
        lambda g: (None, -g.to(torch.int8).to(g.dtype).sum(0)),
        torch.arange(24, dtype=torch.uint8).reshape(6, 4),
        draw(4),
    ),
    wrong(
        "mixed dtypes",
        "float32 weight of float16: g converted to float16",
        lambda x, w: (x.to(w.dtype) * w, x, w),
        lambda g, x, w: (g.to(x.dtype) * w, (g.to(x.dtype) * x).to(w.dtype).sum(0)),
        draw(8, 4).half(),
        draw(4).float(),
    ),
)

BUGS = (*_complex, *_cancellation, *_mixed)
