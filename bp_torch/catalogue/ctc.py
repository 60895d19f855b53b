"""The entry of connectionist temporal classification."""

import itertools
from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from bp_torch.catalogue.op_info import ErrorInput, RandomTensors, by_autograd, op_info
from bp_torch.sample import Sample

_draw = RandomTensors(27)


@cache
def _alignments(frames: int, labels: tuple[int, ...], blank: int) -> Tensor:
    """All alignments of so many frames that spell the labels, (alignments, frames)."""
    paths = itertools.product(sorted({*labels, blank}), repeat=frames)
    spelled = {path: tuple(c for c, _ in itertools.groupby(path) if c != blank) for path in paths}
    return torch.tensor([path for path in spelled if spelled[path] == labels]).reshape(-1, frames)


def _ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """By the definition: the sum over all alignments. PyTorch's has no second derivative."""
    x = log_probs if log_probs.dim() == 3 else log_probs.unsqueeze(1)
    frames, counts = ([int(n) for n in torch.as_tensor(lengths)] for lengths in (input_lengths, target_lengths))
    rows = torch.split(targets, counts) if targets.dim() == 1 else targets
    losses = []
    for n, (row, length, count) in enumerate(zip(rows, frames, counts, strict=True)):
        paths = _alignments(length, tuple(row[:count].tolist()), blank)
        losses.append(-x[:length, n].gather(1, paths.T).sum(0).logsumexp(0))
    if reduction == "mean":
        losses = [loss / max(count, 1) for loss, count in zip(losses, counts, strict=True)]
    stacked = torch.stack(losses)
    return getattr(stacked, reduction)() if reduction != "none" else stacked if log_probs.dim() == 3 else stacked[0]


# The gradient is that along normalized log-probabilities.
_sample = partial(Sample, constraint={"log_probs": partial(torch.log_softmax, dim=-1)})
_x = _draw(3, 2, 4)
_targets, _frames, _labels = torch.tensor([[1, 2], [3, 0]]), torch.tensor([3, 2]), torch.tensor([2, 1])

OP_INFOS = (
    op_info(
        "ctc_loss",
        "∂C/∂x = g (e^x − γ), with γ the probability of a class at a time, given the target",
        (
            _sample(
                (_x, _targets, _frames, _labels),
                {"blank": 0, "reduction": "mean"},
                axes="_ batch _, batch _, batch, batch",
            ),
            _sample(
                (_draw(4, 2, 3), torch.tensor([1, 1, 0]), (4, 3), (2, 1)),
                {"blank": 2, "reduction": "none"},
                axes="_ _ _, _, , , ,",
            ),
            _sample(
                (_draw(4, 3), torch.tensor([1, 2]), (4,), (2,)), {"blank": 0, "reduction": "sum"}, axes="_ _, _, ,"
            ),
        ),
        ErrorInput((_x, _targets, _frames, _labels), ValueError, "reduction", {"reduction": "average"}),
        ErrorInput((_x, _targets, _frames, _labels), RuntimeError, "blank", {"blank": 4}),
        ErrorInput((_x, _targets, (5, 3), (2, 1)), RuntimeError, "input_lengths"),
        ErrorInput((_x, _targets, _frames, _labels + 1), RuntimeError, "target_lengths"),
        ErrorInput((_x, _targets, _frames, _labels[:1]), RuntimeError, "target_lengths"),
        ErrorInput((_x, _targets[0], _frames, _labels), RuntimeError, "target_lengths"),
        ErrorInput((_x, _targets[:1], _frames, _labels), RuntimeError, r"targets \(1, 2\)"),
        ErrorInput((_x, _targets, _frames.double(), _labels), RuntimeError, "input_lengths"),
        ErrorInput((_x, _targets, 4, _labels), TypeError, "input_lengths"),
        ErrorInput((_x[:0], _targets, _frames, _labels), RuntimeError, "log_probs"),
        ErrorInput((_x.bfloat16(), _targets, _frames, _labels), NotImplementedError, "bfloat16"),
        reference=by_autograd(F.ctc_loss, _ctc_loss),
        rejects_lists=True,
    ),
)
