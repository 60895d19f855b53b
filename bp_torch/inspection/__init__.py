"""What a gradient means: what each example asks for, of which weights, and how much of the average is noise."""

from bp_torch.inspection.dense_chain import LayerState, layer_states
from bp_torch.inspection.explanation import Avenues, Explanation, LayerExplanation, explain
from bp_torch.inspection.hebbian import Connection, Hebbian, hebbian
from bp_torch.inspection.noise import GradientNoise, gradient_noise, noise_of, simple_noise_scale
from bp_torch.inspection.per_example import per_example_gradients, per_example_norms
from bp_torch.inspection.sensitivity import Sensitivity, Wiggle, sensitivities, wiggle
from bp_torch.inspection.wish_table import WishTable, wish_table

__all__ = [
    "Avenues",
    "Connection",
    "Explanation",
    "GradientNoise",
    "Hebbian",
    "LayerExplanation",
    "LayerState",
    "Sensitivity",
    "Wiggle",
    "WishTable",
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
    "wish_table",
]
