"""What each example counts for in a cost of classes: its weight, its part in the mean, and in the gradient."""

import torch
from torch import Tensor


def example_weights(
    target: Tensor, weight: Tensor | None, ignore_index: int, like: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of each example its class, as a column to gather by, (M, 1); its weight s, (M,); whether it counts, (M,)."""
    counted = target != ignore_index
    index = torch.where(counted, target, 0)
    scale = counted.to(like.dtype) if weight is None else torch.where(counted, weight[index], 0)
    return index.unsqueeze(1), scale, counted


def reduced(losses: Tensor, scale: Tensor, reduction: str) -> Tensor:
    """Each loss, their sum, or their weighted mean: NaN where nothing counts, as the mean of nothing is."""
    if reduction != "mean":
        return losses if reduction == "none" else losses.sum()
    total = scale.sum()
    return torch.where(total == 0, torch.nan, losses.sum() / _divisor(total))


def shares(grad_output: Tensor, scale: Tensor, reduction: str) -> Tensor:
    """What each example receives of the upstream gradient, as a column (M, 1): the reverse of `reduced`."""
    return (divided(grad_output, scale, reduction) * scale).unsqueeze(1)


def divided(grad_output: Tensor, scale: Tensor, reduction: str) -> Tensor:
    """The upstream gradient, for the mean divided by what the examples weigh together."""
    return grad_output / _divisor(scale.sum()) if reduction == "mean" else grad_output


def _divisor(total: Tensor) -> Tensor:
    """Where nothing counts, 1: the gradient is then 0, not 0/0."""
    return torch.where(total == 0, 1, total)
