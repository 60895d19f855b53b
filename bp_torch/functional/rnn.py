"""Backpropagation through time: the recursion that all recurrent layers share, and the simple layer, `RNN`.

A recurrent layer computes its state from the state before, with the same weights W at every step t = 1 … T:

    sₜ = F(xₜ, sₜ₋₁, W)

sₜ affects the cost C in two ways: as an output, which gives it the upstream gradient gₜ, and through the next state.
So the gradients are a recursion too, from the last step to the first, which starts with 0 after step T:

    ∂C/∂sₜ = gₜ + (∂sₜ₊₁/∂sₜ)ᵀ ∂C/∂sₜ₊₁        0 in place of the second term for t = T
    ∂C/∂s₀ = (∂s₁/∂s₀)ᵀ ∂C/∂s₁
    ∂C/∂W  = Σₜ (∂sₜ/∂W)ᵀ ∂C/∂sₜ

Source: Werbos, Backpropagation through time (1990).

Step t has nₜ rows, one for each sequence. If the sequences have several lengths, they are packed: sorted by length, so
that nₜ decreases and step t has the first nₜ of them, with all rows in one matrix, step after step. State and gradient
are kept for all N sequences, and a step replaces the first nₜ. So a sequence that has ended keeps its last state, and
in the reverse direction, from T to 1, one that has not begun keeps its initial state.
"""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save

Time = int | tuple[int, ...]
"""The axis of the steps, 0 for Tensors (T, N, *) and 1 for (N, T, *); or all nₜ, for packed sequences (Σ nₜ, *)."""


def steps(time: Time, reverse: bool, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """For each step, in order or in reverse order, its rows (nₜ, *) of each Tensor."""
    split: Any = torch.unbind if isinstance(time, int) else torch.split
    each = list(zip(*(split(tensor, time) for tensor in tensors), strict=True))
    return each[::-1] if reverse else each


def joined(parts: list[Tensor], time: Time, reverse: bool) -> Tensor:
    """The inverse of `steps`, for one Tensor."""
    parts = parts[::-1] if reverse else parts
    return torch.stack(parts).transpose(0, time) if isinstance(time, int) else torch.cat(parts)


def rows(tensor: Tensor, time: Time) -> Tensor:
    """The rows of all steps, (Σ nₜ, *), for a product that sums over them."""
    if not isinstance(time, int):
        return tensor
    length, batch, width = tensor.transpose(0, time).shape
    return tensor.transpose(0, time).reshape(length * batch, width)


def head(state: Tensor, n: int) -> Tensor:
    """The state of the first n sequences."""
    return state if len(state) == n else state.narrow(0, 0, n)


def with_head(state: Tensor, new: Tensor) -> Tensor:
    """The state of all sequences, after a step that the first of them take."""
    n = len(new)
    return new if n == len(state) else torch.cat((new, state.narrow(0, n, len(state) - n)))


def before(states: Tensor, initial: Tensor, time: Time, reverse: bool) -> Tensor:
    """sₜ₋₁ in place of sₜ."""
    state, found = initial, []
    for (new,) in steps(time, reverse, states):
        found.append(head(state, len(new)))
        state = with_head(state, new)
    return joined(found, time, reverse)


class RNN(Function):
    """hₜ = f(aₜ + W hₜ₋₁), where f is tanh or ReLU.

    Shapes: a and h (T, N, H), or as `Time` says; h₀ (N, H), W (H, H). `Linear` computes a = x Wᵢᵀ + b for all steps.

    With g = ∂C/∂h and δₜ the gradient of the argument of f, hₜ gets gₜ, and Wᵀ δₜ₊₁ through aₜ₊₁ + W hₜ:

        δₜ = (gₜ + Wᵀ δₜ₊₁) f′        f′ = 1 − hₜ² for tanh; for ReLU 1 where hₜ > 0, otherwise 0
        ∂C/∂aₜ = δₜ
        ∂C/∂h₀ = Wᵀ δ₁
        ∂C/∂W  = Σₜ δₜ hₜ₋₁ᵀ

    δ is the upstream gradient of `Linear`, which multiplies it by x: ∂C/∂Wᵢ = Σₜ δₜ xₜᵀ. At the kink of ReLU, f′ = 0.

    Source: Elman, Finding structure in time (1990).

    Two steps of one unit with ReLU: h₁ = 1 and h₂ = −1 + 3 · 1 = 2. For g = (0, 1), δ₂ = 1 and δ₁ = 3 · 1:

    >>> a = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    >>> h0, w = torch.tensor([[0.0]]), torch.tensor([[3.0]], requires_grad=True)
    >>> h = RNN.call(a, h0, w, "relu", (1, 1), False)
    >>> h.tolist(), [grad.tolist() for grad in torch.autograd.grad(h[1, 0], (a, w))]
    ([[1.0], [2.0]], [[[3.0], [1.0]], [[1.0]]])
    """

    @staticmethod
    def forward(projected: Tensor, h0: Tensor, weight: Tensor, nonlinearity: str, time: Time, reverse: bool) -> Tensor:
        f = torch.tanh if nonlinearity == "tanh" else torch.relu
        h, states = h0, []
        for (a,) in steps(time, reverse, projected):
            states.append(f(torch.addmm(a, head(h, len(a)), weight.t())))
            h = with_head(h, states[-1])
        return joined(states, time, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, h0, weight, ctx.nonlinearity, ctx.time, ctx.reverse = inputs
        save(ctx, output, h0, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        h, h0, weight = ctx.saved_tensors
        backwards = not ctx.reverse
        grad_h, deltas = torch.zeros_like(h0), []
        for g, slope in steps(ctx.time, backwards, grad_output, RNN.slope(h, ctx.nonlinearity)):
            deltas.append((g + head(grad_h, len(g))) * slope)
            grad_h = with_head(grad_h, deltas[-1] @ weight)
        delta = joined(deltas, ctx.time, backwards)
        grad_weight = None
        if ctx.needs_input_grad[2]:
            grad_weight = rows(delta, ctx.time).t() @ rows(before(h, h0, ctx.time, ctx.reverse), ctx.time)
        return delta, grad_h, grad_weight, None, None, None

    @staticmethod
    def slope(h: Tensor, nonlinearity: str) -> Tensor:
        """f′ as a function of h = f(z)."""
        return (1 - h) * (1 + h) if nonlinearity == "tanh" else h.bool().to(h.dtype)

    @staticmethod
    def jvp(ctx: Any, projected: Tensor, h0: Tensor, weight: Tensor, *_: None) -> Tensor:
        h, initial, w = ctx.saved_tensors
        direct = projected + before(h, initial, ctx.time, ctx.reverse) @ weight.t()
        tangent, tangents = h0, []
        for a, slope in steps(ctx.time, ctx.reverse, direct, RNN.slope(h, ctx.nonlinearity)):
            tangents.append((a + head(tangent, len(a)) @ w.t()) * slope)
            tangent = with_head(tangent, tangents[-1])
        return joined(tangents, ctx.time, ctx.reverse)
