"""Products of batches of matrices, and sums of products in Einstein's notation.

g = ∂C/∂y is the upstream gradient. The functions have the signatures of torch's. RuntimeError if shapes or dtypes do
not match, NotImplementedError for complex numbers. Under autocast they compute in its dtype.
"""

import string
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import require_real_output
from bp_torch.functional.elementwise import add_terms, shape_and_dtype, unbroadcast
from bp_torch.functional.function import Function, save
from bp_torch.functional.precision import autocast_to_half
from bp_torch.functional.reductions import Matmul
from bp_torch.functional.shape import as_new, sum_to_shape
from bp_torch.functional.validation import require_real, require_tensor

__all__ = ["baddbmm", "bmm", "einsum"]


class Bmm(Matmul):
    """y = A B for each matrix of two batches (b, n, k) and (b, k, m). ∂C/∂A = g Bᵀ, ∂C/∂B = Aᵀ g."""

    @staticmethod
    def forward(input: Tensor, other: Tensor) -> Tensor:
        return torch.bmm(input, other)


class Baddbmm(Function):
    """y = β x + α A B for each matrix of the batches; x is broadcast. For β = 0, x is not read, and may be NaN.

        ∂C/∂x = β g      summed over the broadcast axes
        ∂C/∂A = α g Bᵀ
        ∂C/∂B = α Aᵀ g

    >>> x, a, b = (torch.full((1, 1, 1), n, requires_grad=True) for n in (5.0, 3.0, 4.0))
    >>> baddbmm(x, a, b, beta=2, alpha=10).backward()
    >>> x.grad.item(), a.grad.item(), b.grad.item()
    (2.0, 40.0, 30.0)
    """

    @staticmethod
    def forward(input: Tensor, batch1: Tensor, batch2: Tensor, beta: float, alpha: float) -> Tensor:
        return torch.baddbmm(input, batch1, batch2, beta=beta, alpha=alpha)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        input, batch1, batch2, ctx.beta, ctx.alpha = inputs
        ctx.input = shape_and_dtype(input)
        save(ctx, batch1, batch2)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (a, b), (needs_input, needs_a, needs_b, *_) = ctx.saved_tensors, ctx.needs_input_grad
        grad_input = unbroadcast(ctx.beta * grad_output, ctx.input) if needs_input else None
        grad_a = ctx.alpha * (grad_output @ b.mT) if needs_a else None
        return grad_input, grad_a, ctx.alpha * (a.mT @ grad_output) if needs_b else None, None, None

    @staticmethod
    def jvp(ctx: Any, x: Tensor, a_tangent: Tensor, b_tangent: Tensor, *_: None) -> Tensor:
        a, b = ctx.saved_tensors
        return ctx.beta * x + ctx.alpha * (a_tangent @ b + a @ b_tangent)


class Einsum(Function):
    """y = Σ x₁ x₂ … over all letters that are not the output's, where each x has its own letters: "ij,jk->ik".

    y is linear in each operand, and ∂C/∂x is the same sum of products with g in place of this operand, and its letters
    in place of the output's. For y = Σⱼ aᵢⱼ bⱼₖ,

        ∂C/∂aᵢⱼ = Σₖ gᵢₖ bⱼₖ      einsum("ik,jk->ij", g, b)
        ∂C/∂bⱼₖ = Σᵢ aᵢⱼ gᵢₖ      einsum("ij,ik->jk", a, g)

    * A letter that no other operand and no output has was summed by itself: all its values have the same gradient. A
      vector of ones brings this axis back.
    * A letter twice in one operand takes its diagonal. The gradient off the diagonal is 0: the second one is renamed,
      and the identity matrix has both letters.
    * An axis of length 1 was broadcast if its letter has another length elsewhere: it gets the sum of the gradient.

    The trace "ii->" needs both, g · 1ᵢ δᵢⱼ:

    >>> x = torch.zeros(2, 2, requires_grad=True)
    >>> einsum("ii->", x).backward(torch.tensor(3.0))
    >>> x.grad
    tensor([[3., 0.],
            [0., 3.]])
    """

    @staticmethod
    def forward(equation: str, *operands: Tensor) -> Tensor:
        # detached: autocast would keep copies of parameters in its dtype, which have no gradient in a forward
        output = torch.einsum(equation, *(operand.detach() for operand in operands))
        return as_new(output) if len(operands) > 1 else output  # of one operand, it may be a view

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.equation, *operands = inputs
        save(ctx, *operands)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        operands, (_, *needs_gradient) = ctx.saved_tensors, ctx.needs_input_grad
        *terms, result = explicit_terms(ctx.equation, [operand.dim() for operand in operands])
        factors = [(term, x.to(grad_output.dtype)) for term, x in zip(terms, operands, strict=True)]
        gradients: list[Tensor | None] = [None] * len(operands)
        for i, (term, operand) in enumerate(zip(terms, operands, strict=True)):
            if needs_gradient[i]:
                # in a circle from the next operand on, so that neighbours share letters in a chain of matrices
                others = [*factors[i + 1 :], (result, grad_output), *factors[:i]]
                gradients[i] = sum_of_products(others, term, operand.shape).to(operand.dtype)
        return None, *gradients

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> Tensor:
        x = ctx.saved_tensors
        each = ((i, t) for i, t in enumerate(tangents) if t is not None)
        return add_terms(*(torch.einsum(ctx.equation, *x[:i], t, *x[i + 1 :]) for i, t in each))


def explicit_terms(equation: str, dims: Sequence[int]) -> list[str]:
    """The letters of each operand and of the output, with unused letters for the axes of an ellipsis."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        output = "..." + "".join(sorted(c for c in string.ascii_letters if inputs.count(c) == 1))
    terms = inputs.split(",")
    hidden = [dim - len(term.replace("...", "")) for term, dim in zip(terms, dims, strict=True)]
    unused = "".join(c for c in string.ascii_letters if c not in equation)[: max(hidden)]
    named = [term.replace("...", unused[len(unused) - n :]) for term, n in zip(terms, hidden, strict=True)]
    return [*named, output.replace("...", unused)]


def sum_of_products(factors: list[tuple[str, Tensor]], letters: str, shape: Sequence[int]) -> Tensor:
    """The sum of products with these letters and this shape. See `Einsum`."""
    like, result = factors[0][1], ""
    taken = "".join(term for term, _ in factors) + letters
    unused = (c for c in string.ascii_letters if c not in taken)
    for letter, length in zip(letters, shape, strict=True):
        if letter in result:
            letter, first = next(unused), letter
            factors.append((first + letter, torch.eye(length, dtype=like.dtype, device=like.device)))
        elif not any(letter in term and x.shape[term.index(letter)] >= length for term, x in factors):
            factors.append((letter, like.new_ones(length)))
        result += letter
    equation = ",".join(term for term, _ in factors) + "->" + result
    # batched gradients have no rule for einsum, but for its parts; torch.compile takes it as a whole
    einsum = torch.einsum if torch.compiler.is_compiling() else torch.ops.aten.einsum.default.decompose
    return sum_to_shape(einsum(equation, [x for _, x in factors]), shape)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (b, n, k) and (b, k, m). See `Bmm`."""
    require_tensor("bmm", input=input, mat2=mat2)
    return require_real_output("bmm", Bmm.call(*autocast_to_half(input, mat2)))


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """The sum beta · `input` + alpha · `batch1` `batch2`, for (b, n, k) and (b, k, m). See `Baddbmm`."""
    require_tensor("baddbmm", input=input, batch1=batch1, batch2=batch2)
    return require_real_output("baddbmm", Baddbmm.call(*autocast_to_half(input, batch1, batch2), beta, alpha))


def einsum(*args: Any) -> Tensor:
    """The sum of products of operands that an equation describes. See `Einsum`.

    `einsum("ij,jk->ik", a, b)` multiplies two matrices. Without "->", the output has the letters that occur once, in
    alphabetical order. "..." stands for the other axes, which are broadcast. The operands may come in a list, and
    letters as numbers below 52: `einsum(a, [0, 1], b, [1, 2], [0, 2])`. ValueError without an operand.
    """
    equation, operands = _equation_and_operands(args)
    for operand in operands:
        require_real("einsum", operand, "operands")
    return Einsum.call(equation, *operands)


def _equation_and_operands(args: Sequence[Any]) -> tuple[str, Sequence[Any]]:
    if len(args) < 2:
        raise ValueError("einsum(): give an equation and at least one operand, or operands and their lists of letters")
    if not isinstance(args[0], Tensor):
        return args[0], args[1] if isinstance(args[1], list | tuple) else args[1:]
    equation, pairs = ",".join(map(_letters, args[1::2])), len(args) // 2
    return equation + "->" + _letters(args[-1]) if len(args) % 2 else equation, args[: 2 * pairs : 2]


def _letters(numbers: Sequence[Any]) -> str:
    if not all(number is Ellipsis or 0 <= number < 52 for number in numbers):
        raise ValueError("einsum(): a number that stands for a letter must be in [0, 52)")
    letters = string.ascii_uppercase + string.ascii_lowercase
    return "".join("..." if number is Ellipsis else letters[number] for number in numbers)
