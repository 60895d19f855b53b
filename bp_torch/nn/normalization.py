"""Modules of normalization. The output has the shape of the input."""

import warnings
from typing import Any

import torch
from torch import Tensor

from bp_torch import functional

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "GroupNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LocalResponseNorm",
    "RMSNorm",
]


class BatchNorm1d(torch.nn.BatchNorm1d):
    """Each channel of (N, C) or (N, C, L), over the batch; in evaluation by the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input)


class BatchNorm2d(torch.nn.BatchNorm2d):
    """Each channel of (N, C, H, W), over the batch; in evaluation by the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input)


class BatchNorm3d(torch.nn.BatchNorm3d):
    """Each channel of (N, C, D, H, W), over the batch; in evaluation by the running statistics."""

    def forward(self, input: Tensor) -> Tensor:
        return _batch_norm(self, input)


class LayerNorm(torch.nn.LayerNorm):
    """The last axes of (*, normalized_shape)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(torch.nn.GroupNorm):
    """Each of `num_groups` groups of the channels of (N, C, *)."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class InstanceNorm1d(torch.nn.InstanceNorm1d):
    """Each channel of each example, (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return _instance_norm(self, input)


class InstanceNorm2d(torch.nn.InstanceNorm2d):
    """Each channel of each example, (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return _instance_norm(self, input)


class InstanceNorm3d(torch.nn.InstanceNorm3d):
    """Each channel of each example, (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return _instance_norm(self, input)


class RMSNorm(torch.nn.RMSNorm):
    """The last axes of (*, normalized_shape), by their root mean square."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class LocalResponseNorm(torch.nn.LocalResponseNorm):
    """Each value of (N, C, *), by those of `size` neighbouring channels."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.local_response_norm(input, self.size, self.alpha, self.beta, self.k)


def _batch_norm(module: Any, input: Tensor) -> Tensor:
    """By the batch's statistics in training, or if there are no running ones.

    In training the running statistics are updated, if the module tracks them; with momentum None, they are the averages
    over all batches.
    """
    module._check_input_dim(input)
    momentum = 0.0 if module.momentum is None else module.momentum
    if module.training and module.track_running_stats and module.num_batches_tracked is not None:
        module.num_batches_tracked.add_(1)
        if module.momentum is None:
            momentum = 1.0 / float(module.num_batches_tracked)
    mean, var = module.running_mean, module.running_var
    training = module.training or (mean is None and var is None)
    if module.training and not module.track_running_stats:
        mean = var = None
    return functional.batch_norm(input, mean, var, module.weight, module.bias, training, momentum, module.eps)


def _instance_norm(module: Any, input: Tensor) -> Tensor:
    """By the examples' own statistics, unless the module tracks running ones and is in evaluation mode."""
    module._check_input_dim(input)
    without_batch = input.dim() == module._get_no_batch_dim()
    channels = input.shape[0 if without_batch else 1]
    if channels != module.num_features:
        message = f"the input {tuple(input.shape)} has {channels} channels, but num_features is {module.num_features}"
        if module.affine:
            raise ValueError(f"{type(module).__name__}: {message}")
        warnings.warn(f"{message}, which is not used without affine=True", stacklevel=3)
    output = functional.instance_norm(
        functional.unsqueeze(input, 0) if without_batch else input,
        module.running_mean,
        module.running_var,
        module.weight,
        module.bias,
        module.training or not module.track_running_stats,
        0.0 if module.momentum is None else module.momentum,
        module.eps,
    )
    return functional.squeeze(output, 0) if without_batch else output
