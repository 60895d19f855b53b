"""Recurrent layers and cells. T steps, N sequences; R is H, or the size of a projection.

Layers also take a `PackedSequence`, and return one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from bp_torch import functional

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]


class RNN(torch.nn.RNN):
    """Simple recurrent layers, (T, N, features) and h (layers · directions, N, H) to (T, N, directions · H) and h."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        function = functional.rnn_tanh if self.nonlinearity == "tanh" else functional.rnn_relu
        return _layers(self, function, input, hx)


class LSTM(torch.nn.LSTM):
    """LSTM layers, (T, N, features) and (h, c) to (T, N, directions · R) and (h, c), where h has R columns, and c H."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return _layers(self, functional.lstm, input, hx)


class GRU(torch.nn.GRU):
    """GRU layers, (T, N, features) and h (layers · directions, N, H) to (T, N, directions · H) and h."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return _layers(self, functional.gru, input, hx)


class RNNCell(torch.nn.RNNCell):
    """One step of a simple recurrent layer, (N, features) and h (N, H) to h."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        function = functional.rnn_tanh_cell if self.nonlinearity == "tanh" else functional.rnn_relu_cell
        return _cell(self, function, input, hx)


class LSTMCell(torch.nn.LSTMCell):
    """One step of an LSTM, (N, features) and (h, c), (N, H) each, to (h, c)."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> Any:
        return _cell(self, functional.lstm_cell, input, hx)


class GRUCell(torch.nn.GRUCell):
    """One step of a GRU, (N, features) and h (N, H) to h."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:
        return _cell(self, functional.gru_cell, input, hx)


def _layers(module: Any, function: Callable[..., tuple[Tensor, ...]], input: Any, hx: Any) -> Any:
    """Call a layer function with the module's weights."""
    module._update_flat_weights()
    options = module.bias, module.num_layers, module.dropout, module.training, module.bidirectional
    if isinstance(input, PackedSequence):
        data, sizes, order, inverse = input
        states = _initial(module, data, int(sizes[0])) if hx is None else _reordered(_states(hx), order)
        module.check_forward_args(data, _hx(states), sizes)
        output, *last = function(data, sizes, _hx(states), module._flat_weights, *options)
        return PackedSequence(output, sizes, order, inverse), _hx(_reordered(last, inverse))
    if input.dim() not in (2, 3):
        raise ValueError(f"{type(module).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
    if any(state.dim() != input.dim() for state in _states(hx)):
        dims = ", ".join(f"{state.dim()}-D" for state in _states(hx))
        raise RuntimeError(f"For {input.dim()}-D input, hx should also be {input.dim()}-D but got {dims}")
    batch_dim, states, single = 0 if module.batch_first else 1, _states(hx), input.dim() == 2
    if single:
        input, states = functional.unsqueeze(input, batch_dim), [functional.unsqueeze(state, 1) for state in states]
    states = states or _initial(module, input, input.shape[batch_dim])
    module.check_forward_args(input, _hx(states), None)
    output, *last = function(input, _hx(states), module._flat_weights, *options, module.batch_first)
    if single:
        output, last = functional.squeeze(output, batch_dim), [functional.squeeze(state, 1) for state in last]
    return output, _hx(last)


def _cell(module: Any, function: Callable[..., Any], input: Tensor, hx: Any) -> Any:
    """Call a cell function with the module's weights."""
    for argument, tensor in (("input", input), *(("hidden", state) for state in _states(hx))):
        if tensor.dim() not in (1, 2):
            name = type(module).__name__
            raise ValueError(f"{name}: Expected {argument} to be 1D or 2D, got {tensor.dim()}D instead")
    states, single = _states(hx), input.dim() == 1
    if single:
        input, *states = (functional.unsqueeze(each, 0) for each in (input, *states))
    if not states:
        count = 2 if isinstance(module, LSTMCell) else 1  # torch.compile does not support one Tensor for both
        states = [input.new_zeros(len(input), module.hidden_size) for _ in range(count)]
    weights = module.weight_ih, module.weight_hh, module.bias_ih, module.bias_hh
    last = _states(function(input, _hx(states), *weights))
    return _hx([functional.squeeze(state, 0) for state in last] if single else last)


def _states(hx: Any) -> list[Tensor]:
    """The Tensors in hx: none, h, or h and c."""
    return [] if hx is None else [hx] if isinstance(hx, Tensor) else list(hx)


def _hx(states: Sequence[Tensor]) -> Any:
    """The inverse of `_states`."""
    return states[0] if len(states) == 1 else tuple(states)


def _initial(module: Any, input: Tensor, batch: int) -> list[Tensor]:
    """States of zeros."""
    parts = module.num_layers * (2 if module.bidirectional else 1)
    widths = [module.proj_size or module.hidden_size] + [module.hidden_size] * isinstance(module, LSTM)
    return [input.new_zeros(parts, batch, width) for width in widths]


def _reordered(states: Sequence[Tensor], order: Tensor | None) -> Sequence[Tensor]:
    """The states in the order of a packed sequence, or back."""
    return states if order is None else [functional.getitem(state, (slice(None), order)) for state in states]
