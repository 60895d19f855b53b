"""The charts of the Custom Scalars tab, and the rows of the HParams tab."""

import re
from collections.abc import Mapping
from typing import Any, Final

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb
from torch.utils.tensorboard.summary import custom_scalars, hparams

from bp_torch.dashboard import tags


def exactly(*chosen: str) -> list[str]:
    """Patterns that match only these tags."""
    return [f"{re.escape(tag)}$" for tag in chosen]


def of_all_parameters(tag: str) -> list[str]:
    """A pattern for a figure of all parameters, from its tag with an empty parameter name."""
    return [f"{re.escape(tag)}.+$"]


# The titles give the expected values. TensorBoard matches patterns from the beginning of a tag.
CHARTS: Final = {
    "Learning": {
        "Cost": exactly(tags.MINI_BATCH_COST, tags.TRAIN_COST, tags.TEST_COST),
        "Accuracy": exactly(tags.MINI_BATCH_ACCURACY, tags.TRAIN_ACCURACY, tags.TEST_ACCURACY),
        "Examples per second": exactly(tags.EXAMPLES_PER_SECOND),
    },
    "Gradient agreement": {
        "Failed comparisons: 0 expected": exactly(tags.FAILED_COMPARISONS),
        "Worst error / PyTorch's error: about 1": exactly(tags.WORST_ERROR_RATIO),
        "Taylor order: 2 expected": exactly(tags.TAYLOR_ORDER),
        "Cosine with autograd's gradient: 1": of_all_parameters(tags.agreement("cosine", "")),
        "Error / PyTorch's error: about 1": of_all_parameters(tags.agreement("error_ratio", "")),
        "Relative difference from autograd": of_all_parameters(tags.agreement("relative_difference", "")),
        "Largest difference from autograd": of_all_parameters(tags.agreement("difference", "")),
    },
    "Noise of the mini-batch": {
        "Noise scale, running average": exactly(tags.NOISE_SCALE),
        "Noise scale of each parameter, running average": of_all_parameters(tags.noise_scale("")),
        "Signal to noise: norm of the mean / spread": of_all_parameters(tags.noise("signal_to_noise", "")),
        "Mean norm of one example's gradient": of_all_parameters(tags.noise("mean_norm", "")),
        "Variance of one example's gradient": of_all_parameters(tags.noise("total_variance", "")),
    },
    "Layer health": {
        "Gradient norm": [*exactly(tags.GRADIENT_NORM), *of_all_parameters(tags.health("gradient_norm", ""))],
        "Update ratio: 1e-3 to 1e-2 is healthy": of_all_parameters(tags.health("update_ratio", "")),
    },
}


def layout() -> Summary.Value:
    """The value with the layout of the charts."""
    categories = {
        category: {title: ["Multiline", patterns] for title, patterns in charts.items()}
        for category, charts in CHARTS.items()
    }
    return custom_scalars(categories).value[0]  # type: ignore[no-untyped-call]


METRICS: Final = (
    tags.TEST_ACCURACY,
    tags.TEST_COST,
    tags.TRAIN_ACCURACY,
    tags.TRAIN_COST,
    tags.FAILED_COMPARISONS,
    tags.WORST_ERROR_RATIO,
)
"""The columns of the HParams tab next to the configuration; each shows the last value of a run."""


def run_started(config: Mapping[str, Any], run: str) -> list[Summary.Value]:
    """The values that begin a row of the HParams tab. It is named by the run, because rows of one name are averaged."""
    settings = {name: v if isinstance(v, bool | int | float | str) else str(v) for name, v in config.items()}
    columns = hparams_config_pb([HParam(name) for name in settings], [Metric(tag) for tag in METRICS])
    return [columns.value[0], hparams_pb(settings, trial_id=run).value[0]]


def run_finished() -> Summary.Value:
    """The value that marks the row as finished."""
    _, _, end = hparams({}, {})  # type: ignore[no-untyped-call]
    return end.value[0]
