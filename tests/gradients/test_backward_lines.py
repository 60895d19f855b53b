"""The hint at the first wrong line of a backward."""

import inspect
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from planted import BUGS, CORRECT
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from bp_torch.catalogue.op_info import RandomTensors
from bp_torch.gradients import check_gradients
from bp_torch.gradients.backward_lines import first_wrong_line
from bp_torch.gradients.call import as_callable, as_calls

pytestmark = pytest.mark.skipif(sys.gettrace() is not None, reason="a debugger or coverage traces")
numbers = RandomTensors(0)


class TwoLayers(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        ctx.save_for_backward(x, w1, w2)
        return torch.tanh(x @ w1) @ w2


class DerivativeOfTanh(TwoLayers):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w1, w2 = ctx.saved_tensors
        h = torch.tanh(x @ w1)
        dh = g @ w2.t()
        dz = dh * (1 - h)  # wrong
        return dz @ w1.t(), x.t() @ dz, h.t() @ g


class Activation(TwoLayers):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w1, w2 = ctx.saved_tensors
        h = torch.sigmoid(x @ w1)  # wrong
        dz = (g @ w2.t()) * (1 - h * h)
        return dz @ w1.t(), x.t() @ dz, h.t() @ g


class ReturnedProduct(TwoLayers):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w1, w2 = ctx.saved_tensors
        h = torch.tanh(x @ w1)
        dz = (g @ w2.t()) * (1 - h * h)
        return dz @ w1.t(), x.t() @ dz, -h.t() @ g  # wrong


class InPlace(TwoLayers):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w1, w2 = ctx.saved_tensors
        h = torch.tanh(x @ w1)
        dz = g @ w2.t()
        dz *= 1 + h * h  # wrong
        dw2 = h.t() @ g
        return dz @ w1.t(), x.t() @ dz, dw2


class RightTwoLayers(TwoLayers):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, w1, w2 = ctx.saved_tensors
        h = torch.tanh(x @ w1)
        dz = (g @ w2.t()) * (1 - h * h)
        return dz @ w1.t(), x.t() @ dz, h.t() @ g


class Attention(Function):
    """Without a ctx in its forward."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.save_for_backward(*inputs)


class SumOverQueries(Attention):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -0.5
        p = (q @ k.mT * scale).softmax(-1)
        dp = g @ v.mT
        ds = p * (
            dp  # (queries, keys)
            - (p * dp).sum(-2, keepdim=True)  # wrong
        )
        return ds @ k * scale, ds.mT @ q * scale, p.mT @ g


class Scale(Attention):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        q, k, v = ctx.saved_tensors
        scale = q.shape[-1] ** -1.0  # wrong
        p = (q @ k.mT * scale).softmax(-1)
        dp = g @ v.mT
        ds = p * (dp - (p * dp).sum(-1, keepdim=True))
        return ds @ k * scale, ds.mT @ q * scale, p.mT @ g


class Gates(Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, c)
        return torch.sigmoid(a) * torch.tanh(b) * torch.sigmoid(c)


class OtherGate(Gates):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        a, b, c = ctx.saved_tensors
        i = torch.sigmoid(a)
        j = torch.tanh(b)
        k = torch.sigmoid(c - c + a)  # wrong
        da = g * j * k * i * (1 - i)
        db = g * i * k * (1 - j * j)
        return da, db, g * i * j * k * (1 - k)


class TwoMistakes(Gates):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        a, b, c = ctx.saved_tensors
        i, j, k = torch.sigmoid(a), torch.tanh(b), torch.sigmoid(c)
        da = g * j * k * i * (1 + i)
        db = g * i * k * (1 - j)
        return da, db, g * i * j * k * (1 - k)


class Clipped(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x > 0.3, x * x, 0.0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        mask = x > 0  # wrong
        slope = 2 * x
        return g * slope * mask


class OneLine(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.x = x
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return g * ctx.x


class UnknownTerm(Function):
    """GELU, of which autograd has no intermediate: the line of `density` or the next may be wrong."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.nn.functional.gelu(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        density = torch.exp(-x * x / 2) / 2
        return g * (torch.erf(x / 2**0.5) / 2 + 0.5 + x * density)


def line_marked_wrong(function: type[Function]) -> str:
    """The line of the statement with the comment."""
    lines, start = inspect.getsourcelines(inspect.unwrap(function.backward))
    number = next(i for i, line in enumerate(lines) if "# wrong" in line)
    while lines[number].lstrip().startswith("-"):
        number -= 2
    return f"line {start + number} of test_backward_lines.py, "


def hint_at(function: Callable[..., Any], *args: Any, reference: Callable[..., Any] | None = None) -> str:
    (call,) = as_calls(function, [args])
    return first_wrong_line(call, reference, numbers(*call.value().shape))


def two_layers(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
    return (x @ w1).tanh() @ w2


ATTENTION = (numbers(2, 7, 4), numbers(2, 5, 4), numbers(2, 5, 3))
LAYERS = (numbers(7, 4), numbers(4, 6), numbers(6, 3))
GATES = (numbers(4, 3), numbers(4, 3), numbers(4, 3))


@pytest.mark.parametrize(
    ("function", "args", "reference"),
    [
        (DerivativeOfTanh, LAYERS, two_layers),
        (Activation, LAYERS, two_layers),
        (ReturnedProduct, LAYERS, two_layers),
        (InPlace, LAYERS, two_layers),
        (SumOverQueries, ATTENTION, Attention.forward),
        (Scale, ATTENTION, Attention.forward),
        (OtherGate, GATES, None),
        (Clipped, (numbers(6, 5),), None),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_wrong_line_is_named(function: Any, args: tuple[Tensor, ...], reference: Any) -> None:
    for known in {reference, None}:
        hint = hint_at(function, *args, reference=known)
        assert hint.startswith(line_marked_wrong(function)), hint
        assert hint.endswith("(a guess)")


def test_the_whole_statement_is_quoted() -> None:
    hint = hint_at(SumOverQueries, *ATTENTION)
    assert '"ds = p * ( dp # (queries, keys) - (p * dp).sum(-2, keepdim=True) # wrong )"' in hint


def test_the_report_has_the_hint_once() -> None:
    report = check_gradients(DerivativeOfTanh, [LAYERS, LAYERS], reference=two_layers, fail_fast=False)
    assert str(report).count('"dz = dh * (1 - h)", is the first whose value has no counterpart') == 1
    assert report.hints[0].startswith(line_marked_wrong(DerivativeOfTanh))


def test_a_function_that_calls_apply() -> None:
    def function(x: Tensor, w1: Tensor, w2: Tensor) -> Tensor:
        return DerivativeOfTanh.apply(2 * x, w1, w2).square()  # type: ignore[no-any-return, no-untyped-call]

    assert hint_at(function, *LAYERS).startswith(line_marked_wrong(DerivativeOfTanh))
    assert "apply" not in vars(DerivativeOfTanh)


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (RightTwoLayers, LAYERS),
        (torch.tanh, GATES[:1]),
        (TwoMistakes, GATES),
        (OneLine, GATES[:1]),
        (UnknownTerm, GATES[:1]),
        (DerivativeOfTanh, [x.bfloat16() for x in LAYERS]),
        (DerivativeOfTanh, (numbers(200, 200), numbers(200, 2), numbers(2, 2))),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_silent_without_a_certain_line(function: Any, args: Any) -> None:
    assert not hint_at(function, *args)


def test_silent_while_another_trace_function_is_active() -> None:
    def trace(*_: Any) -> None:
        return None

    sys.settrace(trace)
    try:
        assert not hint_at(DerivativeOfTanh, *LAYERS)
        assert sys.gettrace() is trace
    finally:
        sys.settrace(None)
    assert hint_at(DerivativeOfTanh, *LAYERS)
    assert sys.gettrace() is None


def test_silent_if_the_reference_raises() -> None:
    def raises(*_: Tensor) -> Tensor:
        raise RuntimeError("no")

    assert not hint_at(DerivativeOfTanh, *LAYERS, reference=raises)
    assert sys.gettrace() is None


def test_silent_for_planted_bugs_and_right_functions() -> None:
    """They alter a result, or an equation of one line. A hint is printed for a wrong gradient only."""
    said = {}
    for case in (*BUGS[::4], *CORRECT[::4]):
        try:
            call = as_calls(case.function, case.samples)[0].to(torch.float64)
            upstream = torch.ones_like(call.value())
        except Exception:  # a bug in the forward
            continue
        reference = as_callable(case.reference, call.parameters, "") if case.reference else None
        said[case.name] = first_wrong_line(call, reference, upstream)
    assert len(said) > 50
    assert len([hint for hint in said.values() if hint]) <= len(said) // 50
