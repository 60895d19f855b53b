"""The lecture's claims, each measured on a real network."""

from collections.abc import Callable
from typing import Final

from bp_torch.inspection.experiments.gradient import averaging, direction, wiggles
from bp_torch.inspection.experiments.learning import convergence, labelled_data, one_class
from bp_torch.inspection.experiments.mini_batches import mini_batches, paths
from bp_torch.inspection.experiments.one_example import one_example
from bp_torch.inspection.experiments.setup import Claim, ExperimentResult, Setup

__all__ = ["EXPERIMENTS", "Claim", "ExperimentResult", "Setup"]

EXPERIMENTS: Final[dict[str, Callable[[Setup], ExperimentResult]]] = {
    experiment.__name__: experiment
    for experiment in (
        direction, wiggles, one_example, averaging, one_class, mini_batches, paths, convergence, labelled_data
    )
}  # fmt: skip
"""By name, about in the order of the lecture's statements."""
