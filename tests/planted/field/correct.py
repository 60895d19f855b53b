"""Correct functions with other arguments and calls: random, in place, containers, packed halves, modules."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bp_torch.sample import Sample
from planted.field import losses
from planted.field.arguments import rotary, rotate, swiglu, swiglu_gradients
from planted.field.entries import draw, free, plain, right

_x = draw(6, 4)


def _seeded_mask(x: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(x.shape, generator=generator, dtype=torch.float64) < 0.8


def _seeded_dropout(x: Tensor) -> tuple[Tensor, Tensor]:
    """The seed is drawn, and the mask is computed from it again in the backward."""
    seed = torch.randint(2**31, ())
    return x * _seeded_mask(x, int(seed)) / 0.8, seed


def _noisy_normal(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    noise = torch.randn_like(mean) * log_std.exp()
    return mean + noise, noise


_random = (
    right("dropout by a saved seed", _seeded_dropout, lambda g, seed: g * _seeded_mask(g, int(seed)) / 0.8, _x),
    right("dropout by a fixed seed", lambda x: (x * _seeded_mask(x, 7),), lambda g: g * _seeded_mask(g, 7), _x),
    right("normal sample", _noisy_normal, lambda g, noise: (g, g * noise), _x, draw(6, 4)),
    plain("nn.Dropout in training", nn.Dropout(0.3), _x),
    plain("rrelu in training", lambda x: F.rrelu(x, training=True), _x),
    plain("gumbel_softmax", F.gumbel_softmax, _x),
    plain(
        "multi-layer perceptron with dropout",
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 2)).double(),
        _x,
    ),
)


class _ReLUInPlace(Function):
    """relu that overwrites its input, and marks it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.clamp_(min=0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (y,) = ctx.saved_tensors
        return g * (y > 0)


class _Rounded(Function):
    """x² and a rounded copy, which has no gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        rounded = x.round()
        ctx.mark_non_differentiable(rounded)
        ctx.save_for_backward(x)
        return x * x, rounded

    @staticmethod
    def backward(ctx: Any, g: Tensor, _: Tensor) -> Any:
        (x,) = ctx.saved_tensors
        return 2 * g * x


@dataclass
class State:
    """A hidden and a cell state."""

    hidden: Tensor
    cell: Tensor


def _lstm_step(x: Tensor, state: State) -> State:
    gates = (x + state.hidden).sigmoid()
    cell = gates * state.cell + (1 - gates) * x.tanh()
    return State(gates * cell.tanh(), cell)


def _from_dict(batch: dict[str, Any]) -> dict[str, Tensor]:
    scaled = batch["input"] * batch["weights"][0] + batch["weights"][1]
    return {"scaled": scaled if batch["mask"] is None else scaled * batch["mask"], "norm": scaled.square().sum(-1)}


def _with_options(x: Tensor, *, weight: Tensor, bias: Tensor | None = None, power: int = 2) -> Tensor:
    y = x**power * weight
    return y if bias is None else y + bias


_calls = (
    plain("relu in place, marked dirty", lambda x: _ReLUInPlace.apply(x), _x, reference=torch.relu),  # type: ignore[no-untyped-call]
    plain("in-place chain on a copy", lambda x: x.clone().mul_(2).add_(x).tanh_(), _x),
    plain("square and a rounded copy without gradient", _Rounded.apply, _x),
    plain("top k with indices", lambda x: x.topk(2, -1), _x),
    plain("dataclass in and out", _lstm_step, _x, State(draw(6, 4), draw(6, 4))),
    plain("dict with a list and None", _from_dict, {"input": _x, "weights": [draw(4), draw(4)], "mask": None}),
    plain(
        "keyword inputs",
        _with_options,
        samples=(Sample((free(6, 4),), {"weight": free(4), "bias": free(4), "power": 3}),),
    ),
    plain("list of Tensors", lambda xs: torch.cat([x.sum(0) for x in xs]), [_x, draw(3, 2)]),
    plain("view as output", lambda x: (2 * x).t()[1:], _x),
)


def _sums(x: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    total = F.pad(x.cumsum(0), (0, 0, 1, 0))
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(x)])])
    return total[ends] - total[offsets], offsets, ends


_angle = torch.arange(5).double()[:, None] * draw(3).abs()
_mask = torch.tensor([[True, False, True, True]] * 6)

_domain = (
    right("packed swiglu", swiglu, lambda g, x: torch.cat(swiglu_gradients(g, x), -1), draw(4, 6)),
    right(
        "rotary with half tables",
        rotary,
        lambda g, cos, sin: rotate(g, cos, -sin),
        free(5, 6),
        _angle.cos(),
        _angle.sin(),
    ),
    right(
        "segment sums by offsets",
        _sums,
        lambda g, offsets, ends: g.repeat_interleave(ends - offsets, 0),
        draw(7, 2),
        torch.tensor([0, 2, 2, 5]),
    ),
    plain(
        "embedding_bag with offsets",
        lambda w, index, offsets: F.embedding_bag(index, w, offsets, mode="mean"),
        draw(4, 3),
        torch.tensor([1, 0, 3, 3, 2]),
        torch.tensor([0, 2, 3]),
    ),
    plain(
        "sum over lengths",
        lambda x, lengths: (x.square() * (torch.arange(5) < lengths[:, None])).sum(1),
        draw(3, 5),
        torch.tensor([1, 5, 3]),
    ),
    right(
        "masked square",
        lambda x, mask: (x.square() * mask, x, mask),
        lambda g, x, mask: 2 * g * x * mask,
        _x.clone().requires_grad_(),
        _mask,
    ),
    plain("frozen weight", lambda x, w: (x @ w).tanh(), free(6, 4), draw(4, 2)),
    plain("normalise", lambda x: F.normalize(x, dim=-1), _x),
    plain("grouped channels", lambda x: x.unflatten(-1, (3, -1)).softmax(-1), draw(4, 6)),
)

_fp16, _fp32 = torch.float16, torch.float32
_image = torch.arange(24, dtype=torch.uint8).reshape(6, 4)
_quantised = torch.arange(-20, 20, dtype=torch.int8).reshape(5, 8)

_mixed = (
    right(
        "float16 input, float32 weight",
        lambda x, w: (x.to(w.dtype) * w, x, w),
        lambda g, x, w: (g * w, (g * x).sum(0)),
        draw(8, 4).to(_fp16),
        draw(4).to(_fp32),
    ),
    right(
        "linear in bfloat16, float32 weight",
        lambda x, w: ((x.to(w.dtype) @ w.t()).to(x.dtype), x, w),
        lambda g, x, w: (g.to(w.dtype) @ w, g.to(w.dtype).t() @ x.to(w.dtype)),
        draw(32, 8).to(torch.bfloat16),
        draw(4, 8).to(_fp32),
    ),
    right(
        "uint8 image",
        lambda image, mean, std: (y := (image - mean) / std, y, std),
        lambda g, y, std: (None, -(g / std).sum(0), -(g * y / std).sum(0)),
        _image,
        draw(4),
        draw(4).exp(),
    ),
    right(
        "int8 weight and its scale",
        lambda x, w, s: (x @ (w * s).t(), x, w, s),
        lambda g, x, w, s: (g @ (w * s), None, (g.t() @ x * w).sum().reshape(1)),
        draw(6, 8),
        _quantised,
        draw(1),
    ),
    plain("float32 and float64", lambda a, b: (a * b).sum(0), draw(6, 4).to(_fp32), draw(4)),
    plain(
        "loss in float32 of bfloat16",
        lambda x: F.cross_entropy(x.float(), torch.tensor([1, 0, 3, 2])),
        draw(4, 6).to(torch.bfloat16),
    ),
)


class Checkpointed(nn.Module):
    """A block with batch normalisation and a checkpoint inside."""

    def __init__(self, *, reentrant: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.inner = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        """The input plus the block."""
        block: Tensor = checkpoint(self.inner, self.norm(x), use_reentrant=self.reentrant)
        return x + block


_modules = (
    plain("module with checkpoint and BatchNorm", Checkpointed().double(), _x),
    plain("module with reentrant checkpoint", Checkpointed(reentrant=True).double(), _x),
    plain("BatchNorm1d in evaluation", nn.BatchNorm1d(4).double().eval(), _x),
    plain("LSTMCell", nn.LSTMCell(4, 3).double(), _x),
)

CORRECT = (*losses.CORRECT, *_random, *_calls, *_domain, *_mixed, *_modules)
