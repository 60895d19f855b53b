"""The gradients of the examples of a mini-batch, from the backward pass of the mini-batch, and their noise.

The gradient gₙ of example n is N times its contribution to the gradient of the mini-batch, so that the mean of all gₙ
is the gradient. For a cost that averages over the examples, gₙ is the gradient of the example's cost; for a cost that
sums over them, N times that.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bp_torch.engine.backprop import Backprop, Inputs
from bp_torch.engine.per_example import ExampleGradients, contributions

__all__ = [
    "GradientNoise",
    "NoiseScaleAverage",
    "gradient_noise",
    "per_example_gradients",
    "per_example_norms",
    "simple_noise_scale",
]

Cost = Callable[[Any, Any], Tensor]


@torch.no_grad()
def per_example_gradients(model: torch.nn.Module, cost: Cost, inputs: Inputs, targets: Any) -> dict[str, Tensor]:
    """The gradient of each example: gₙ = N δₙ xₙᵀ for a layer's weights, N δₙ for its biases.

    Returns tensors of (N, *parameter shape) by each parameter's name, for N inputs. The model is one that
    `bp_torch.engine.Backprop` supports. Row n of the inputs, and of everything computed from them, must be example n.

    Raises:
        TypeError: if a function combines examples, such as a mean over them, after the first parameter. Otherwise as
            `Backprop.trace`.

    Source:
        The lecture's statement 10.
    """
    found = _contributions(model, cost, inputs, targets)
    return {name: _count(inputs) * parts.gradients() for name, parts in found}


@torch.no_grad()
def per_example_norms(model: torch.nn.Module, cost: Cost, inputs: Inputs, targets: Any) -> dict[str, Tensor]:
    """The norm of each example's gradient, N ‖δₙ‖ ‖xₙ‖ for a layer's weights and N ‖δₙ‖ for its biases.

    Returns tensors of (N,) by each parameter's name, without the gradients in memory. Takes and raises the same as
    `per_example_gradients`. For a cost that averages over the examples, mini-batches of some hundred are quicker than
    one of thousands: what the model computes for them stays in the processor's cache.

    Source:
        Goodfellow, Efficient Per-Example Gradient Computations (2015).
    """
    found = _contributions(model, cost, inputs, targets)
    return {name: _count(inputs) * parts.norms() for name, parts in found}


def _contributions(
    model: torch.nn.Module, cost: Cost, inputs: Inputs, targets: Any
) -> Iterator[tuple[str, ExampleGradients]]:
    """The examples' contributions to each parameter's gradient, in the order of the model's parameters."""
    value, tape = Backprop(model, cost).trace(inputs, targets)
    found = contributions(tape, value, _count(inputs))
    return ((name, found[parameter]) for name, parameter in model.named_parameters() if parameter in found)


def _count(inputs: Inputs) -> int:
    return len(inputs if isinstance(inputs, Tensor) else inputs[0])


@dataclass(frozen=True)
class GradientNoise:
    """Statistics of one parameter's per-example gradients g₁ … g_N."""

    norms: Tensor  # ‖gₙ‖ of each example, (N,)
    mean: Tensor  # the gradient ḡ, in the parameter's shape
    variance: Tensor  # Σₙ (gₙ − ḡ)² / (N − 1) of each component; NaN if N < 2

    @property
    def mean_norm(self) -> float:
        """The mean of ‖gₙ‖."""
        return self.norms.mean().item()

    @property
    def total_variance(self) -> float:
        """The trace of the covariance Σ: the variance, summed over all components."""
        return self.variance.sum().item()

    @property
    def squared_gradient(self) -> float:
        """An unbiased estimate of |G|², where G is the gradient over all examples there are: ‖ḡ‖² − tr Σ / N."""
        return self.mean.square().sum().item() - self.total_variance / (len(self.norms) or math.nan)

    @property
    def signal_to_noise(self) -> float:
        """‖ḡ‖ / √tr Σ: the mean relative to the spread of the examples; NaN if both are 0."""
        return float(torch.linalg.vector_norm(self.mean) / self.variance.sum().sqrt())

    @property
    def noise_scale(self) -> float:
        """B = tr Σ / |G|²: see `simple_noise_scale`."""
        return simple_noise_scale([self])


def simple_noise_scale(parameters: Iterable[GradientNoise]) -> float:
    """B = tr Σ / |G|², about the mini-batch size beyond which larger mini-batches help little.

    Both are sums over the parameters, of `total_variance` and of `squared_gradient`. On a small mini-batch the estimate
    of |G|² is often not positive: the scale is then infinite. `NoiseScaleAverage` combines several mini-batches.

    Source:
        McCandlish, Kaplan, Amodei, OpenAI Dota Team, An Empirical Model of Large-Batch Training (2018), appendix A.
    """
    return _noise_scale(*_noise_terms(parameters))


class NoiseScaleAverage(NamedTuple):
    """The simple noise scale over the course of training: the quotient of running averages of tr Σ and of |G|².

    Source:
        McCandlish, Kaplan, Amodei, OpenAI Dota Team, An Empirical Model of Large-Batch Training (2018), appendix A.1.
    """

    trace: float = 0.0  # Σₖ decayᵏ tr Σ, where k counts the mini-batches back from the last
    signal: float = 0.0  # the same of the estimate of |G|²

    def add(self, parameters: Iterable[GradientNoise], decay: float = 0.98) -> "NoiseScaleAverage":
        """The averages with one more mini-batch; unchanged if its terms are not finite, as of a single example."""
        trace, signal = _noise_terms(parameters)
        if not math.isfinite(trace + signal):
            return self
        return NoiseScaleAverage(decay * self.trace + trace, decay * self.signal + signal)

    @property
    def scale(self) -> float:
        """B = tr Σ / |G|² of the averages: infinite if that of |G|² is not positive, NaN without a mini-batch."""
        return _noise_scale(*self) if any(self) else math.nan


def _noise_terms(parameters: Iterable[GradientNoise]) -> tuple[float, float]:
    """Tr Σ and the estimate of |G|², summed over the parameters."""
    terms = [(noise.total_variance, noise.squared_gradient) for noise in parameters]
    return sum(trace for trace, _ in terms), sum(signal for _, signal in terms)


def _noise_scale(trace: float, signal: float) -> float:
    return trace / signal if signal > 0 else (math.nan if math.isnan(trace) else math.inf)


@torch.no_grad()
def gradient_noise(model: torch.nn.Module, cost: Cost, inputs: Inputs, targets: Any) -> dict[str, GradientNoise]:
    """Norms, mean and variance of the per-example gradients of every parameter, without the gradients in memory.

    For a layer's weights Σₙ gₙ² = N² (δ²)ᵀ x², a second matrix product. A variance is a small difference of such sums,
    which are computed in float64: a spread below 1e-8 of the mean is lost, less than the rounding of activations in
    float32.

    Takes and raises the same as `per_example_gradients`.

    Source:
        Dangel, Kunstner, Hennig, BackPACK: Packing more into backprop (2020), for the sums of squares.
    """
    found = _contributions(model, cost, inputs, targets)
    return {name: _noise_of(parts.double(), _count(inputs)) for name, parts in found}


def _noise_of(parts: ExampleGradients, examples: int) -> GradientNoise:
    mean, squares = parts.total(), parts.sums_of_squares()
    deviations = (examples**2 * squares - examples * mean * mean).clamp_min(0)  # Σₙ (gₙ − ḡ)²
    variance = deviations / (examples - 1 if examples > 1 else math.nan)
    return GradientNoise(examples * parts.norms(), mean, variance)
