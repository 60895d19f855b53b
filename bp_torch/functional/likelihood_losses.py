"""Losses that compare distributions: the Kullback-Leibler divergence, and two negative log-likelihoods.

Each is an `ElementwiseLoss`; g is the upstream gradient of one component's loss: of the result for 'sum' and 'none', of
the result divided by n for the mean over n components.

The functions have the signatures and values of torch.nn.functional. The Tensors are broadcast and have their common
dtype, float32 under autocast; on a CPU `gaussian_nll_loss` keeps it. size_average and reduce are deprecated. TypeError
if an argument is not a Tensor, NotImplementedError if it is complex, ValueError if `reduction` is unknown, RuntimeError
if the shapes do not broadcast.
"""

import math

import torch
from torch import Tensor

from bp_torch.functional.arithmetic import div
from bp_torch.functional.elementwise import ElementwiseLoss
from bp_torch.functional.function import transform_active
from bp_torch.functional.losses import elementwise_loss
from bp_torch.functional.precision import autocast_to_float32, cuda_autocast_to_float32
from bp_torch.functional.shape import unsqueeze
from bp_torch.functional.validation import require_floating, require_real, resolve_reduction, warn

__all__ = ["gaussian_nll_loss", "kl_div", "poisson_nll_loss"]


class KLDiv(ElementwiseLoss):
    """l = t (log t − x): the term of one outcome, of probability t, in the divergence from e^x to t; 0 log 0 = 0.

        ∂C/∂x = −g t
        ∂C/∂t = g (log t + 1 − x)

    At t = 0, ∂C/∂t is −∞; torch's is NaN.

    >>> x, t = torch.tensor([0.5, 0.5]).log().requires_grad_(), torch.tensor([0.25, 0.75])
    >>> torch.autograd.grad(kl_div(x, t, reduction="sum"), x)
    (tensor([-0.2500, -0.7500]),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor) -> Tensor:
        return torch.xlogy(target, target) - target * input

    @staticmethod
    def by_input(input: Tensor, target: Tensor) -> Tensor:
        return -target

    @staticmethod
    def by_target(input: Tensor, target: Tensor) -> Tensor:
        return torch.log(target) + 1 - input

    slopes = (by_input, by_target)


class KLDivOfLogTarget(ElementwiseLoss):
    """l = e^t (t − x): as `KLDiv`, for the logarithm t of a probability.

        ∂C/∂x = −g e^t
        ∂C/∂t = g e^t (t − x + 1)

    >>> x, t = torch.tensor([0.5, 0.5]).log().requires_grad_(), torch.tensor([0.25, 0.75]).log()
    >>> torch.autograd.grad(kl_div(x, t, reduction="sum", log_target=True), x)
    (tensor([-0.2500, -0.7500]),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor) -> Tensor:
        return torch.exp(target) * (target - input)

    @staticmethod
    def by_input(input: Tensor, target: Tensor) -> Tensor:
        return -torch.exp(target)

    @staticmethod
    def by_target(input: Tensor, target: Tensor) -> Tensor:
        return torch.exp(target) * (target - input + 1)

    slopes = (by_input, by_target)


class PoissonNLL(ElementwiseLoss):
    """l = λ − t log λ for a count t and the rate λ = e^x, so that log λ = x; or λ = x and log λ = log(x + ε).

        ∂C/∂x = g (e^x − t)                  of the logarithm x = log λ
        ∂C/∂x = g (1 − t / (x + ε))          of the rate x = λ
        ∂C/∂t = −g log λ

    In full, Stirling's approximation of log t! is added where t > 1, s = t log t − t + ½ log 2πt, and to ∂C/∂t its
    derivative g (log t + 1 / 2t).

    At x = log 2, λ = 2 and the derivative is 2 − 5:

    >>> x = torch.tensor(2.0).log().requires_grad_()
    >>> torch.autograd.grad(poisson_nll_loss(x, torch.tensor(5.0)), x)
    (tensor(-3.),)
    """

    @staticmethod
    def loss(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float) -> Tensor:
        rate = torch.exp(input) if log_input else input
        loss = rate - target * PoissonNLL.log_rate(input, log_input, eps)
        if not full:
            return loss
        stirling = target * torch.log(target) - target + 0.5 * torch.log(2 * math.pi * target)
        return loss + torch.where(target > 1, stirling, 0)

    @staticmethod
    def log_rate(input: Tensor, log_input: bool, eps: float) -> Tensor:
        return input if log_input else torch.log(input + eps)

    @staticmethod
    def by_input(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float) -> Tensor:
        return torch.exp(input) - target if log_input else 1 - target / (input + eps)

    @staticmethod
    def by_target(input: Tensor, target: Tensor, log_input: bool, full: bool, eps: float) -> Tensor:
        slope = -PoissonNLL.log_rate(input, log_input, eps)
        count = target.clamp_min(1)
        return slope + torch.where(target > 1, torch.log(count) + 0.5 / count, 0) if full else slope

    slopes = (by_input, by_target)


class GaussianNLL(ElementwiseLoss):
    """l = ½ (log v + (x − t)² / v) for a mean x and a variance v, which is at least ε.

        ∂C/∂x = g (x − t) / v
        ∂C/∂t = −∂C/∂x
        ∂C/∂v = ½ g (1 − (x − t)² / v) / v

    In full, the constant ½ log 2π is added. As in torch, the variance is ε where it is smaller, but keeps its gradient.

    For x − t = 2 and v = 4 the derivatives are 2/4 and ½ (1 − 4/4) / 4 = 0:

    >>> x, v = torch.tensor([3.0], requires_grad=True), torch.tensor([4.0], requires_grad=True)
    >>> torch.autograd.grad(gaussian_nll_loss(x, torch.tensor([1.0]), v), (x, v))
    (tensor([0.5000]), tensor([0.]))
    """

    @staticmethod
    def clamped(var: Tensor, eps: float) -> Tensor:
        """The variance, at least ε, with the derivative 1."""
        return torch.where(var < eps, var - var.detach() + eps, var)

    @staticmethod
    def loss(input: Tensor, target: Tensor, var: Tensor, full: bool, eps: float) -> Tensor:
        var, difference = var.clamp_min(eps), input - target
        return 0.5 * (torch.log(var) + difference * difference / var) + (0.5 * math.log(2 * math.pi) if full else 0)

    @staticmethod
    def by_input(input: Tensor, target: Tensor, var: Tensor, full: bool, eps: float) -> Tensor:
        return (input - target) / GaussianNLL.clamped(var, eps)

    @staticmethod
    def by_target(input: Tensor, target: Tensor, var: Tensor, full: bool, eps: float) -> Tensor:
        return (target - input) / GaussianNLL.clamped(var, eps)

    @staticmethod
    def by_var(input: Tensor, target: Tensor, var: Tensor, full: bool, eps: float) -> Tensor:
        var, difference = GaussianNLL.clamped(var, eps), input - target
        return 0.5 * (1 - difference * difference / var) / var

    slopes = (by_input, by_target, by_var)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """Kullback-Leibler divergence of log-probabilities `input` from probabilities `target`, or from their logarithms.

    See `KLDiv`. The mean over all components is not the divergence: 'batchmean' is, the sum divided by the length of
    the first dimension.
    """
    require_floating("kl_div", input=input, target=target)
    flags = size_average is not None or reduce is not None
    batchmean = reduction == "batchmean" and not flags
    if reduction == "mean" and not flags:
        warn("kl_div(): reduction: 'mean' divides by all components; use 'batchmean' for the divergence", stacklevel=2)
    reduction = resolve_reduction("sum" if batchmean else reduction, size_average, reduce)
    output = elementwise_loss(
        KLDivOfLogTarget if log_target else KLDiv, *autocast_to_float32(input, target), reduction=reduction
    )
    return div(output, len(input)) if batchmean and input.dim() else output


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of counts `target` under rates `input`, or their logarithms. See `PoissonNLL`."""
    reduction = resolve_reduction(reduction, size_average, reduce)
    for name, tensor in {"input": input, "target": target}.items():
        require_real("poisson_nll_loss", tensor, name)
    constants = log_input, full, eps
    tensors = autocast_to_float32(input, target)
    return elementwise_loss(PoissonNLL, *tensors, reduction=reduction, constants=constants)


def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood of `target` under a normal distribution of mean `input`. See `GaussianNLL`.

    `var` is a number, or has the shape of `input`, where the last dimension may be missing and one may have length 1:
    ValueError otherwise, and if it is negative.
    """
    if not isinstance(var, Tensor):
        var = torch.full_like(input, var)
    for name, tensor in {"input": input, "target": target, "var": var}.items():
        require_real("gaussian_nll_loss", tensor, name)
    if not torch.compiler.is_compiling() and not transform_active() and (var < 0).any():
        raise ValueError("gaussian_nll_loss(): argument 'var' has negative entries")
    reduction = resolve_reduction(reduction)
    if var.shape != input.shape:
        var = _broadcast_variance(var, input)
    tensors = map(cuda_autocast_to_float32, (input, target, var))
    return elementwise_loss(GaussianNLL, *tensors, reduction=reduction, constants=(full, eps))


def _broadcast_variance(var: Tensor, input: Tensor) -> Tensor:
    if var.shape == input.shape[:-1]:
        return unsqueeze(var, -1)
    if var.dim() == input.dim() and sum(v for v, x in zip(var.shape, input.shape, strict=True) if v != x) == 1:
        return var
    raise ValueError(
        f"gaussian_nll_loss(): var {tuple(var.shape)} must have the shape of input, {tuple(input.shape)}, where the "
        "last dimension may be missing and one may have length 1"
    )
