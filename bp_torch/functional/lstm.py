"""The LSTM's recursion and its backpropagation through time. See `rnn` for what all recurrent layers share."""

from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.function import Function, save
from bp_torch.functional.rnn import Time, before, head, joined, rows, steps, with_head


class LSTM(Function):
    """cₜ = fₜ cₜ₋₁ + iₜ gₜ and hₜ = oₜ tanh(cₜ): a cell c that is changed and read through gates.

    Input gate i, forget gate f, candidate g and output gate o are functions of the input and of hₜ₋₁:

        zₜ = aₜ + W hₜ₋₁                          the arguments of the four
        i, f, g, o = σ(zᵢ), σ(z_f), tanh(z_g), σ(zₒ)

    All products are elementwise but those with W. With a projection P the output is hₜ = P mₜ, where mₜ = oₜ tanh(cₜ).

    Shapes: a (T, N, 4C), or as `Time` says; h₀ (N, R), c₀ (N, C), W (4C, R), P (R, C) or None, in which case R = C.
    `Linear` computes a = x Wᵢᵀ + b for all steps. The output (T, N, R + 5C) has all states of a step side by side: hₜ,
    cₜ, iₜ, fₜ, gₜ, oₜ. The backward reads them there, and each may have an upstream gradient, written ∂hₜ, ∂cₜ, ∂iₜ …:
    layers use h and c only, second derivatives use all.

    Backward, from step T to 1. δh, δc, δm, δz are the gradients of hₜ, cₜ, mₜ and zₜ:

        δh = ∂hₜ + Wᵀ δzₜ₊₁                       as an output, and through the gates of the next step
        δm = Pᵀ δh                                δh without a projection
        δc = ∂cₜ + fₜ₊₁ δcₜ₊₁ + δm o (1 − tanh²c)   as an output, through cₜ₊₁, and through mₜ

    For the last step, the terms of step T + 1 are 0. cₜ = f cₜ₋₁ + i g and m = o tanh(c) give the gradients of the
    gates. The slopes are σ′ = σ (1 − σ) and tanh′ = 1 − tanh²:

        δzᵢ  = (δc g + ∂i) i (1 − i)
        δz_f = (δc cₜ₋₁ + ∂f) f (1 − f)
        δz_g = (δc i + ∂g) (1 − g²)
        δzₒ  = (δm tanh(c) + ∂o) o (1 − o)

    And at the end, for all steps at once,

        ∂C/∂aₜ = δzₜ        ∂C/∂h₀ = Wᵀ δz₁        ∂C/∂c₀ = f₁ δc₁
        ∂C/∂W = Σₜ δzₜ hₜ₋₁ᵀ                       ∂C/∂P = Σₜ δhₜ mₜᵀ

    δz is the upstream gradient of `Linear`, which multiplies it by x: ∂C/∂Wᵢ = Σₜ δzₜ xₜᵀ. Where f is near 1, δc goes
    back through many steps without getting smaller: c was invented for this.

    Source: Hochreiter, Schmidhuber (1997); forget gate: Gers, Schmidhuber, Cummins (2000); projection: Sak, Senior,
    Beaufays (2014).

    Two steps of one unit, with all weights 0 but that of the candidate, 2. a is such that g is 0 in both steps; so are
    c and h, and the gates i, f, o are 1/2. For C = h₂, δc₂ = o = 1/2 and δz_g₂ = δc₂ i = 1/4. The first cell gets
    f δc₂ = 1/4 along the cells, and o δh₁ = 1/2 · 2 · 1/4 through the gates of step 2: δc₁ = 1/2, and δz_g₁ = 1/4.

    >>> a = torch.tensor([[0.0, 0.0, -6.0, 0.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    >>> h0, c0 = torch.tensor([[3.0]], requires_grad=True), torch.tensor([[0.0]], requires_grad=True)
    >>> w = torch.tensor([[0.0], [0.0], [2.0], [0.0]], requires_grad=True)
    >>> states = LSTM.call(a, h0, c0, w, None, (1, 1), False)
    >>> states[1].tolist()  # h, c, i, f, g, o of step 2
    [0.0, 0.0, 0.5, 0.5, 0.0, 0.5]
    >>> [grad.tolist() for grad in torch.autograd.grad(states[1, 0], (a, h0, c0, w))]
    [[[0.0, 0.0, 0.25, 0.0], [0.0, 0.0, 0.25, 0.0]], [[0.5]], [[0.25]], [[0.0], [0.0], [0.75], [0.0]]]
    """

    @staticmethod
    def forward(
        projected: Tensor,
        h0: Tensor,
        c0: Tensor,
        weight: Tensor,
        projection: Tensor | None,
        time: Time,
        reverse: bool,
    ) -> Tensor:
        h, c, states = h0, c0, []
        for (a,) in steps(time, reverse, projected):
            n = len(a)
            i, f, g, o = torch.addmm(a, head(h, n), weight.t()).chunk(4, 1)
            i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
            new_c = f * head(c, n) + i * g
            m = o * new_c.tanh()
            new_h = m if projection is None else m @ projection.t()
            states.append(torch.cat((new_h, new_c, i, f, g, o), 1))
            h, c = with_head(h, new_h), with_head(c, new_c)
        return joined(states, time, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, h0, c0, weight, projection, ctx.time, ctx.reverse = inputs
        save(ctx, output, h0, c0, weight, projection)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        states, h0, c0, weight, projection = ctx.saved_tensors
        h_before, m, *recalled = LSTM.recall(states, h0, c0, ctx)
        widths, backwards = [h0.shape[1], c0.shape[1], 4 * c0.shape[1]], not ctx.reverse

        grad_h, grad_c = torch.zeros_like(h0), torch.zeros_like(c0)  # Wᵀ δz and f δc of the next step
        deltas_h, deltas = [], []
        for upstream, c_before, i, f, g, tanh_c, slope_c, slope in steps(ctx.time, backwards, grad_output, *recalled):
            n, (upstream_h, upstream_c, upstream_gates) = len(upstream), torch.split(upstream, widths, 1)
            delta_h = upstream_h + head(grad_h, n)
            delta_m = delta_h if projection is None else delta_h @ projection
            delta_c = upstream_c + head(grad_c, n) + delta_m * slope_c
            gates = torch.cat((delta_c * g, delta_c * c_before, delta_c * i, delta_m * tanh_c), 1)
            delta = (gates + upstream_gates) * slope
            grad_h, grad_c = with_head(grad_h, delta @ weight), with_head(grad_c, delta_c * f)
            deltas_h.append(delta_h)
            deltas.append(delta)

        delta = joined(deltas, ctx.time, backwards)
        grad_weight = rows(delta, ctx.time).t() @ rows(h_before, ctx.time) if ctx.needs_input_grad[3] else None
        grad_projection = None
        if ctx.needs_input_grad[4]:
            grad_projection = rows(joined(deltas_h, ctx.time, backwards), ctx.time).t() @ rows(m, ctx.time)
        return delta, grad_h, grad_c, grad_weight, grad_projection, None, None

    @staticmethod
    def recall(states: Tensor, h0: Tensor, c0: Tensor, ctx: Any) -> tuple[Tensor, ...]:
        """For all steps: hₜ₋₁, m, cₜ₋₁, i, f, g, tanh(c), the slope of m by c, and the slopes of the gates."""
        h, c, i, f, g, o = torch.split(states, [h0.shape[1], *[c0.shape[1]] * 5], -1)
        h_before, c_before = (before(*each, ctx.time, ctx.reverse) for each in ((h, h0), (c, c0)))
        tanh_c = torch.tanh(c)
        slope_c = o * (1 - tanh_c) * (1 + tanh_c)
        slopes = torch.cat((i * (1 - i), f * (1 - f), (1 - g) * (1 + g), o * (1 - o)), -1)
        return h_before, o * tanh_c, c_before, i, f, g, tanh_c, slope_c, slopes

    @staticmethod
    def jvp(
        ctx: Any, projected: Tensor, h0: Tensor, c0: Tensor, weight: Tensor, projection: Tensor | None, *_: None
    ) -> Tensor:
        states, initial_h, initial_c, w, p = ctx.saved_tensors
        h_before, m, *recalled = LSTM.recall(states, initial_h, initial_c, ctx)
        direct_z = projected + h_before @ weight.t()
        direct_h = torch.zeros_like(m) if projection is None else m @ projection.t()

        tangent_h, tangent_c, tangents = h0, c0, []
        for a, direct, c_before, i, f, g, tanh_c, slope_c, slope in steps(
            ctx.time, ctx.reverse, direct_z, direct_h, *recalled
        ):
            gates = (a + head(tangent_h, len(a)) @ w.t()) * slope
            d_i, d_f, d_g, d_o = gates.chunk(4, 1)
            new_c = d_f * c_before + f * head(tangent_c, len(a)) + d_i * g + i * d_g
            new_m = d_o * tanh_c + slope_c * new_c
            new_h = direct + (new_m if p is None else new_m @ p.t())
            tangents.append(torch.cat((new_h, new_c, gates), 1))
            tangent_h, tangent_c = with_head(tangent_h, new_h), with_head(tangent_c, new_c)
        return joined(tangents, ctx.time, ctx.reverse)
