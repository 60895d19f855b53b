"""The arguments of recurrent layers and cells: checks, and the dtypes of results under autocast."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch.functional.precision import autocast_applies
from bp_torch.functional.shape import to
from bp_torch.functional.validation import require_floating

States = Sequence[Tensor]
Weights = Sequence[Tensor | None]
"""w_ih, w_hh, b_ih, b_hh and the projection w_hr of one layer in one direction."""


class Kind(NamedTuple):
    """A kind of recurrent layer.

    Attributes:
        name: of torch's function.
        run: (input, initial states, *weights, batch sizes, reverse) to each state after all steps.
        gates: the number of blocks of rows in a weight.
        states: their number.
    """

    name: str
    run: Callable[..., States]
    gates: int
    states: int


def split_params(kind: Kind, params: States, has_biases: bool, layers: int, directions: int) -> list[Weights]:
    """The weights of each layer and direction; an error if their number does not fit."""
    if not isinstance(params, Sequence):
        raise TypeError(f"{kind.name}(): argument 'params' must be a tuple of Tensors, not {type(params).__name__}")
    parts, count = layers * directions, 4 if has_biases else 2
    projected = kind.states == 2 and len(params) == parts * (count + 1)
    if len(params) != parts * (count + projected):
        expected = f"{count} Tensors for each of {layers} layers and {directions} directions"
        raise RuntimeError(f"{kind.name}(): params must hold {expected}, got {len(params)}")
    present, each = (True, True, has_biases, has_biases, projected), iter(params)
    return [[next(each) if exists else None for exists in present] for _ in range(parts)]


def require_matching(
    kind: Kind, name: str, data: Tensor, hx: Any, sizes: tuple[int, ...], weights: Sequence[Weights], directions: int
) -> States:
    """The states in hx. An error unless they are (*sizes, H), and the weights fit the data (*, features)."""
    _, w_hh, *_, w_hr = weights[0]
    require_floating(name, w_hh=w_hh)  # type: ignore[arg-type]
    if w_hh.dim() != 2:  # type: ignore[union-attr]
        raise RuntimeError(f"{name}(): w_hh must have 2 axes, got {tuple(w_hh.shape)}")  # type: ignore[union-attr]
    hidden = w_hh.shape[1]  # type: ignore[union-attr]
    cell = hidden if w_hr is None else len(w_hh) // kind.gates  # type: ignore[arg-type]
    states = _as_states(kind, name, hx)
    for number, state in enumerate(states):
        argument = "hx" if kind.states == 1 else f"hx[{number}]"
        _require(name, argument, state, (*sizes, cell if number else hidden), data)
    for number, own in enumerate(weights):
        features = directions * hidden if number >= directions else data.shape[-1]
        rows = kind.gates * cell
        shapes = {
            "w_ih": (rows, features),
            "w_hh": (rows, hidden),
            "b_ih": (rows,),
            "b_hh": (rows,),
            "w_hr": (hidden, cell),
        }
        where = f" of layer {number // directions}" if len(weights) > directions else ""
        for (argument, shape), weight in zip(shapes.items(), own, strict=True):
            if weight is not None:
                _require(name, argument + where, weight, shape, data)
    return states


def _as_states(kind: Kind, name: str, hx: Any) -> States:
    if kind.states == 1:
        return (hx,)
    if not isinstance(hx, Sequence):
        raise TypeError(f"{name}(): argument 'hx' must be a tuple of Tensors, not {type(hx).__name__}")
    if len(hx) != 2:
        raise RuntimeError(f"{name}(): hx must hold two states, h and c, got {len(hx)}")
    return hx


def _require(name: str, argument: str, tensor: Tensor, shape: tuple[int, ...], data: Tensor) -> None:
    """Raise unless `tensor` is floating point, and has a shape and, without autocast, the dtype of the data."""
    require_floating(name, **{argument: tensor})
    if tensor.shape != shape:
        raise RuntimeError(f"{name}(): {argument} must be {shape}, got {tuple(tensor.shape)}")
    if tensor.dtype != data.dtype and not autocast_applies(data):
        raise RuntimeError(f"{name}(): {argument} is {tensor.dtype}, but the input is {data.dtype}")


def widened(*tensors: Tensor | None) -> list[Any]:
    """Half precision in float32."""
    return [x if x is None else to(x, torch.promote_types(x.dtype, torch.float32)) for x in tensors]


def dtypes_of(kind: Kind, data: Tensor, states: States, *, whole: bool) -> tuple[torch.dtype, ...]:
    """The dtype of each state after the call: that of the data, or under autocast the one of torch's own operations.

    On a CPU, autocast's dtype is that of the products; the gates of GRU and LSTM combine them with the state before,
    and promote. On CUDA all is in autocast's dtype, and so it is if oneDNN computes an LSTM as a `whole`: one that is
    neither packed nor projected.
    """
    if not autocast_applies(data) or data.dtype == torch.float64:
        return (data.dtype,) * kind.states
    half = torch.get_autocast_dtype(data.device.type)
    wider = torch.promote_types(states[-1].dtype, half)
    projected = states[0].shape[-1] != states[-1].shape[-1]
    one_dnn = whole and kind.states == 2 and not projected and data.dtype != torch.float16
    if data.is_cuda or one_dnn or kind.gates == 1:
        return (half,) * kind.states
    return (half if projected else wider, wider)[: kind.states]
