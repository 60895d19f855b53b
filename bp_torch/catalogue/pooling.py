"""Entries of pooling."""

import math
from functools import partial

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(20)
_op_info = partial(op_info, rejects_lists=True)

_AXES = {1: "batch channels length", 2: "batch channels height width", 3: "batch channels depth height width"}
_SHAPES = {1: (2, 2, 6), 2: (1, 2, 4, 4), 3: (1, 1, 3, 3, 4)}


def _sample(dims: int, *shape: int, batched: bool = True, **options: object) -> Sample:
    """A sample with `dims` spatial axes, of the usual shape by default; without a batch axis if it is not `batched`."""
    shape, axes = shape or _SHAPES[dims], _AXES[dims]
    if not batched:
        shape, axes = shape[1:], axes.removeprefix("batch ")
    return Sample((_draw(*shape),), options, axes)


_MAX = "∂C/∂xᵢ = Σ gₒ over the windows o whose maximum is xᵢ"
_AVG = "∂C/∂xᵢ = Σ gₒ / dₒ over the windows o that contain xᵢ"
_LP = "∂C/∂xᵢ = Σ gₒ xᵢᵖ⁻¹ yₒ¹⁻ᵖ over the windows o that contain xᵢ"


def _too_much_padding(*shape: int) -> ErrorInput:
    return ErrorInput((_draw(*shape),), RuntimeError, "pad", {"kernel_size": 2, "padding": 2})


OP_INFOS = (
    _op_info(
        "max_pool1d",
        _MAX,
        (
            _sample(1, kernel_size=2),
            _sample(1, kernel_size=3, stride=1, padding=1),
            _sample(1, kernel_size=(2,), stride=(2,), dilation=2, ceil_mode=True),
            _sample(1, 1, 3, 7, batched=False, kernel_size=3, stride=2, return_indices=True),
        ),
        _too_much_padding(1, 2, 4),
    ),
    _op_info(
        "max_pool2d",
        _MAX,
        (
            _sample(2, 1, 1, 4, 4, kernel_size=2),
            _sample(2, kernel_size=3, stride=1, padding=1),
            _sample(2, 1, 1, 5, 7, kernel_size=(2, 3), stride=(1, 2), dilation=(2, 1), ceil_mode=True),
            _sample(2, batched=False, kernel_size=(3, 2), return_indices=True),
        ),
        _too_much_padding(1, 2, 4, 4),
    ),
    _op_info(
        "max_pool3d",
        _MAX,
        (
            _sample(3, 1, 1, 2, 3, 4, kernel_size=2),
            _sample(3, kernel_size=(2, 3, 2), stride=1, padding=(1, 1, 0)),
            _sample(3, kernel_size=2, stride=(1, 2, 2), dilation=(2, 1, 1), ceil_mode=True),
            _sample(3, 2, 1, 2, 3, 3, kernel_size=2, return_indices=True),
        ),
        _too_much_padding(1, 2, 4, 4, 4),
    ),
    _op_info(
        "avg_pool1d",
        _AVG,
        (
            _sample(1, kernel_size=2),
            _sample(1, kernel_size=3, stride=1, padding=1),
            _sample(1, kernel_size=(3,), stride=(2,), padding=1, ceil_mode=True, count_include_pad=False),
            _sample(1, 1, 3, 7, batched=False, kernel_size=2, stride=3, ceil_mode=True),
        ),
        _too_much_padding(1, 2, 4),
    ),
    _op_info(
        "avg_pool2d",
        _AVG,
        (
            _sample(2, 1, 1, 4, 4, kernel_size=2),
            _sample(2, kernel_size=(3, 2), stride=(1, 2), padding=1),
            _sample(2, 1, 1, 5, 6, kernel_size=3, stride=2, padding=(1, 0), ceil_mode=True, count_include_pad=False),
            _sample(2, batched=False, kernel_size=2, stride=1, divisor_override=3),
            _sample(2, 1, 1, 5, 6, kernel_size=3, stride=2, padding=(1, 0), ceil_mode=True),
        ),
        _too_much_padding(1, 2, 4, 4),
        ErrorInput((_draw(1, 4, 4),), RuntimeError, "divisor", {"kernel_size": 2, "divisor_override": 0}),
    ),
    _op_info(
        "avg_pool3d",
        _AVG,
        (
            _sample(3, 1, 1, 2, 3, 4, kernel_size=2),
            _sample(3, kernel_size=(2, 3, 2), stride=1, padding=(1, 1, 0)),
            _sample(3, kernel_size=2, stride=(1, 2, 2), padding=1, ceil_mode=True, count_include_pad=False),
            _sample(3, 1, 2, 2, 3, 3, batched=False, kernel_size=2, divisor_override=-3),
        ),
        _too_much_padding(1, 2, 4, 4, 4),
    ),
    _op_info(
        "adaptive_avg_pool1d",
        _AVG,
        (
            _sample(1, output_size=3),
            _sample(1, 1, 2, 5, output_size=(3,)),
            _sample(1, batched=False, output_size=1),
            _sample(1, 1, 2, 3, output_size=5),
        ),
        ErrorInput((_draw(3), 2), RuntimeError, "2 to 3 dimensions"),
    ),
    _op_info(
        "adaptive_avg_pool2d",
        _AVG,
        (
            _sample(2, 1, 1, 4, 4, output_size=2),
            _sample(2, 1, 1, 5, 4, output_size=(3, 2)),
            _sample(2, batched=False, output_size=(None, 1)),
            _sample(2, 2, 2, 2, 3, output_size=1),
        ),
        ErrorInput((_draw(3, 4), 2), RuntimeError, "3D or 4D"),
    ),
    _op_info(
        "adaptive_avg_pool3d",
        _AVG,
        (
            _sample(3, 1, 1, 2, 3, 4, output_size=2),
            _sample(3, output_size=(2, 2, 3)),
            _sample(3, 1, 2, 2, 3, 3, batched=False, output_size=(None, 1, 2)),
        ),
        ErrorInput((_draw(3, 4, 4), 2), RuntimeError, "4D or 5D"),
    ),
    _op_info(
        "adaptive_max_pool1d",
        _MAX,
        (
            _sample(1, output_size=3),
            _sample(1, 1, 2, 5, output_size=(3,)),
            _sample(1, batched=False, output_size=4, return_indices=True),
        ),
        ErrorInput((_draw(3), 2), RuntimeError, "2 to 3 dimensions"),
    ),
    _op_info(
        "adaptive_max_pool2d",
        _MAX,
        (
            _sample(2, 1, 1, 4, 4, output_size=2),
            _sample(2, 1, 1, 5, 4, output_size=(3, None)),
            _sample(2, batched=False, output_size=(3, 3), return_indices=True),
        ),
        ErrorInput((_draw(3, 4), 2), RuntimeError, "3D or 4D"),
    ),
    _op_info(
        "adaptive_max_pool3d",
        _MAX,
        (
            _sample(3, 1, 1, 2, 3, 4, output_size=2),
            _sample(3, output_size=(2, 2, None)),
            _sample(3, 1, 2, 2, 3, 3, batched=False, output_size=(2, 2, 3), return_indices=True),
        ),
        ErrorInput((_draw(3, 4, 4), 2), RuntimeError, "4D or 5D"),
    ),
    _op_info(
        "lp_pool1d",
        _LP,
        (
            _sample(1, norm_type=2, kernel_size=2),
            _sample(1, norm_type=2.0, kernel_size=3, stride=2, ceil_mode=True),
            _sample(1, norm_type=math.inf, kernel_size=3, stride=1),
            _sample(1, 1, 3, 7, batched=False, norm_type=4, kernel_size=2),
        ),
    ),
    _op_info(
        "lp_pool2d",
        _LP,
        (
            _sample(2, 1, 1, 4, 4, norm_type=2, kernel_size=2),
            _sample(2, norm_type=2.0, kernel_size=(3, 2), stride=1, ceil_mode=True),
            _sample(2, batched=False, norm_type=-math.inf, kernel_size=2),
        ),
    ),
    _op_info(
        "lp_pool3d",
        _LP,
        (
            _sample(3, 1, 1, 2, 3, 4, norm_type=2, kernel_size=2),
            _sample(3, norm_type=2.0, kernel_size=(2, 3, 2), stride=1),
            _sample(3, 2, 1, 2, 3, 3, norm_type=math.inf, kernel_size=2),
        ),
    ),
)
