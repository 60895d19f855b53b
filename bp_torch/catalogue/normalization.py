"""Entries of normalization."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, Kink, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(18)
_STATISTICS = ("running_mean", "running_var")


def _statistics(channels: int) -> tuple[Tensor, Tensor]:
    return _draw(channels), _draw(channels).square() + 0.5


def builtin_batch_norm(
    input: Tensor, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None, *args: Any, **options: Any
) -> Tensor:
    """PyTorch's, with a contiguous weight: its gradient for the input reads a strided one without its strides."""
    if isinstance(weight, Tensor):
        weight = weight.contiguous()
    return torch.nn.functional.batch_norm(input, running_mean, running_var, weight, bias, *args, **options)


def _with_statistics(axes: str, input: Tensor, *affine: Tensor, **options: Any) -> Sample:
    """A sample with running statistics, which are updated in place, or used as they are."""
    channels = ", ".join(["channels"] * (2 + len(affine)))
    args = (input, *_statistics(input.shape[1]), *affine)
    return Sample(args, options, axes=f"{axes}, {channels}", buffers=_STATISTICS)


def _sized(norm: str, batch: int, size: int, **options: Any) -> Sample:
    """A sample of layer_norm or rms_norm, whose `normalized_shape` follows the size of the last axis."""

    def make(batch: int, size: int) -> tuple[Any, ...]:
        affine = [torch.randn(size, dtype=torch.float64) for _ in range(2 if norm == "layer_norm" else 1)]
        return (torch.randn(batch, size, dtype=torch.float64), (size,), *affine)

    args = (_draw(batch, size), (size,), _draw(size), *[_draw(size)] * (norm == "layer_norm"))
    return Sample(args, options, axes="batch size, " + ", size" * (len(args) - 2), make=make)


def _over_the_last(norm: str, count: int) -> tuple[Sample, ...]:
    """Samples of layer_norm or rms_norm, with `count` affine Tensors."""
    affine = [_draw(2, 3) for _ in range(count)]
    return (
        _sized(norm, 4, 3),
        _sized(norm, 3, 5, eps=0.3),
        Sample((_draw(2, 2, 3), (2, 3), *affine), axes="batch 2 3, , " + ", 2 3" * count),
        Sample((_draw(3, 2, 4) + 20, (4,)), axes="batch rows 4, "),  # large mean
        Sample((_draw(6), (6,), _draw(6)), axes="6, , 6"),
        Sample((_draw(0, 3), (3,), _draw(3)), axes="batch 3, , 3"),
    )


_x, _y = _draw(4, 3), _draw(2, 3, 4)
_ONE_VALUE = "more than 1 value per channel"
_NO_INTEGERS = ErrorInput((torch.ones(2, 3, 4).long(),), NotImplementedError, "'Long'")

OP_INFOS = (
    op_info(
        "batch_norm",
        "∂C/∂x = (δ − mean(δ) − x̂ mean(δ x̂)) / σ with δ = γ g, ∂C/∂γ = Σ g x̂, ∂C/∂β = Σ g",
        (
            Sample((_x, None, None, _draw(3), _draw(3)), {"training": True}, axes="batch 3, , , 3, 3"),
            _with_statistics("batch channels 4", _y, _draw(3), _draw(3), training=True),
            _with_statistics("batch channels 2 2", _draw(3, 2, 2, 2), training=True, momentum=0.7, eps=0.3),
            Sample((_x + 30, None, None, _draw(3)), {"training": True}, axes="batch channels, , , channels"),
            _with_statistics("batch channels", _x, _draw(3), _draw(3)),
            _with_statistics("batch channels 4", _y, eps=0.3),
            Sample((_draw(0, 3), None, None, _draw(3), _draw(3)), {"training": True}, axes="batch 3, , , 3, 3"),
        ),
        ErrorInput((_draw(1, 3), None, None), ValueError, _ONE_VALUE, {"training": True}),
        ErrorInput((_x, None, None), ValueError, "eps must be positive", {"training": True, "eps": 0.0}),
        ErrorInput((_x, *_statistics(3)), ValueError, "eps must be non-negative", {"eps": -1.0}),
        ErrorInput((_x, None, None), RuntimeError, "running_mean must be defined"),
        ErrorInput((_x, _draw(3), None), ValueError, "running_var", {"training": True}),
        ErrorInput((_x, *_statistics(2)), RuntimeError, "running_mean should contain 3 elements"),
        ErrorInput((_x, None, None, _draw(2)), RuntimeError, "weight should contain 3 elements", {"training": True}),
        ErrorInput((_x, None, None, _draw(3).float()), RuntimeError, "dtype", {"training": True}),
        ErrorInput((_x, _draw(3).requires_grad_(), _draw(3)), RuntimeError, "not differentiable"),
        ErrorInput((torch.ones(2, 3).long(), None, None), NotImplementedError, "'Long'", {"training": True}),
        reference=builtin_batch_norm,
    ),
    op_info(
        "layer_norm",
        "the equation of batch_norm, over the last axes",
        _over_the_last("layer_norm", 2),
        ErrorInput((_x, 3), TypeError, "normalized_shape"),
        ErrorInput((_x, (4,)), RuntimeError, r"normalized_shape=\[4\]"),
        ErrorInput((_x, ()), RuntimeError, "at least 1-dimensional"),
        ErrorInput((_x, (3,), _draw(4)), RuntimeError, "weight"),
        ErrorInput((_x, (3,), None, _draw(1)), RuntimeError, "bias"),
        ErrorInput((_x, (3,), _draw(3).float()), RuntimeError, "dtype"),
        ErrorInput((torch.ones(2, 3).long(), (3,)), NotImplementedError, "'Long'"),
        rejects_lists=True,
    ),
    op_info(
        "group_norm",
        "the equation of batch_norm, over the channels and positions of a group",
        (
            Sample((_draw(4, 4), 2, _draw(4), _draw(4)), axes="batch 2*half, , 2*half, 2*half"),
            Sample((_draw(2, 6, 2), 3, _draw(6), _draw(6)), {"eps": 0.3}, axes="batch 3*third 2, , 3*third, 3*third"),
            Sample((_draw(2, 4, 2, 2) + 20, 1, _draw(4)), axes="batch channels 2 2, , channels"),
            Sample((_draw(2, 3, 4), 3), axes="batch 3 positions, "),
            Sample((_draw(0, 4, 2), 2, _draw(4)), axes="batch 4 2, , 4"),
        ),
        ErrorInput((_y, 2), RuntimeError, "divisible by num_groups"),
        ErrorInput((_draw(3), 1), RuntimeError, r"at least 2 .*\(3,\)|at least 2 dimensions"),
        ErrorInput((_draw(1, 3), 3), ValueError, _ONE_VALUE),
        ErrorInput((_y, 3, _draw(2)), RuntimeError, "weight"),
        ErrorInput((_y, 0), ZeroDivisionError, "zero"),
        ErrorInput((torch.ones(2, 4).long(), 2), NotImplementedError, "'Long'"),
    ),
    op_info(
        "instance_norm",
        "the equation of batch_norm, for each example by itself",
        (
            Sample((_y, None, None, _draw(3), _draw(3)), axes="batch channels 4, , , channels, channels"),
            _with_statistics("batch channels 2 2", _draw(2, 2, 2, 2), _draw(2), _draw(2), momentum=0.7, eps=0.3),
            Sample((_draw(2, 2, 5) + 30,), axes="batch channels positions"),
            _with_statistics("batch channels", _x, _draw(3), _draw(3), use_input_stats=False),
            _with_statistics("batch channels 4", _y, use_input_stats=False, eps=0.3),
            Sample((_draw(0, 3, 2),), axes="batch 3 2"),
        ),
        ErrorInput((_x,), ValueError, "more than 1 spatial element"),
        ErrorInput((_y,), RuntimeError, "running_mean", {"use_input_stats": False}),
        ErrorInput((_y, None, None, _draw(2)), RuntimeError, "weight should contain"),
        ErrorInput((_y, *_statistics(2)), RuntimeError, "running_mean should contain"),
        _NO_INTEGERS,
    ),
    op_info(
        "rms_norm",
        "∂C/∂x = (δ − x̂ mean(δ x̂)) / ρ with δ = γ g, ∂C/∂γ = Σ g x̂",
        _over_the_last("rms_norm", 1),
        ErrorInput((_x, (4,)), RuntimeError, r"normalized_shape=\[4\]"),
        ErrorInput((_x, ()), RuntimeError, "at least 1-dimensional"),
        ErrorInput((_x, (3,), _draw(4)), RuntimeError, "weight"),
        ErrorInput((torch.ones(2, 3).long(), (3,)), NotImplementedError, "'Long'"),
        ErrorInput((torch.ones(2, 3, dtype=torch.complex64), (3,)), NotImplementedError, "complex64"),
        rejects_lists=True,
    ),
    op_info(
        "local_response_norm",
        "∂C/∂xᵢ = gᵢ sᵢ^(−β) − 2αβ/n xᵢ Σⱼ gⱼ xⱼ sⱼ^(−β−1)",
        (
            Sample((_draw(2, 5, 2), 3), {"alpha": 0.4}, axes="batch channels positions, "),
            Sample((_draw(2, 4, 2, 2), 4), {"alpha": 0.4, "beta": 0.5, "k": 1.5}, axes="batch channels 2 2, "),
            Sample((_draw(1, 3, 2, 2, 1), 2), {"alpha": 2.0, "beta": 1.5}, axes="batch channels 2 2 1, "),
            Sample((_draw(2, 3, 4), 7), axes="batch channels 4, "),
            Sample((_draw(0, 3, 2), 2), axes="batch 3 2, "),
        ),
        ErrorInput((_x, 2), ValueError, "3D or higher"),
        ErrorInput((_y, 0), RuntimeError, "kernel size"),
        ErrorInput((torch.ones(2, 3, 4, dtype=torch.complex64), 2), NotImplementedError, "complex64"),
    ),
    op_info(
        "normalize",
        "∂C/∂x = (g − s Σ g y) / d with d = max(‖x‖, ε), s = ∂d/∂x; for the Euclidean norm s = y",
        (
            Sample((_x,), axes="batch size"),
            Sample((_y,), {"p": 3, "dim": 2}, axes="batch rows size"),
            Sample((_y,), {"p": 1.5, "dim": (0, -1)}, axes="batch rows size"),
            Sample((_x,), {"p": 1, "dim": 0}, axes="batch size"),
            Sample((_x,), {"p": float("inf"), "dim": -1}, axes="batch size"),
            Sample((_x.abs() + 0.3,), {"p": -1.0, "dim": None}, axes="batch size"),
            Sample((_x,), {"eps": 1.5}, axes="batch size"),  # larger than some of the norms
            Sample((_draw(0, 3),), axes="batch 3"),
        ),
        ErrorInput((_x,), IndexError, "out of range", {"dim": 2}),
        ErrorInput((torch.ones(2, 3).long(),), RuntimeError, "floating point"),
        ErrorInput((_x.clone().requires_grad_(),), RuntimeError, "out=", {"out": torch.empty(4, 3).double()}),
        ErrorInput((torch.ones(2, 3, dtype=torch.complex64),), NotImplementedError, "complex64"),
        kinks=(Kink((0.5,), 0, {"dim": 0, "eps": 0.5}),),
    ),
)
