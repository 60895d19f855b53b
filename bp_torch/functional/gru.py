"""The GRU's recursion and its backpropagation through time. See `rnn` for what all recurrent layers share."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.rnn import Time, before, head, joined, rows, steps, with_head


class GRU(Function):
    """hₜ = (1 − zₜ) nₜ + zₜ hₜ₋₁: a state that moves towards a candidate n, as far as the gate z lets it.

    Reset gate r, update gate z and candidate n are functions of the input and of hₜ₋₁, each with its third of W and b:

        r = σ(aᵣ + Wᵣ hₜ₋₁ + bᵣ)
        z = σ(a_z + W_z hₜ₋₁ + b_z)
        q = Wₙ hₜ₋₁ + bₙ
        n = tanh(aₙ + r q)

    r multiplies q with its bias, as in torch; in the paper it multiplies hₜ₋₁. All products are elementwise but those
    with W.

    Shapes: a (T, N, 3H), or as `Time` says; h₀ (N, H), W (3H, H), b (3H,) or None. `Linear` computes a = x Wᵢᵀ + bᵢ for
    all steps. The output (T, N, 5H) has all states of a step side by side: hₜ, rₜ, zₜ, nₜ, qₜ. The backward reads them
    there, and each may have an upstream gradient, written ∂hₜ, ∂rₜ …: layers use h only, second derivatives use all.

    Backward, from step T to 1. δh is the gradient of hₜ; δaᵣ, δa_z, δaₙ are those of the arguments of σ, σ and tanh:

        δh   = ∂hₜ + zₜ₊₁ δhₜ₊₁ + Wᵀ (δaᵣ, δa_z, δq)ₜ₊₁      as an output, through hₜ₊₁, and through its gates
        δaₙ  = (δh (1 − z) + ∂n) (1 − n²)
        δa_z = (δh (hₜ₋₁ − n) + ∂z) z (1 − z)
        δaᵣ  = (δaₙ q + ∂r) r (1 − r)
        δq   = δaₙ r + ∂q

    For the last step, the terms of step T + 1 are 0. And at the end, for all steps at once,

        ∂C/∂aₜ = (δaᵣ, δa_z, δaₙ)ₜ        ∂C/∂h₀ = z₁ δh₁ + Wᵀ (δaᵣ, δa_z, δq)₁
        ∂C/∂W = Σₜ (δaᵣ, δa_z, δq)ₜ hₜ₋₁ᵀ        ∂C/∂b = Σₜ (δaᵣ, δa_z, δq)ₜ

    The gradients of b and of bᵢ differ in the last third: δq for δaₙ.

    Source: Cho, van Merriënboer, Gulcehre, Bahdanau, Bougares, Schwenk, Bengio (2014).

    Two steps of one unit, with all weights 0 but that of q, 2. a is such that n is 0 in both steps, and r and z are
    1/2: h halves from 4 to 2 to 1. For C = h₂, step 2 has δaₙ = 1/2, δa_z = 2 · 1/4, δaᵣ = 1/2 · 4 · 1/4 and δq = 1/4.
    So δh₁ = 1/2 + 2 · 1/4 = 1, and step 1 is like step 2, with h₀ = 4 for h₁ = 2.

    >>> a = torch.tensor([[0.0, 0.0, -4.0], [0.0, 0.0, -2.0]], requires_grad=True)
    >>> h0, w = torch.tensor([[4.0]], requires_grad=True), torch.tensor([[0.0], [0.0], [2.0]])
    >>> states = GRU.call(a, h0, w, None, (1, 1), False)
    >>> states.tolist()  # h, r, z, n, q of both steps
    [[2.0, 0.5, 0.5, 0.0, 8.0], [1.0, 0.5, 0.5, 0.0, 4.0]]
    >>> [grad.tolist() for grad in torch.autograd.grad(states[1, 0], (a, h0))]
    [[[1.0, 1.0, 0.5], [0.5, 0.5, 0.5]], [[1.0]]]
    """

    @staticmethod
    def forward(
        projected: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None, time: Time, reverse: bool
    ) -> Tensor:
        h, states = h0, []
        for a_r, a_z, a_n in steps(time, reverse, *projected.chunk(3, -1)):
            h_before = head(h, len(a_r))
            w_r, w_z, q = torch.nn.functional.linear(h_before, weight, bias).chunk(3, 1)
            r, z = torch.sigmoid(a_r + w_r), torch.sigmoid(a_z + w_z)
            n = torch.tanh(a_n + r * q)
            new_h = n + z * (h_before - n)
            states.append(torch.cat((new_h, r, z, n, q), 1))
            h = with_head(h, new_h)
        return joined(states, time, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, h0, weight, _, ctx.time, ctx.reverse = inputs
        save(ctx, output, h0, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        states, h0, weight = ctx.saved_tensors
        h_before, *recalled = GRU.recall(states, h0, ctx)
        backwards = not ctx.reverse

        grad_h, of_input, of_hidden = torch.zeros_like(h0), [], []
        for upstream, r, z, q, h_minus_n, slope_r, slope_z, slope_n in steps(
            ctx.time, backwards, grad_output, *recalled
        ):
            upstream_h, upstream_r, upstream_z, upstream_n, upstream_q = upstream.chunk(5, 1)
            delta_h = upstream_h + head(grad_h, len(upstream))
            delta_n = (delta_h * (1 - z) + upstream_n) * slope_n
            delta_z = (delta_h * h_minus_n + upstream_z) * slope_z
            delta_r = (delta_n * q + upstream_r) * slope_r
            delta_q = delta_n * r + upstream_q
            of_input.append(torch.cat((delta_r, delta_z, delta_n), 1))
            of_hidden.append(torch.cat((delta_r, delta_z, delta_q), 1))
            grad_h = with_head(grad_h, delta_h * z + of_hidden[-1] @ weight)

        delta = rows(joined(of_hidden, ctx.time, backwards), ctx.time)
        grad_bias = delta.sum(0) if ctx.needs_input_grad[3] else None
        grad_weight = delta.t() @ rows(h_before, ctx.time) if ctx.needs_input_grad[2] else None
        return joined(of_input, ctx.time, backwards), grad_h, grad_weight, grad_bias, None, None

    @staticmethod
    def recall(states: Tensor, h0: Tensor, ctx: Any) -> tuple[Tensor, ...]:
        """For all steps: hₜ₋₁, r, z, q, hₜ₋₁ − n, and the slopes of r, z and n."""
        h, r, z, n, q = states.chunk(5, -1)
        h_before = before(h, h0, ctx.time, ctx.reverse)
        return h_before, r, z, q, h_before - n, r * (1 - r), z * (1 - z), (1 - n) * (1 + n)

    @staticmethod
    def jvp(ctx: Any, projected: Tensor, h0: Tensor, weight: Tensor, bias: Tensor | None, *_: None) -> Tensor:
        states, initial, w = ctx.saved_tensors
        h_before, *recalled = GRU.recall(states, initial, ctx)
        direct = torch.nn.functional.linear(h_before, weight, bias)

        tangent, tangents = h0, []
        for a, b, r, z, q, h_minus_n, slope_r, slope_z, slope_n in steps(
            ctx.time, ctx.reverse, projected, direct, *recalled
        ):
            h_tangent = head(tangent, len(a))
            (a_r, a_z, a_n), (w_r, w_z, dq) = a.chunk(3, 1), (b + h_tangent @ w.t()).chunk(3, 1)
            dr, dz = (a_r + w_r) * slope_r, (a_z + w_z) * slope_z
            dn = (a_n + dr * q + r * dq) * slope_n
            new_h = dn * (1 - z) + dz * h_minus_n + z * h_tangent
            tangents.append(torch.cat((new_h, dr, dz, dn, dq), 1))
            tangent = with_head(tangent, new_h)
        return joined(tangents, ctx.time, ctx.reverse)
