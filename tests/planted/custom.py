"""Correct custom Functions in several styles. Features that one lacks are unsupported, not failures."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class OldStyle(Function):
    """eˣ, with a forward that takes the context. No jvp, no vmap rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return g * y


class OnceDifferentiable(Function):
    """tanh(x), without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return g * (1 - y * y)


class InNumpy(Function):
    """x / (1 + |x|), computed by NumPy in float64."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        array = x.detach().double().numpy()
        return torch.from_numpy(array / (1 + abs(array))).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        array = x.detach().double().numpy()
        return torch.from_numpy(g.detach().double().numpy() / (1 + abs(array)) ** 2).to(g.dtype)


class Detached(Function):
    """x², with a backward that detaches its inputs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * g.detach() * x.detach()


class WithoutJvp(Function):
    """sinh(x), with setup_context and a vmap rule, without a jvp."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sinh(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return g * torch.cosh(x)


class WithoutVmap(Function):
    """sin(x), with setup_context and a jvp, without a vmap rule."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.sin(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return g * torch.cos(x)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return tangent * torch.cos(x)


class OwnVmap(WithoutVmap):
    """sin(x), with a hand-written vmap rule."""

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], x: Tensor) -> tuple[Tensor, int | None]:
        return OwnVmap.apply(x), in_dims[0]  # type: ignore[no-untyped-call]  # elementwise: the batch dimension stays


class TakeRows(Function):
    """table[index], with an integer input whose gradient is None."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(table)
        return table[index]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (index,) = ctx.saved_tensors
        return g.new_zeros(ctx.rows, *g.shape[1:]).index_add(0, index, g), None


class ScaleAndShift(Function):
    """a x + b with broadcasting: each gradient is summed to its input's shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(x, a)
        ctx.shape = b.shape
        return a * x + b

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, a = ctx.saved_tensors
        return (g * a).sum_to_size(x.shape), (g * x).sum_to_size(a.shape), g.sum_to_size(ctx.shape)


class RootMeanSquare(Function):
    """√(mean of x²) over the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.square().mean(-1).sqrt()
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, y = ctx.saved_tensors
        return (g / (y * x.shape[-1])).unsqueeze(-1) * x


class OwnTemporary(Function):
    """σ(x), whose backward computes in place on a temporary Tensor. Does not support batched gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return (1 - y).mul_(y).mul_(g)


class MaxWithIndex(Function):
    """The maximum of each row and its index, a non-differentiable output."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        values, index = x.max(-1)
        ctx.save_for_backward(index)
        ctx.mark_non_differentiable(index)
        ctx.shape = x.shape
        return values, index

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Any) -> Any:
        (index,) = ctx.saved_tensors
        return g.new_zeros(ctx.shape).scatter(-1, index.unsqueeze(-1), g.unsqueeze(-1))


class OnlyRequiredGradients(Function):
    """A B, with undefined upstream gradients, and without gradients that are not required."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        needs_a, needs_b = ctx.needs_input_grad
        ctx.save_for_backward(b if needs_a else None, a if needs_b else None)
        return a @ b

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> Any:
        b, a = ctx.saved_tensors
        if g is None:
            return None, None
        return g @ b.t() if b is not None else None, a.t() @ g if a is not None else None


class Recomputed(Function):
    """x σ(x), recomputed and differentiated by autograd in its backward, like a checkpoint."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            y = x * torch.sigmoid(x)
        return torch.autograd.grad(y, x, g.detach())


class Cube(Function):
    """x³, whose backward is another Function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return CubeBackward.apply(g, *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class CubeBackward(Function):
    """3 g x², with a hand-written second derivative."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(g, x)
        return 3 * g * x * x

    @staticmethod
    def backward(ctx: Any, gg: Tensor) -> Any:
        g, x = ctx.saved_tensors
        return 3 * gg * x * x, 6 * gg * g * x


class Clipped(Function):
    """x clamped to [−1, 1]; the slope on the bounds is 0, as in torch.nn.functional.hardtanh."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return torch.where((x > -1) & (x < 1), g, 0)
