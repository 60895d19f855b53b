"""Entries of the convolutions."""

from functools import partial
from typing import Any

from bp_torch.catalogue.op_info import ErrorInput, OpInfo, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(8)
_LETTERS = ("depth", "height", "width")


def _sample(
    batch: int | None, input: str, weight: str, *, transposed: bool = False, bias: bool = True, **options: Any
) -> Sample:
    """A call with sizes such as "3 6 7": of the input's channels and pixels, and of the weight (all its axes).

    Sizes of channels are named, so that they change together; those of a group are multiples of one name.
    """
    x, w = ([int(size) for size in sizes.split()] for sizes in (input, weight))
    groups, axes = options.get("groups", 1), len(x) - 1
    outputs = w[1] * groups if transposed else w[0]
    inside, outside = ("in", "out") if groups == 1 else (f"{groups}*in", f"{groups}*out")
    pixels = " ".join(_LETTERS[-axes:])
    kernel = " ".join(map(str, w[2:]))
    names = [
        f"batch {inside} {pixels}" if batch is not None else f"{inside} {pixels}",
        f"{inside} out {kernel}" if transposed else f"{outside} in {kernel}",
        outside,
    ]
    shape = x if batch is None else [batch, *x]
    args = (_draw(*shape), _draw(*w), _draw(outputs))[: 2 + bias]
    return Sample(args, options, axes=", ".join(names[: len(args)]))


_transposed = partial(_sample, transposed=True)


def _error_inputs(axes: int, transposed: bool) -> tuple[ErrorInput, ...]:
    x, w = _draw(2, 3, *[3] * axes), _draw(3, 2, *[2] * axes) if transposed else _draw(2, 3, *[2] * axes)
    wrong = _draw(2, 4, *[3] * axes)
    common = (
        ErrorInput(([1.0], w), TypeError, "'input'"),
        ErrorInput((x, [1.0]), TypeError, "'weight'"),
        ErrorInput((x, w, [1.0]), TypeError, "'bias'"),
        ErrorInput((wrong, w), RuntimeError, "to have 3 channels, but got 4"),
        ErrorInput((x[0, 0], w), RuntimeError, r"got input \(3"),
        ErrorInput((x, w[0]), RuntimeError, "and weight"),
        ErrorInput((x, w), RuntimeError, "Given groups=2", {"groups": 2}),
        ErrorInput((x, w, _draw(5)), RuntimeError, "bias of size"),
        ErrorInput((x, w.float()), RuntimeError, "type"),
        ErrorInput((x, w), RuntimeError, "non-positive stride", {"stride": 0}),
        ErrorInput((x, w), RuntimeError, "negative padding", {"padding": -1}),
        ErrorInput((x, w), RuntimeError, "dilation", {"dilation": 0}),
    )
    if transposed:
        return (*common, ErrorInput((x, w), RuntimeError, "output padding must be smaller", {"output_padding": 2}))
    return (
        *common,
        ErrorInput((x, _draw(2, 3, *[4] * axes)), RuntimeError, "Kernel size can't be greater"),
        ErrorInput((x, w), RuntimeError, "'same' is not supported with stride 2", {"padding": "same", "stride": 2}),
        ErrorInput((x, w), RuntimeError, "got 'full'", {"padding": "full"}),
    )


_CONVOLUTION = "∂C/∂x = g ⋆ᵀ W, ∂C/∂W = Σₙ x ⋆ g, ∂C/∂b = Σ g over examples and pixels"
_TRANSPOSED = "∂C/∂x = g ⋆ W, ∂C/∂W = Σₙ g ⋆ x, ∂C/∂b = Σ g over examples and pixels"


def _convolution(axes: int, *samples: Sample) -> OpInfo:
    return op_info(f"conv{axes}d", _CONVOLUTION, samples, *_error_inputs(axes, transposed=False))


def _conv_transpose(axes: int, *samples: Sample) -> OpInfo:
    return op_info(f"conv_transpose{axes}d", _TRANSPOSED, samples, *_error_inputs(axes, transposed=True))


OP_INFOS = (
    _convolution(
        1,
        _sample(2, "2 5", "3 2 3"),
        _sample(2, "4 6", "2 2 3", groups=2, stride=2, padding=1, dilation=2),
        _sample(None, "2 5", "3 2 2", padding="same"),
    ),
    _convolution(
        2,
        _sample(2, "2 4 3", "3 2 3 2"),
        _sample(2, "1 6 5", "2 1 3 2", stride=(2, 3), padding=(2, 1)),  # pixels right of the last window
        _sample(1, "4 5 5", "4 2 2 3", groups=2, padding=1, dilation=(1, 2)),
        _sample(1, "2 5 4", "2 1 3 2", bias=False, groups=2, padding="same"),
        _sample(2, "2 4 4", "3 2 1 1", stride=2),
        _sample(None, "2 3 4", "2 2 2 3", padding="valid"),
        _sample(0, "2 4 3", "3 2 3 2"),
        _sample(1, "3 3 3", "3 3 3 3", padding=1),
    ),
    _convolution(
        3,
        _sample(2, "1 3 2 3", "2 1 2 2 2", padding=(0, 1, 0)),
        _sample(1, "2 3 4 2", "2 1 2 3 1", groups=2, stride=(1, 2, 1), dilation=(2, 1, 1)),
    ),
    _conv_transpose(
        1,
        _transposed(2, "2 3", "2 3 3"),
        _transposed(1, "4 3", "4 1 3", groups=2, stride=3, padding=1, output_padding=2),
        _transposed(None, "2 3", "2 1 2", bias=False, dilation=2),
    ),
    _conv_transpose(
        2,
        _transposed(2, "2 3 2", "2 3 2 3"),
        _transposed(1, "2 3 2", "2 1 3 2", stride=(2, 3), padding=(1, 0), output_padding=(1, 2)),
        _transposed(1, "4 2 3", "4 1 2 2", groups=2, dilation=(2, 1), stride=(1, 2)),
        _transposed(1, "1 2 2", "1 2 2 2", dilation=3, output_padding=2),  # adds windows to the convolution of g
        _transposed(None, "2 3 2", "2 1 2 1", bias=False),
        _transposed(0, "2 3 2", "2 3 2 3"),
    ),
    _conv_transpose(
        3,
        _transposed(2, "1 2 2 2", "1 2 2 1 2", stride=(1, 2, 1), output_padding=(0, 1, 0)),
        _transposed(1, "2 2 1 2", "2 1 2 2 1", groups=2, padding=(1, 0, 0)),
    ),
)
