"""The HParams tab: one row for each run, its configuration beside how well it did."""

from collections.abc import Mapping
from typing import Any, Final

from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import HParam, Metric, hparams_config_pb, hparams_pb

from bp_torch.dashboard import tags

METRICS: Final = (
    tags.TEST_ACCURACY,
    tags.TEST_COST,
    tags.TRAIN_ACCURACY,
    tags.TRAIN_COST,
    tags.FAILED_COMPARISONS,
    tags.WORST_ERROR_RATIO,
)
"""The columns beside the configuration; TensorBoard shows the last value that a run has under each."""


def started(config: Mapping[str, Any], run: str) -> list[Summary.Value]:
    """A new row, named by its run: runs of one name would be averaged."""
    settings = {name: _plain(value) for name, value in config.items()}
    columns = hparams_config_pb([HParam(name) for name in settings], [Metric(tag) for tag in METRICS])
    return [columns.value[0], hparams_pb(settings, trial_id=run).value[0]]


def finished() -> Summary.Value:
    """The mark that the run came to its end."""
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=Status.Value("STATUS_SUCCESS")))
    return Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG,
        metadata=metadata.create_summary_metadata(end),
        tensor=metadata.NULL_TENSOR,
    )


def _plain(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else str(value)
