"""The recorder that turns a run's records into what TensorBoard shows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Self

from tensorboard.compat.proto.summary_pb2 import Summary

from bp_torch.dashboard import frame_format, hparams, pages, pictures, tags
from bp_torch.dashboard.event_file import EventFile, event_files, repair
from bp_torch.dashboard.explanation_pictures import draw_explanations
from bp_torch.dashboard.layout import layout
from bp_torch.dashboard.values import histogram, image, plugin_blob, plugin_scalar, scalar, text
from bp_torch.inspection import simple_noise_scale
from bp_torch.training.logging.events import (
    AgreementEvent,
    DistributionEvent,
    EpochEvent,
    Event,
    ExplanationEvent,
    FailureEvent,
    FrameEvent,
    HealthEvent,
    NetworkEvent,
    NoiseEvent,
    PictureEvent,
    RunFinished,
    RunStarted,
    StepEvent,
)


class TensorBoardRecorder:
    """Writes each record as one event, whose step is the record's own.

    Attributes:
        seconds: how long training has waited for this recorder so far.
        remarks: what was amiss with the files of a resumed run, a sentence each.
    """

    def __init__(self, folder: Path, *, purge_step: int | None = None) -> None:
        """Begins an event file.

        Args:
            folder: the run's; its name is the run's name in TensorBoard.
            purge_step: where a resumed run goes on: TensorBoard forgets what was recorded there and beyond. None: a run
                from the start, which replaces whatever the folder holds.
        """
        self.seconds = 0.0
        self.remarks = [] if purge_step is None else [line for path in event_files(folder) if (line := _repaired(path))]
        self._run = folder.name
        self._events = EventFile(folder, first_step=purge_step or 0)
        self._failed = 0
        self._network: NetworkEvent | None = None

    def record(self, record: Event) -> None:
        """Writes one record; unknown kinds are passed over."""
        began = perf_counter()
        if values := self._values(record):
            self._events.write(values, record.step)
        self.seconds += perf_counter() - began

    def close(self) -> None:
        """Closes the event file."""
        self._events.close()

    def __enter__(self) -> Self:
        """The recorder itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes the event file, whatever happened."""
        self.close()

    def _values(self, record: Event) -> list[Summary.Value]:
        match record:
            case RunStarted():
                self._failed = record.compared - record.agreed
                page = text(tags.RUN_START, pages.start_page(record))
                return [page, layout(), *hparams.started(record.config, self._run)]
            case StepEvent():
                return _step(record)
            case AgreementEvent():
                self._failed += sum(not comparison.passed for comparison in record.comparisons)
                return [*_agreement(record), scalar(tags.FAILED_COMPARISONS, self._failed)]
            case NoiseEvent():
                return _noise(record)
            case HealthEvent():
                return _health(record)
            case DistributionEvent():
                return _distributions(record)
            case EpochEvent():
                return _epoch(record)
            case PictureEvent():
                return _pictures(record)
            case ExplanationEvent():
                return [image(tags.NUDGES, draw_explanations(record.explanations))]
            case NetworkEvent():
                self._network = record
                return [plugin_blob(tags.NETWORK, frame_format.network_file(record), tags.BACKPROP)]
            case FrameEvent() if self._network is not None and frame_format.unsupported_reason(self._network) is None:
                return _frame(record, self._network)
            case FailureEvent():
                return [text(tags.RUN_FAILURE, pages.failure_page(record))]
            case RunFinished():
                return [text(tags.RUN_SUMMARY, pages.finish_page(record)), hparams.finished()]
        return []


def _repaired(path: Path) -> str | None:
    lost = repair(path)
    return f"{path.name} was damaged: {lost:,} bytes of it cannot be read, the rest is kept" if lost else None


def _step(record: StepEvent) -> list[Summary.Value]:
    return [
        scalar(tags.MINI_BATCH_COST, record.cost),
        scalar(tags.MINI_BATCH_ACCURACY, record.accuracy),
        scalar(tags.LEARNING_RATE, record.learning_rate),
        scalar(tags.EXAMPLES_PER_SECOND, record.examples_per_second),
    ]


def _of_each(
    parameters: Mapping[str, object], figures: Sequence[str], tag: Callable[[str, str], str]
) -> list[Summary.Value]:
    """The figures of every parameter, attributes of what is known of it."""
    return [scalar(tag(figure, name), getattr(it, figure)) for name, it in parameters.items() for figure in figures]


def _agreement(record: AgreementEvent) -> list[Summary.Value]:
    compared = {comparison.name: comparison for comparison in record.comparisons}
    figures = _of_each(compared, tags.AGREEMENT_FIGURES, tags.agreement)
    worst = max((comparison.error_ratio for comparison in record.comparisons), default=0.0)
    return [*figures, scalar(tags.WORST_ERROR_RATIO, worst), scalar(tags.TAYLOR_ORDER, record.taylor_order)]


def _noise(record: NoiseEvent) -> list[Summary.Value]:
    figures = _of_each(record.parameters, tags.NOISE_FIGURES, tags.noise)
    return [*figures, scalar(tags.NOISE_SCALE, simple_noise_scale(record.parameters.values()))]


def _health(record: HealthEvent) -> list[Summary.Value]:
    figures = _of_each(record.parameters, tags.HEALTH_FIGURES, tags.health)
    return [*figures, scalar(tags.GRADIENT_NORM, record.gradient_norm)]


def _distributions(record: DistributionEvent) -> list[Summary.Value]:
    histograms = [
        *(histogram(tags.weights(name), tensor) for name, tensor in record.parameters.items()),
        *(histogram(tags.gradients(name), tensor) for name, tensor in record.gradients.items()),
        *(histogram(tags.activations(name), tensor) for name, tensor in record.activations.items()),
    ]
    return [value for value in histograms if value]


def _epoch(record: EpochEvent) -> list[Summary.Value]:
    return [
        scalar(tags.TRAIN_COST, record.train_cost),
        scalar(tags.TRAIN_ACCURACY, record.train_accuracy),
        scalar(tags.TEST_COST, record.test_cost),
        scalar(tags.TEST_ACCURACY, record.test_accuracy),
    ]


def _frame(record: FrameEvent, network: NetworkEvent) -> list[Summary.Value]:
    return [
        plugin_blob(tags.FRAME, frame_format.frame_file(record, network), tags.BACKPROP),
        plugin_scalar(tags.FRAME_COST, frame_format.mini_batch_cost(record, network), tags.BACKPROP),
    ]


def _pictures(record: PictureEvent) -> list[Summary.Value]:
    digits = pictures.worst_digits(record.worst_images, record.worst_labels, record.worst_outputs)
    weights = pictures.first_weights(record.first_weights)
    return [image(tags.WORST_DIGITS, digits), *([image(tags.FIRST_WEIGHTS, weights)] if weights else [])]
