"""What a gradient means: the nudges of one example, the gradients of many, and how much of their mean is noise."""

from bp_torch.inspection.dense_trace import LayerState, layer_states
from bp_torch.inspection.explanation import Explanation, LayerExplanation, NeuronGradient, explain
from bp_torch.inspection.hebbian import Connection, Hebbian, hebbian
from bp_torch.inspection.per_example import (
    GradientNoise,
    gradient_noise,
    noise_of,
    per_example_gradients,
    per_example_norms,
    simple_noise_scale,
)
from bp_torch.inspection.sensitivity import Sensitivity, Wiggle, sensitivities, wiggle

__all__ = [
    "Connection",
    "Explanation",
    "GradientNoise",
    "Hebbian",
    "LayerExplanation",
    "LayerState",
    "NeuronGradient",
    "Sensitivity",
    "Wiggle",
    "explain",
    "gradient_noise",
    "hebbian",
    "layer_states",
    "noise_of",
    "per_example_gradients",
    "per_example_norms",
    "sensitivities",
    "simple_noise_scale",
    "wiggle",
]
