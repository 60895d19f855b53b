"""What a gradient means: what each example asks for, and how much of the average is noise."""

from bp_torch.inspection.noise import GradientNoise, gradient_noise, noise_of, simple_noise_scale
from bp_torch.inspection.per_example import per_example_gradients, per_example_norms

__all__ = [
    "GradientNoise",
    "gradient_noise",
    "noise_of",
    "per_example_gradients",
    "per_example_norms",
    "simple_noise_scale",
]
