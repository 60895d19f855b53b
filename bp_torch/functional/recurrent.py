"""Recurrent layers and cells: RNN, GRU and LSTM, in several layers, and in both directions.

Each direction of a layer is `Linear`, for the inputs of all steps at once, and then one `Function`, the recursion:
`RNN`, `GRU` or `LSTM`. Their docstrings derive backpropagation through time.

The functions have the signatures of torch's, and its shapes: input (T, N, features), or (N, T, features) with
`batch_first`, hx (layers · directions, N, H), `params` with w_ih, w_hh and, with `has_biases`, b_ih and b_hh, for each
layer and direction. Layers also take packed sequences, as torch.nn.utils.rnn.pack_padded_sequence makes them: data
(Σ nₜ, features) and batch_sizes, the nₜ. Half precision is computed in float32 and rounded once. Between the layers,
`dropout` drops what torch drops with the same seed, if `train`.

TypeError if an argument is missing or is not a Tensor, RuntimeError if shapes, dtypes or numbers of Tensors do not
match, NotImplementedError for a dtype that is not floating point.
"""

from collections.abc import Iterator, Sequence
from functools import partial, reduce
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import add
from bp_torch.functional.dropout import Dropout, dropout
from bp_torch.functional.gru import GRU
from bp_torch.functional.indexing import cat, getitem, narrow, stack
from bp_torch.functional.linear import Linear
from bp_torch.functional.lstm import LSTM
from bp_torch.functional.precision import no_autocast
from bp_torch.functional.recurrent_arguments import (
    Kind,
    States,
    Weights,
    dtypes_of,
    require_matching,
    split_params,
    widened,
)
from bp_torch.functional.rnn import RNN, Time
from bp_torch.functional.shape import clone, to
from bp_torch.functional.validation import require_floating, require_tensor

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"]


def _run_rnn(f: str, x: Tensor, states: States, w_ih: Tensor, w_hh: Tensor, *others: Any) -> States:
    b_ih, b_hh, _, *order = others
    return (RNN.call(_projected(x, w_ih, b_ih, b_hh), *states, w_hh, f, *order),)


def _run_gru(x: Tensor, states: States, w_ih: Tensor, w_hh: Tensor, *others: Any) -> States:
    b_ih, b_hh, _, *order = others
    return (narrow(GRU.call(_projected(x, w_ih, b_ih), *states, w_hh, b_hh, *order), -1, 0, w_hh.shape[1]),)


def _run_lstm(x: Tensor, states: States, w_ih: Tensor, w_hh: Tensor, *others: Any) -> States:
    b_ih, b_hh, projection, *order = others
    every = LSTM.call(_projected(x, w_ih, b_ih, b_hh), *states, w_hh, projection, *order)
    h, c = (state.shape[1] for state in states)
    return narrow(every, -1, 0, h), narrow(every, -1, h, c)


def _projected(x: Tensor, weight: Tensor, *biases: Tensor | None) -> Tensor:
    """The input's part of all steps."""
    given = [bias for bias in biases if bias is not None]
    return Linear.call(x, weight, reduce(add, given) if given else None)


_RNN_TANH = Kind("rnn_tanh", partial(_run_rnn, "tanh"), gates=1, states=1)
_RNN_RELU = Kind("rnn_relu", partial(_run_rnn, "relu"), gates=1, states=1)
_GRU = Kind("gru", _run_gru, gates=3, states=1)
_LSTM = Kind("lstm", _run_lstm, gates=4, states=2)


def lstm(*args: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Long short-term memory. See `LSTM`; Hochreiter, Schmidhuber (1997).

    lstm(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
    lstm(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)

    Returns:
        The output h of the last layer (T, N, R), with both directions side by side, and the states of each layer and
        direction after its last step, h_n (layers · directions, N, R) and c_n. hx holds h₀ and c₀; if their sizes
        differ, `params` has a projection w_hr for each layer and direction as well.
    """
    return _layers(_LSTM, args, options)  # type: ignore[return-value]


def gru(*args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """Gated recurrent unit. See `GRU`; Cho et al. (2014).

    gru(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)
    gru(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional)

    Returns:
        The output h of the last layer (T, N, H), with both directions side by side, and h after the last step of each
        layer and direction (layers · directions, N, H).
    """
    return _layers(_GRU, args, options)  # type: ignore[return-value]


def rnn_tanh(*args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """The simple recurrent layer with tanh. See `RNN`; arguments and results are those of `gru`."""
    return _layers(_RNN_TANH, args, options)  # type: ignore[return-value]


def rnn_relu(*args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    """The simple recurrent layer with ReLU. See `RNN`; arguments and results are those of `gru`."""
    return _layers(_RNN_RELU, args, options)  # type: ignore[return-value]


def lstm_cell(
    input: Tensor,
    hx: States,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of `lstm`: (N, features) and hx = (h, c), (N, H) each, to the new (h, c). See `LSTM`."""
    h, c = _cell(_LSTM, input, hx, w_ih, w_hh, b_ih, b_hh)
    return h, c


def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of `gru`: (N, features) and hx (N, H) to the new h (N, H). See `GRU`."""
    return next(_cell(_GRU, input, hx, w_ih, w_hh, b_ih, b_hh))


def rnn_tanh_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of `rnn_tanh`: (N, features) and hx (N, H) to the new h (N, H). See `RNN`."""
    return next(_cell(_RNN_TANH, input, hx, w_ih, w_hh, b_ih, b_hh))


def rnn_relu_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of `rnn_relu`: (N, features) and hx (N, H) to the new h (N, H). See `RNN`."""
    return next(_cell(_RNN_RELU, input, hx, w_ih, w_hh, b_ih, b_hh))


def _layers(kind: Kind, args: tuple[Any, ...], options: dict[str, Any]) -> tuple[Tensor, ...]:
    """Call the overload that the nine arguments belong to: the fourth is `has_biases`, or `params` if packed."""
    packed = isinstance(args[3], Sequence) if len(args) == 9 else "batch_first" not in options
    return (_of_packed if packed else _of_sequences)(kind, *args, **options)


def _of_sequences(
    kind: Kind,
    input: Tensor,
    hx: Any,
    params: States,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, ...]:
    require_floating(kind.name, input=input)
    if input.dim() != 3 or not input.shape[1 if batch_first else 0]:
        expected = "(N, T, features)" if batch_first else "(T, N, features)"
        raise RuntimeError(f"{kind.name}(): input must be {expected} with T > 0, got {tuple(input.shape)}")
    time, p = 1 if batch_first else 0, dropout if train else 0.0
    return _run(kind, input, time, hx, params, has_biases, num_layers, p, bidirectional)


def _of_packed(
    kind: Kind,
    data: Tensor,
    batch_sizes: Tensor,
    hx: Any,
    params: States,
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    require_floating(kind.name, data=data)
    require_tensor(kind.name, batch_sizes=batch_sizes)
    if data.dim() != 2 or batch_sizes.dim() != 1 or batch_sizes.dtype != torch.int64:
        got = f"data {tuple(data.shape)} and batch_sizes {batch_sizes.dtype} {tuple(batch_sizes.shape)}"
        raise RuntimeError(f"{kind.name}(): expected data (rows, features) and batch_sizes int64 (T,), got {got}")
    sizes = batch_sizes.tolist()
    if not sizes or sizes != sorted(sizes, reverse=True) or sizes[-1] < 0 or sum(sizes) != len(data):
        raise RuntimeError(f"{kind.name}(): batch_sizes must decrease and sum up to {len(data)} rows, got {sizes}")
    p = dropout if train else 0.0
    return _run(kind, data, tuple(sizes), hx, params, has_biases, num_layers, p, bidirectional)


def _run(
    kind: Kind,
    data: Tensor,
    time: Time,
    hx: Any,
    params: States,
    has_biases: bool,
    layers: int,
    p: float,
    bidirectional: bool,
) -> tuple[Tensor, ...]:
    """All layers: the output of the last one, and each state of all layers and directions after their last step."""
    directions = 2 if bidirectional else 1
    if layers < 1 or (layers > 1 and not 0 <= p <= 1):
        raise RuntimeError(f"{kind.name}(): expected num_layers > 0 and dropout in [0, 1], got {layers} and {p}")
    weights = split_params(kind, params, has_biases, layers, directions)
    batch = data.shape[1 - time] if isinstance(time, int) else time[0]
    states = require_matching(kind, kind.name, data, hx, (len(weights), batch), weights, directions)
    h_dtype, *dtypes = dtypes_of(kind, data, states, whole=isinstance(time, int))
    with no_autocast(data):
        wide = widened(data)[0], widened(*states), [widened(*own) for own in weights]
        output, *last = map(to, _stacked(kind, *wide, time, directions, p), (h_dtype, h_dtype, *dtypes))
        return clone(output), *last  # a view could not be changed in place


def _stacked(
    kind: Kind, data: Tensor, states: States, weights: Sequence[Weights], time: Time, directions: int, p: float
) -> Iterator[Tensor]:
    """Yield the output of the last layer, then each state of all layers and directions after their last step."""
    last = []
    for first in range(0, len(weights), directions):
        outputs = []
        for number in range(first, first + directions):
            order = time, number > first
            sequences = kind.run(data, [getitem(state, number) for state in states], *weights[number], *order)
            outputs.append(sequences[0])
            last.append([_last(each, *order) for each in sequences])
        data = cat(outputs, -1) if directions == 2 else outputs[0]
        if p and first + directions < len(weights):
            data = _dropped(data, time, p)
    yield data
    yield from map(stack, zip(*last, strict=True))


def _dropped(data: Tensor, time: Time, p: float) -> Tensor:
    """Dropout of the output of a layer, by the random numbers that torch draws: step by step, also if batch first."""
    axis = time if isinstance(time, int) else 0
    factors = dropout(torch.ones_like(data.detach().movedim(axis, 0), memory_format=torch.contiguous_format), p)
    return Dropout.call(data, factors.movedim(0, axis), None)


def _last(states: Tensor, time: Time, reverse: bool) -> Tensor:
    """The state of each sequence after its last step."""
    if isinstance(time, int):
        return getitem(states, (*[slice(None)] * time, 0 if reverse else -1))
    rows = list(range(time[0]))
    if not reverse:
        for size, end in zip(time, accumulate(time), strict=True):
            rows[:size] = range(end - size, end)
    return getitem(states, torch.tensor(rows, device=states.device))


def _cell(kind: Kind, input: Tensor, hx: Any, *weights: Tensor | None) -> Iterator[Tensor]:
    """The states after one step."""
    name = f"{kind.name}_cell"
    require_floating(name, input=input)
    if input.dim() != 2:
        error = IndexError if input.dim() < 2 else RuntimeError
        raise error(f"{name}(): input must be (N, features), got {tuple(input.shape)}")
    weights = *weights, None
    states = require_matching(kind, name, input, hx, (len(input),), [weights], 1)
    dtypes = dtypes_of(kind, input, states, whole=False)
    with no_autocast(input):
        results = kind.run(*widened(input), widened(*states), *widened(*weights), (len(input),), False)
        return map(clone, map(to, results, dtypes))
