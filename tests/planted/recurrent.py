"""Bugs of backpropagation through time. The correct equations are written out piece by piece, and each bug changes one.

A piece is a function of one step s, which has: the states h, c, i …; their upstream gradients up_h, up_c …; the states
before, h_before and c_before; and next_h and next_c, what the next step sends back, as its piece of that name. A total
is a function of all steps.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.functional.function import Function
from bp_torch.functional.gru import GRU
from bp_torch.functional.lstm import LSTM
from bp_torch.functional.rnn import RNN
from bp_torch.sample import Sample
from planted.bug import Bug, Original

_draw = RandomTensors(31)
Equations = dict[str, Callable[[Any], Any]]


def _backward(columns: str, pieces: Equations, totals: Equations) -> Callable[..., tuple[Tensor | None, ...]]:
    """Backpropagation through time, for Tensors (T, N, *) and without a projection."""
    states = [name for name in columns if f"next_{name}" in pieces]

    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        output, *initial = ctx.saved_tensors[: 1 + len(states)]
        values, upstream = (dict(zip(columns, x.chunk(len(columns), -1), strict=True)) for x in (output, grad_output))
        sent = {f"next_{name}": torch.zeros_like(x) for name, x in zip(states, initial, strict=True)}
        steps: list[Any] = []
        for t in reversed(range(len(output))):
            s = SimpleNamespace(w=ctx.saved_tensors[1 + len(states)], **sent)
            for name in columns:
                setattr(s, name, values[name][t])
                setattr(s, f"up_{name}", upstream[name][t])
            for name, x in zip(states, initial, strict=True):
                setattr(s, f"{name}_before", values[name][t - 1] if t else x)
            for name, piece in pieces.items():
                setattr(s, name, piece(s))
            sent = {name: getattr(s, name) for name in sent}
            steps.insert(0, s)
        gradients = [total(steps) for total in totals.values()]
        return *gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients))

    return backward


def _side_by_side(*names: str) -> Callable[[Any], Tensor]:
    return lambda s: torch.cat([getattr(s, name) for name in names], 1)


def _stacked(name: str) -> Callable[[list[Any]], Tensor]:
    return lambda steps: torch.stack([getattr(s, name) for s in steps])


def _products(steps: list[Any]) -> Tensor:
    """Σₜ δₜ hₜ₋₁ᵀ."""
    return sum(s.delta.t() @ s.h_before for s in steps)  # type: ignore[return-value]


def _planted(original: Original, columns: str, pieces: Equations, totals: Equations) -> Callable[..., Bug]:
    """(name, kind, **changed pieces and totals) -> a bug."""

    def plant(name: str, kind: str, **changes: Callable[[Any], Any]) -> Bug:
        assert changes.keys() <= pieces.keys() | totals.keys()
        changed = ({key: changes.get(key, correct) for key, correct in each.items()} for each in (pieces, totals))
        return original.methods(name, kind, backward=_backward(columns, *changed))

    return plant


def _piecewise(function: type[Function], columns: str, pieces: Equations, totals: Equations) -> type[Function]:
    """The Function with the correct equations in pieces: a mistake in them would be a false alarm."""
    return type(function.__name__, (function,), {"backward": staticmethod(_backward(columns, pieces, totals))})


_RNN_PIECES: Equations = {
    "dh": lambda s: s.up_h + s.next_h,
    "delta": lambda s: s.dh * (1 - s.h * s.h),
    "next_h": lambda s: s.delta @ s.w,
}
_TOTALS: Equations = {
    "projected": _stacked("delta"),
    "h0": lambda steps: steps[0].next_h,
    "weight": _products,
}
_GRU_PIECES: Equations = {
    "dh": lambda s: s.up_h + s.next_h,
    "dn": lambda s: (s.dh * (1 - s.z) + s.up_n) * (1 - s.n * s.n),
    "dz": lambda s: (s.dh * (s.h_before - s.n) + s.up_z) * s.z * (1 - s.z),
    "dr": lambda s: (s.dn * s.q + s.up_r) * s.r * (1 - s.r),
    "dq": lambda s: s.dn * s.r + s.up_q,
    "of_input": _side_by_side("dr", "dz", "dn"),
    "delta": _side_by_side("dr", "dz", "dq"),
    "next_h": lambda s: s.dh * s.z + s.delta @ s.w,
}
_GRU_TOTALS: Equations = {
    **_TOTALS,
    "projected": _stacked("of_input"),
    "bias": lambda steps: sum(s.delta.sum(0) for s in steps),
}
_LSTM_PIECES: Equations = {
    "dh": lambda s: s.up_h + s.next_h,
    "dc": lambda s: s.up_c + s.next_c + s.dh * s.o * (1 - torch.tanh(s.c) ** 2),
    "di": lambda s: (s.dc * s.g + s.up_i) * s.i * (1 - s.i),
    "df": lambda s: (s.dc * s.c_before + s.up_f) * s.f * (1 - s.f),
    "dg": lambda s: (s.dc * s.i + s.up_g) * (1 - s.g * s.g),
    "do": lambda s: (s.dh * torch.tanh(s.c) + s.up_o) * s.o * (1 - s.o),
    "delta": _side_by_side("di", "df", "dg", "do"),
    "next_h": lambda s: s.delta @ s.w,
    "next_c": lambda s: s.dc * s.f,
}
_LSTM_TOTALS: Equations = {
    "projected": _stacked("delta"),
    "h0": lambda steps: steps[0].next_h,
    "c0": lambda steps: steps[0].next_c,
    "weight": _products,
}


def _original(name: str, function: type[Function], sample: Sample, *constants: Any) -> Original:
    """The reference is the same forward, differentiated by autograd."""
    return Original(name, function, lambda *args: function.forward(*args, *constants), (sample,), constants)


_SIMPLE = Sample((_draw(3, 2, 3), _draw(2, 3), _draw(3, 3)), axes="3 batch hidden, batch hidden, hidden hidden")
RNN_TANH = _original("rnn_tanh", _piecewise(RNN, "h", _RNN_PIECES, _TOTALS), _SIMPLE, "tanh", 0, False)
RNN_RELU = _original("rnn_relu", RNN, _SIMPLE, "relu", 0, False)
GRU_ = _original(
    "gru",
    _piecewise(GRU, "hrznq", _GRU_PIECES, _GRU_TOTALS),
    Sample(
        (_draw(3, 2, 6), _draw(2, 2), _draw(6, 2), _draw(6)),
        axes="3 batch 3*hidden, batch hidden, 3*hidden hidden, 3*hidden",
    ),
    0,
    False,
)
_SAMPLE = Sample(
    (_draw(3, 2, 8), _draw(2, 2), _draw(2, 2), _draw(8, 2)),
    axes="3 batch 4*hidden, batch hidden, batch hidden, 4*hidden hidden",
)
LSTM_ = _original("lstm", _piecewise(LSTM, "hcifgo", _LSTM_PIECES, _LSTM_TOTALS), _SAMPLE, None, 0, False)
REVERSED = _original("lstm in reverse", LSTM, _SAMPLE, None, 0, True)
_ROWS = Sample(
    (_draw(6, 8), _draw(3, 2), _draw(3, 2), _draw(8, 2)), axes="6 4*hidden, 3 hidden, 3 hidden, 4*hidden hidden"
)
PACKED = _original("packed lstm in reverse", LSTM, _ROWS, None, (3, 2, 1), True)
_NARROW = Sample(
    (_draw(3, 2, 8), _draw(2, 1), _draw(2, 2), _draw(8, 1), _draw(1, 2)),
    axes="3 batch 4*cell, batch hidden, batch cell, 4*cell hidden, hidden cell",
)
PROJECTED = _original("projected lstm", LSTM, _NARROW, 0, False)

_rnn_bug = _planted(RNN_TANH, "h", _RNN_PIECES, _TOTALS)
_gru_bug = _planted(GRU_, "hrznq", _GRU_PIECES, _GRU_TOTALS)
_lstm_bug = _planted(LSTM_, "hcifgo", _LSTM_PIECES, _LSTM_TOTALS)


def _last_only(g: Tensor) -> Tensor:
    """The upstream gradient of the last step only, as if the output were not used."""
    return torch.cat([torch.zeros_like(g[:-1]), g[-1:]])


def _without_cell(g: Tensor) -> Tensor:
    """The upstream gradient without that of c, the second of six blocks of columns."""
    h, c, *gates = g.chunk(6, -1)
    return torch.cat([h, torch.zeros_like(c), *gates], -1)


def _in_context(function: type[Function], **changes: Any) -> Callable[..., Any]:
    """The correct backward, misled: with another direction, slope or time."""

    def backward(ctx: Any, grad_output: Tensor) -> Any:
        names = ("saved_tensors", "needs_input_grad", "time", "reverse", "nonlinearity")
        given = {name: getattr(ctx, name) for name in names if hasattr(ctx, name)}
        return function.backward(SimpleNamespace(**given | changes), grad_output)

    return backward


def _ended_forgotten(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
    """What the initial states get from sequences that began later is lost."""
    delta, *states, grad_weight, projection, time, reverse = LSTM.backward(ctx, grad_output)
    h0, c0 = (torch.cat([d[:1], torch.zeros_like(d[1:])]) for d in states)
    return delta, h0, c0, grad_weight, projection, time, reverse


def _tangent_without_recursion(ctx: Any, projected: Tensor, h0: Tensor, weight: Tensor, *_: None) -> Tensor:
    h, initial, _ = ctx.saved_tensors
    h_before = torch.cat([initial.unsqueeze(0), h[:-1]])
    return (projected + h_before @ weight.t()) * (1 - h * h)


def _save_detached(function: type[Function]) -> Callable[..., None]:
    """Save what forward computed as constants."""

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        function.setup_context(ctx, inputs, output.detach())

    return setup_context


_rnn = (
    _rnn_bug("state's path through time cut", "dropped term", dh=lambda s: s.up_h),
    _rnn_bug("ReLU's slope for tanh's", "wrong formula", delta=lambda s: s.dh * (s.h > 0)),
    _rnn_bug("slope at the state before", "stale", delta=lambda s: s.dh * (1 - s.h_before**2)),
    _rnn_bug("W for Wᵀ through time", "transposed", next_h=lambda s: s.delta @ s.w.t()),
    _rnn_bug("hₜ for hₜ₋₁ in W's gradient", "position", weight=lambda steps: sum(s.delta.t() @ s.h for s in steps)),
    _rnn_bug("W's gradient averaged over the steps", "reduction", weight=lambda steps: _products(steps) / len(steps)),
    _rnn_bug("h₀'s gradient missing", "dropped term", h0=lambda steps: torch.zeros_like(steps[0].h)),
    RNN_TANH.upstream("only the last step's g", _last_only, "position"),
    RNN_TANH.methods("states saved as constants", "second derivative", setup_context=_save_detached(RNN)),
    RNN_TANH.methods("tangent without the recursion", "forward mode", jvp=_tangent_without_recursion),
    RNN_RELU.methods("tanh's slope for ReLU's", "wrong formula", backward=_in_context(RNN, nonlinearity="tanh")),
)

_gru = (
    _gru_bug("update gate the wrong way round", "wrong formula", dn=lambda s: (s.dh * s.z + s.up_n) * (1 - s.n**2)),
    _gru_bug("reset gate's path dropped", "dropped term", dr=lambda s: s.up_r * s.r * (1 - s.r)),
    _gru_bug("reset gate ignored on the way to q", "dropped term", dq=lambda s: s.dn + s.up_q),
    _gru_bug("1 − z for z to the state before", "wrong formula", next_h=lambda s: s.dh * (1 - s.z) + s.delta @ s.w),
    _gru_bug("path through the gates dropped", "dropped term", next_h=lambda s: s.dh * s.z),
    _gru_bug("hidden bias's gradient is the input bias's", "wrong formula", delta=_side_by_side("dr", "dz", "dn")),
    _gru_bug("bias gradient of the last step only", "position", bias=lambda steps: steps[-1].delta.sum(0)),
    _gru_bug("q's upstream gradient ignored", "dropped term", dq=lambda s: s.dn * s.r),
)

_lstm = (
    _lstm_bug("input and forget gate exchanged", "position", delta=_side_by_side("df", "di", "dg", "do")),
    _lstm_bug(
        "c's path through time cut",
        "dropped term",
        dc=lambda s: s.up_c + s.dh * s.o * (1 - torch.tanh(s.c) ** 2),
    ),
    _lstm_bug("output's path to c missing", "dropped term", dc=lambda s: s.up_c + s.next_c),
    _lstm_bug(
        "tanh′ of the wrong Tensor: c for tanh c",
        "wrong formula",
        dc=lambda s: s.up_c + s.next_c + s.dh * s.o * (1 - s.c**2),
    ),
    _lstm_bug("c for tanh c in the output gate", "wrong formula", do=lambda s: (s.dh * s.c + s.up_o) * s.o * (1 - s.o)),
    _lstm_bug("cₜ for cₜ₋₁ in the forget gate", "stale", df=lambda s: (s.dc * s.c + s.up_f) * s.f * (1 - s.f)),
    _lstm_bug("σ's slope for tanh's", "wrong formula", dg=lambda s: (s.dc * s.i + s.up_g) * s.g * (1 - s.g)),
    _lstm_bug("forget gate missing on the way to cₜ₋₁", "dropped term", next_c=lambda s: s.dc),
    _lstm_bug("W's gradient of the last step twice", "factor", weight=lambda steps: _products([*steps, steps[-1]])),
    _lstm_bug("c₀'s gradient missing", "dropped term", c0=lambda steps: torch.zeros_like(steps[0].c)),
    LSTM_.upstream("c's upstream gradient ignored", _without_cell, "dropped term"),
    LSTM_.methods("gates saved as constants", "second derivative", setup_context=_save_detached(LSTM)),
    _lstm_bug(
        "tanh c detached in the backward",
        "second derivative",
        do=lambda s: (s.dh * torch.tanh(s.c.detach()) + s.up_o) * s.o * (1 - s.o),
    ),
    REVERSED.methods(
        "goes through the steps of the other direction", "position", backward=_in_context(LSTM, reverse=False)
    ),
    PACKED.methods("states before sequences that began later lost", "domain", backward=_ended_forgotten),
    PROJECTED.result("projection's gradient missing", "dropped term", projection=torch.zeros_like),
)

BUGS = (*_rnn, *_gru, *_lstm)
ORIGINALS = (RNN_TANH, RNN_RELU, GRU_, LSTM_, REVERSED, PACKED, PROJECTED)
