"""A synthetic data set in the style of MNIST, for machines without internet access.

A digit consists of strokes, and a stroke is a spline through control points. Each image takes a random style of its
digit, perturbs the control points, stretches and slants the result, and draws it with a pen of random width. The
control points come from splines fitted to MNIST's *training* images.

Everything is computed in float64: rounding then rarely changes a pixel, and the faint edges of strokes do not become
denormal numbers, which are slow.
"""

import math
from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bp_torch.data.dataset import Dataset, Split
from bp_torch.threads import one_thread

# Each style: its digit, its frequency among that digit's styles in percent, and its strokes, separated by "|". A stroke
# is a list of control points "x y" in percent of the digit's size; y points down. Two close points form a corner.
_STYLES: Final = (
    (0, 60, "60 -1  32 11  8 43  1 80  25 100  65 87  90 52  84 16  60 0  39 10"),  # overlaps at the top
    (0, 40, "43 -2  19 21  1 59  6 93  39 99  73 76  85 39  71 5  44 0"),  # just closes
    (1, 88, "26 0  15 42  0 100"),
    (1, 6, "0 33  14 25  24 4  27 5  11 57  3 102"),  # with a flag
    (1, 6, "6 26  27 5  27 4  19 51  7 93 | -10 98  10 100  33 93"),  # with a flag and a base
    (2, 25, "-1 20  12 7  44 0  68 15  66 40  45 70  12 95  12 100  50 96  88 93"),
    (2, 49, "19 17  34 4  59 1  73 21  68 49  46 82  15 100  0 91  13 74  39 73  67 87  91 94"),  # with a loop
    (2, 26, "4 10  31 0  60 5  61 29  35 63  3 94  6 100  53 96  103 90"),  # like a Z
    (3, 46, "5 11  28 0  58 6  55 30  24 48  26 46  58 52  64 81  30 100  -3 89"),
    (3, 28, "-3 8  24 0  52 2  55 8  43 26  22 41  25 41  57 52  59 80  26 100  -2 91"),  # with a flat top
    (3, 26, "14 6  41 0  66 14  46 37  18 47  52 51  68 76  40 98  -4 98"),  # in one sweep
    (4, 61, "23 4  13 28  1 54  4 56  32 56  72 53 | 73 -2  56 49  39 103"),  # open
    (4, 9, "48 -3  30 28  3 59  4 64  38 62  75 60 | 59 3  54 49  47 103"),  # closed
    (4, 30, "14 4  0 36  6 49  40 48  57 32 | 64 -2  49 45  33 103"),  # open and round
    (5, 55, "25 6  15 24  10 44  10 46  39 42  65 55  64 84  28 100  -3 86 | 25 8  56 3  88 0"),  # the bar last
    (5, 20, "78 0  46 1  21 8  21 7  8 25  8 43  41 54  59 75  37 98  -4 99"),  # in one stroke
    (5, 25, "101 0  54 6  25 20  23 42  52 61  59 87  22 100  -2 87"),  # like an S
    (6, 23, "42 -2  23 16  5 49  1 82  22 100  50 89  54 66  34 56  9 68  6 82"),
    (6, 53, "46 -1  28 18  6 55  1 88  27 100  61 85  62 62  37 66  17 90"),  # with a low loop
    (6, 24, "31 -3  12 36  0 75  14 99  54 92  71 66  51 55  14 87"),  # with a straight back
    (7, 24, "-2 3  26 3  65 0  69 5  55 37  37 75  29 102"),
    (7, 12, "-2 6  23 3  58 1  61 3  51 34  42 74  39 102 | 15 52  43 50  77 45"),  # with a bar
    (7, 36, "-1 26  8 7  27 2  65 1  70 4  53 42  36 76  26 102"),  # with a serif
    (7, 28, "-1 11  24 2  63 1  73 19  58 58  35 102"),  # round
    (8, 35, "53 10  33 0  4 17  10 39  37 55  49 82  21 101  0 85  16 56  44 33  57 14"),
    (8, 17, "37 48  9 31  17 6  48 1  57 22  26 45  1 72  7 97  40 97  52 73  30 46  17 40"),  # from the middle
    (8, 48, "62 6  34 0  3 16  14 42  36 64  36 92  7 100  1 82  24 55  56 29  69 6"),  # open at the top
    (9, 42, "58 15  40 0  5 22  2 48  29 48  55 24  56 23  44 65  36 103"),
    (9, 32, "55 5  27 1  0 27  12 43  42 35  56 13  46 47  33 86  30 101"),  # with a bent tail
    (9, 26, "48 17  33 0  3 16  4 39  31 39  47 22  35 53  20 86  8 101"),  # with a slanted tail
)

_JITTER: Final = 0.05  # standard deviation of a control point, for a digit of size 1
_DISTORTION: Final = ((0.22, 0.25), (0.12, 0.0))  # standard deviations of the matrix that stretches, slants and tilts
_PEN: Final = 0.6  # median width of the pen in pixels, as the standard deviation of a Gaussian
_PEN_SPREAD: Final = 0.23  # standard deviation of the width's logarithm
_FLOW: Final = 8.0  # amount of ink; more ink makes the edges of a stroke sharper
_GRAIN: Final = 0.1  # largest fraction of the ink that the paper's grain removes
_POINTS: Final = 64  # points on the strokes of one digit, about one per pixel
_CHUNK: Final = 250  # digits drawn at once; the images depend on it. Larger chunks spend more time on allocation.


class _Styles(NamedTuple):
    """All S styles as tensors, padded to K control points each."""

    frequency: Tensor  # (10, S), frequency of each style of a digit, in percent
    controls: Tensor  # (S, K, 2), control points
    points: Tensor  # (S, K, P), weights of the control points in each of P points on the strokes
    steps: Tensor  # (S, K, P), weights of the control points in the pen's step at each of these points


def load_digits() -> Dataset:
    """Draw the data set: 20,000 training and 4,000 test images, each digit equally often, the same at every call."""
    train, test = _draw_split(20_000, seed=1), _draw_split(4_000, seed=2)
    return Dataset("digits", train, test, origin="Synthetic digits in the style of MNIST")


def draw(labels: Tensor, *, seed: int) -> Tensor:
    """Draw one handwritten digit for each label.

    A pen of width w moves through P points (xᵢ, yᵢ), with a step of length sᵢ at each. The ink at the pixel (x, y) is

        1 - exp(-D),   D = Σᵢ flow · sᵢ/(w√(2π)) · exp(-(yᵢ - y)²/2w²) · exp(-(xᵢ - x)²/2w²)

    D is the line integral of a Gaussian along the strokes; the ink saturates where strokes cross. Each term is a factor
    in y times a factor in x, so an image is a product of two (P, 28) matrices, D = Yᵀ X.

    Args:
        labels: int64 (N,), from 0 to 9.
        seed: the random seed; the same labels and seed give the same images.

    Returns:
        uint8 images (N, 28, 28), 0 for the background.

    Raises:
        ValueError: if a label is not a digit.
    """
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise ValueError(f"labels: expected digits from 0 to 9, got {int(labels.min())} to {int(labels.max())}")
    styles = _prepare_styles()
    generator = torch.Generator().manual_seed(seed)
    with one_thread():
        return torch.cat([_draw(chunk, styles, generator) for chunk in torch.split(labels, _CHUNK)])


def _draw_split(count: int, *, seed: int) -> Split:
    labels = torch.randperm(count, generator=torch.Generator().manual_seed(seed)) % 10
    return Split(draw(labels, seed=seed), labels)


def _draw(labels: Tensor, styles: _Styles, generator: torch.Generator) -> Tensor:
    style = torch.multinomial(styles.frequency[labels], 1, generator=generator).flatten()  # (N,)
    controls = _distort(styles.controls[style], generator)  # (N, K, 2)
    pen = _PEN * torch.exp(_PEN_SPREAD * _normal(len(labels), 1, 1, generator=generator))  # (N, 1, 1)
    points, lengths = _fit(styles.points[style].mT @ controls, styles.steps[style].mT @ controls, pen)
    ink = _ink(points, lengths, pen)  # (N, 28, 28)
    grain = torch.rand(ink.shape, dtype=ink.dtype, generator=generator)
    return (ink.mul_(255) * grain.mul_(-_GRAIN).add_(1)).round_().to(torch.uint8)


def _distort(controls: Tensor, generator: torch.Generator) -> Tensor:
    """Perturb, stretch, slant and tilt each digit's control points, (N, K, 2), at random."""
    controls = controls + _JITTER * _normal(*controls.shape, generator=generator)
    matrix = controls.new_tensor(_DISTORTION) * _normal(len(controls), 2, 2, generator=generator)
    return controls + controls @ matrix.mT


def _fit(points: Tensor, steps: Tensor, pen: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and centre a digit as in MNIST: 20 pixels for its longer side, the ink's centre of mass in the middle.

    Takes points and steps (N, P, 2) of any scale, and the pen's width (N, 1, 1) in pixels; ink is visible up to 2.5
    widths on either side. Returns the points (N, P, 2) and the lengths of the steps (N, P, 1), in pixels.
    """
    extent = (points.amax(dim=1, keepdim=True) - points.amin(dim=1, keepdim=True)).amax(dim=2, keepdim=True)
    scale = (20 - 5 * pen) / extent
    lengths = steps.norm(dim=2, keepdim=True) * scale
    centre = (points * lengths).sum(dim=1, keepdim=True) / lengths.sum(dim=1, keepdim=True)
    return (points - centre) * scale + 14, lengths


def _ink(points: Tensor, lengths: Tensor, pen: Tensor) -> Tensor:
    """The ink in [0, 1] at each pixel, (N, 28, 28), by the equation of `draw`.

    Operates in place where possible, because allocating memory would dominate the time.
    """
    pixels = torch.arange(28, dtype=points.dtype)
    x, y = ((points[..., axis, None] - pixels).div_(pen).square_().mul_(-0.5).exp_() for axis in (0, 1))  # (N, P, 28)
    flow = _FLOW * lengths / (pen * math.sqrt(2 * math.pi))  # (N, P, 1)
    return torch.exp(y.mul_(-flow).mT @ x).neg_().add_(1)


def _normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _prepare_styles() -> _Styles:
    digits, percent = torch.tensor([style[:2] for style in _STYLES]).T
    frequency = (digits == torch.arange(10)[:, None]) * percent.double()
    columns = zip(*(_prepare_style(strokes) for _, _, strokes in _STYLES), strict=True)
    return _Styles(frequency, *(pad_sequence(list(column), batch_first=True) for column in columns))


def _prepare_style(strokes: str) -> tuple[Tensor, Tensor, Tensor]:
    """Parse one style's strokes: control points (K, 2), and their weights (K, P) in the points and steps."""
    numbers = [[float(number) for number in stroke.split()] for stroke in strokes.split("|")]
    controls = [torch.tensor(stroke, dtype=torch.float64).view(-1, 2) / 100 for stroke in numbers]
    chords = [(stroke[1:] - stroke[:-1]).norm(dim=1) for stroke in controls]
    ends = torch.stack([chord.sum() for chord in chords]).cumsum(dim=0)
    counts = (_POINTS * ends / ends[-1]).round().diff(prepend=ends.new_zeros(1))  # in proportion to the length
    units = torch.split(torch.eye(sum(map(len, controls)), dtype=ends.dtype), [len(stroke) for stroke in controls])
    weights = [_spline(unit, chord, int(count)) for unit, chord, count in zip(units, chords, counts, strict=True)]
    points = torch.cat([(weight[1:] + weight[:-1]) / 2 for weight in weights])  # (P, K), the middles of the steps
    steps = torch.cat([weight[1:] - weight[:-1] for weight in weights])  # (P, K)
    return torch.cat(controls), points.T, steps.T


def _spline(values: Tensor, chords: Tensor, count: int) -> Tensor:
    """Evaluate a Catmull-Rom spline through `values` at the ends of `count` steps of about equal length.

    Between the values b and c, with a before and d after them, and t from 0 to 1, the spline is

        b + t/2 · (c - a + t · (2a - 5b + 4c - d + t · (3b - 3c + d - a)))

    It is linear in the values: for unit vectors it gives weights that apply to any control points. `values` are (K, M),
    their distances `chords` (K - 1,), and the result is (count + 1, M).
    """
    ends = chords.cumsum(dim=0)
    positions = torch.linspace(0, 1, count + 1, dtype=ends.dtype) * ends[-1]
    segment = torch.searchsorted(ends, positions).clamp(max=len(chords) - 1)
    t = (1 - (ends[segment] - positions) / chords[segment])[:, None]
    values = torch.cat([2 * values[:1] - values[1:2], values, 2 * values[-1:] - values[-2:-1]])  # extrapolate both ends
    a, b, c, d = (values[segment + offset] for offset in range(4))
    return b + (c - a + (2 * a - 5 * b + 4 * c - d + (3 * b - 3 * c + d - a) * t) * t) * t / 2
