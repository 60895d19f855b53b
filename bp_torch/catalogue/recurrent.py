"""Entries of recurrent layers and cells."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import ErrorInput, OpInfo, RandomTensors, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(29)
_SIZES = torch.tensor([2, 2, 1])  # batch_sizes of a packed sequence of 5 rows


def _options(layers: int = 1, biases: bool = True, both: bool = False, **others: Any) -> dict[str, Any]:
    """The arguments after `params`; packed sequences have no `batch_first`."""
    options = {"has_biases": biases, "num_layers": layers, "dropout": 0.0, "train": True, "bidirectional": both}
    return {**options, **others}


def _weights(gates: int, features: int, hidden: int) -> tuple[Tensor, ...]:
    """w_ih, w_hh, b_ih, b_hh."""
    rows = gates * hidden
    return _draw(rows, features), _draw(rows, hidden), _draw(rows), _draw(rows)


def _hx(gates: int, *shape: int) -> Any:
    """The state before the first step, two of them for an LSTM."""
    return (_draw(*shape), _draw(*shape)) if gates == 4 else _draw(*shape)


def _axes(gates: int, state: str) -> str:
    """The axes of hx, w_ih and w_hh; those of a bias are ", gates*hidden"."""
    rows = f", {gates}*hidden"
    return f", {state} hidden" * (2 if gates == 4 else 1) + f"{rows} features{rows} hidden"


def _layer(name: str, backward: str, gates: int, *samples: Sample) -> OpInfo:
    """A sample with biases, and others."""
    x, hx, params = _draw(3, 2, 2), _hx(gates, 1, 2, 2), _weights(gates, 2, 2)
    options = _options(batch_first=False)
    axes = "3 batch features" + _axes(gates, "1 batch") + f", {gates}*hidden" * 2
    return op_info(
        name,
        backward,
        (Sample((x, hx, params), options, axes=axes), *samples),
        ErrorInput(([1.0], hx, params), TypeError, "input", options),
        ErrorInput((x, None, params), TypeError, "hx", options),
        ErrorInput((x, hx, params[0]), TypeError, "params", options),
        ErrorInput((x, hx, params, True, 1), TypeError, "num_layers"),
        ErrorInput((x[:0], hx, params), RuntimeError, r"T > 0, got \(0, 2, 2\)", options),
        ErrorInput((x, _hx(gates, 1, 1, 2), params), RuntimeError, r"hx.* must be \(1, 2, 2\), got \(1, 1,", options),
        ErrorInput((_draw(3, 2, 1), hx, params), RuntimeError, r"w_ih must be .*, 1\)", options),
        ErrorInput((x, hx, params[:3]), RuntimeError, "4 Tensors for each of 1 layers .* got 3", options),
        ErrorInput((x.float(), hx, params), RuntimeError, r"float64.*float32", options),
        ErrorInput((x[0], torch.tensor([1, 2]), hx, params), RuntimeError, "batch_sizes must decrease", _options()),
        ErrorInput((x[0], torch.tensor([1.0]), hx, params), RuntimeError, "batch_sizes .*float32", _options()),
    )


def _cell(name: str, backward: str, gates: int) -> OpInfo:
    """With biases, and with one of them."""
    axes = "batch features" + _axes(gates, "batch")
    x, hx, weights = _draw(3, 2), _hx(gates, 3, 2), _weights(gates, 2, 2)
    w_ih, w_hh, _, b_hh = _weights(gates, 1, 1)
    return op_info(
        name,
        backward,
        (
            Sample((x, hx, *weights), axes=axes + f", {gates}*hidden" * 2),
            Sample((_draw(2, 1), _hx(gates, 2, 1), w_ih, w_hh, None, b_hh), axes=f"{axes}, , {gates}*hidden"),
        ),
        ErrorInput((x, None, *weights), TypeError, "hx"),
        ErrorInput((x, hx, weights[0]), TypeError, "w_hh"),
        ErrorInput((x[0], hx, *weights), IndexError, r"input must be \(N, features\), got \(2,\)|Dimension"),
        ErrorInput((x[:2], hx, *weights), RuntimeError, r"hx.* must be \(2, 2\), got \(3, 2\)"),
        ErrorInput((_draw(3, 1), hx, *weights), RuntimeError, r"w_ih must be .*, 1\)"),
        ErrorInput((x, hx, *weights[:3], _draw(3)), RuntimeError, r"b_hh must be .*, got \(3,\)"),
        ErrorInput((x.float(), hx, *weights), RuntimeError, r"float64.*float32"),
        rejects_lists=True,
    )


_SIMPLE = "δₜ = (gₜ + Wᵀ δₜ₊₁) f′, ∂C/∂x = Wᵢᵀ δ, ∂C/∂W = Σₜ δₜ hₜ₋₁ᵀ"
_GRU = "δhₜ = gₜ + z δhₜ₊₁ + Wᵀ (δr, δz, δq)ₜ₊₁, δn = δh (1 − z) (1 − n²), δz = δh (hₜ₋₁ − n) z (1 − z)"
_LSTM = "δhₜ = gₜ + Wᵀ (δi, δf, δg, δo)ₜ₊₁, δcₜ = f δcₜ₊₁ + δh o (1 − tanh²c)"


def _tensors(*shapes: Sequence[int]) -> list[Tensor]:
    return [_draw(*shape) for shape in shapes]


_two_layers = Sample(
    (_draw(2, 3, 1), _draw(2, 2, 2), _tensors((2, 1), (2, 2), (2, 2), (2, 2))),
    _options(2, biases=False, dropout=0.4, batch_first=True),
    axes="2 3 1, 2 2 2, 2 1, 2 2, 2 2, 2 2",
    seed=0,
)
_packed = Sample(
    (_draw(5, 1), _SIZES, _draw(2, 2, 2), _tensors(*[(6, 1), (6, 2)] * 2)),
    _options(biases=False, both=True),
    axes="5 features, 3, 2 2 hidden" + ", 3*hidden features, 3*hidden hidden" * 2,
)
_projection = Sample(
    (_draw(5, 1), _SIZES, tuple(_tensors((2, 2, 1), (2, 2, 2))), _tensors(*[(8, 1), (8, 1), (1, 2)] * 2)),
    _options(biases=False, both=True),
    axes="5 features, 3, 2 2 1, 2 2 2" + ", 8 features, 8 1, 1 2" * 2,
)

OP_INFOS = (
    _layer("rnn_tanh", f"{_SIMPLE}; f′ = 1 − hₜ²", 1, _two_layers),
    _layer("rnn_relu", f"{_SIMPLE}; f′ = 1 where hₜ > 0, else 0", 1),
    _layer("gru", _GRU, 3, _packed),
    _layer("lstm", _LSTM, 4, _projection),
    _cell("rnn_tanh_cell", "δ = g (1 − h²)", 1),
    _cell("rnn_relu_cell", "δ = g where h > 0, else 0", 1),
    _cell("gru_cell", "the equation of gru, for one step", 3),
    _cell("lstm_cell", "the equation of lstm, for one step", 4),
)
