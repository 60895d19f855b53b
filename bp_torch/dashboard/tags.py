"""All tags.

TensorBoard groups tags by the part before the first slash. A tag must have values of one kind: the faster of
TensorBoard's two loaders drops a text and a picture that share a tag.
"""

from collections.abc import Callable
from typing import Final

MINI_BATCH_COST: Final = "learning/cost/mini_batch"
TRAIN_COST: Final = "learning/cost/train"
TEST_COST: Final = "learning/cost/test"
MINI_BATCH_ACCURACY: Final = "learning/accuracy/mini_batch"
TRAIN_ACCURACY: Final = "learning/accuracy/train"
TEST_ACCURACY: Final = "learning/accuracy/test"
LEARNING_RATE: Final = "learning/learning_rate"
EXAMPLES_PER_SECOND: Final = "learning/examples_per_second"

WORST_ERROR_RATIO: Final = "agreement/worst_error_ratio"
FAILED_COMPARISONS: Final = "agreement/failed_comparisons"
TAYLOR_ORDER: Final = "agreement/taylor_order"
AGREEMENT_FIGURES: Final = ("difference", "relative_difference", "cosine", "error_ratio")
"""The figures of each comparison: attributes of `bp_torch.gradients.Comparison`."""

NOISE_SCALE: Final = "noise/scale"
NOISE_FIGURES: Final = ("mean_norm", "total_variance", "signal_to_noise")
"""The figures of each parameter's noise: attributes of `bp_torch.inspection.GradientNoise`."""

GRADIENT_NORM: Final = "health/gradient_norm"
HEALTH_FIGURES: Final = ("gradient_norm", "update_ratio")
"""The figures of each parameter's health: attributes of `bp_torch.training.logging.events.ParameterHealth`."""

FIRST_WEIGHTS: Final = "pictures/first_weights"
WORST_DIGITS: Final = "pictures/worst_digits"
NUDGES: Final = "pictures/nudges"
MAPS: Final = {"feature maps": "pictures/feature_maps", "attention": "pictures/attention"}
DRAWN_DIGITS: Final = "pictures/drawn_digits"

CHECKED_FUNCTIONS: Final = "checker/functions"
CHECKER_SCORES: Final = "checker/planted_bugs"

CLAIMS: Final = "experiments/claims"

BACKPROP: Final = "backprop"  # the name of the tab's plugin
NETWORK: Final = "backprop/network"
FRAME: Final = "backprop/frame"
FRAME_COST: Final = "backprop/cost"

RUN_START: Final = "run/start"
RUN_FAILURE: Final = "run/failure"
RUN_SUMMARY: Final = "run/summary"


def _of(group: str) -> Callable[..., str]:
    return lambda *parts: "/".join((group, *parts))


# Take one of AGREEMENT_FIGURES, NOISE_FIGURES or HEALTH_FIGURES, and a parameter's name.
agreement, noise, health = map(_of, ("agreement", "noise", "health"))
# Histograms: weights and gradients take a parameter's name, activations a module's.
weights, gradients, activations = map(_of, ("weights", "gradients", "activations"))
# Take an experiment's name; `experiment` also a metric's.
experiment, experiment_picture = map(_of, ("experiments", "pictures"))


def noise_scale(parameter: str) -> str:
    """The running average of one parameter's noise scale."""
    return noise("noise_scale", parameter)


def experiment_curve(name: str, curve: str) -> str:
    """A curve of an experiment over whole numbers, which take the place of steps."""
    return experiment(f"{name}/by_number", curve)
