"""The recorder that writes the events of a run for TensorBoard: scalars, histograms, pictures, pages of Markdown."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import indent
from time import perf_counter
from typing import Any, Final

from tensorboard.compat.proto.summary_pb2 import Summary

from bp_torch.dashboard import frame_format, layout, pictures, tags
from bp_torch.dashboard.event_file import EventFile, event_files, histogram, plugin_value, repair, scalar, text
from bp_torch.markdown import escape, table
from bp_torch.training.logging import events

SCALARS: Final[Mapping[type, Mapping[str, str]]] = {
    events.StepEvent: {
        tags.MINI_BATCH_COST: "cost",
        tags.MINI_BATCH_ACCURACY: "accuracy",
        tags.LEARNING_RATE: "learning_rate",
        tags.EXAMPLES_PER_SECOND: "examples_per_second",
    },
    events.AgreementEvent: {tags.TAYLOR_ORDER: "taylor_order", tags.FAILED_COMPARISONS: "failed"},
    events.HealthEvent: {tags.GRADIENT_NORM: "gradient_norm"},
    events.EpochEvent: {
        tags.TRAIN_COST: "train_cost",
        tags.TRAIN_ACCURACY: "train_accuracy",
        tags.TEST_COST: "test_cost",
        tags.TEST_ACCURACY: "test_accuracy",
    },
}
"""The scalars of each kind of event: tag and attribute."""


class TensorBoardLogger(AbstractContextManager["TensorBoardLogger"]):
    """A logger that writes each event of a run as one event of TensorBoard, at the same step.

    Attributes:
        seconds: time spent in `record` so far.
        remarks: a sentence for each damaged event file of a resumed run.
    """

    def __init__(self, folder: Path, *, purge_step: int = 0) -> None:
        """Begin an event file in the run's folder, whose name is the run's name in TensorBoard.

        TensorBoard drops what was recorded at `purge_step`, where a resumed run continues, and later.
        """
        self.seconds = 0.0
        self.remarks = [line for path in event_files(folder) if purge_step and (line := _repaired(path))]
        self._run = folder.name
        self._events = EventFile(folder, first_step=purge_step)
        self._network: events.NetworkEvent | None = None

    def record(self, event: events.Event) -> None:
        """Write one event; unknown kinds are ignored."""
        began = perf_counter()
        numbers = SCALARS.get(type(event), {}).items()
        if values := [*(scalar(tag, getattr(event, name)) for tag, name in numbers), *self._values(event)]:
            self._events.write(values, event.step)
        self.seconds += perf_counter() - began

    def close(self) -> None:
        """Close the event file."""
        self._events.close()

    def __exit__(self, *exception: object) -> None:
        """Close the event file."""
        self.close()

    def _values(self, event: events.Event) -> list[Summary.Value]:
        """All values of an event that are not in `SCALARS`."""
        match event:
            case events.RunStarted():
                page = text(tags.RUN_START, start_page(event))
                return [page, layout.layout(), *layout.run_started(event.config, self._run)]
            case events.AgreementEvent():
                return _agreement(event)
            case events.NoiseEvent():
                scales = {tags.NOISE_SCALE: event.scale, **{tags.noise_scale(n): s for n, s in event.scales.items()}}
                figures = _of_each(event.parameters, tags.NOISE_FIGURES, tags.noise)
                return [*figures, *(scalar(tag, scale) for tag, scale in scales.items())]
            case events.HealthEvent():
                return _of_each(event.parameters, tags.HEALTH_FIGURES, tags.health)
            case events.DistributionEvent():
                return _distributions(event)
            case events.PictureEvent():
                return _pictures(event)
            case events.MapEvent():
                return [Summary.Value(tag=tags.MAPS[event.kind], image=pictures.draw_maps(event))]
            case events.DrawingEvent():
                return [Summary.Value(tag=tags.DRAWN_DIGITS, image=pictures.drawn_digits(event.images))]
            case events.ExplanationEvent():
                return [Summary.Value(tag=tags.NUDGES, image=pictures.draw_explanations(event.explanations))]
            case events.NetworkEvent():
                self._network = event
                return [plugin_value(tags.NETWORK, frame_format.network_file(event))]
            case events.FrameEvent() if self._network and frame_format.unsupported_reason(self._network) is None:
                frame = plugin_value(tags.FRAME, frame_format.frame_file(event, self._network))
                return [frame, plugin_value(tags.FRAME_COST, frame_format.mini_batch_cost(event, self._network))]
            case events.FailureEvent():
                return [text(tags.RUN_FAILURE, failure_page(event))]
            case events.RunFinished():
                return [text(tags.RUN_SUMMARY, finish_page(event)), layout.run_finished()]
        return []


def _repaired(path: Path) -> str | None:
    """Repair an event file; a sentence if it was damaged."""
    lost = repair(path)
    return f"{path.name} was damaged: {lost:,} bytes of it cannot be read, the rest is kept" if lost else None


def _of_each(parameters: Mapping[str, object], figures: Sequence[str], tag: Callable[..., str]) -> list[Summary.Value]:
    return [scalar(tag(figure, name), getattr(it, figure)) for name, it in parameters.items() for figure in figures]


def _agreement(event: events.AgreementEvent) -> list[Summary.Value]:
    compared = {comparison.name: comparison for comparison in event.comparisons}
    worst = max((comparison.error_ratio for comparison in event.comparisons), default=0.0)
    return [*_of_each(compared, tags.AGREEMENT_FIGURES, tags.agreement), scalar(tags.WORST_ERROR_RATIO, worst)]


def _distributions(event: events.DistributionEvent) -> list[Summary.Value]:
    kinds = {tags.weights: event.parameters, tags.gradients: event.gradients, tags.activations: event.activations}
    histograms = (histogram(tag(name), tensor) for tag, named in kinds.items() for name, tensor in named.items())
    return [value for value in histograms if value]


def _pictures(event: events.PictureEvent) -> list[Summary.Value]:
    images = {
        tags.WORST_DIGITS: pictures.worst_digits(event.worst_images, event.worst_labels, event.worst_outputs),
        tags.FIRST_WEIGHTS: pictures.first_weights(event.first_weights),
    }
    return [Summary.Value(tag=tag, image=picture) for tag, picture in images.items() if picture]


def start_page(event: events.RunStarted) -> str:
    """A page with what is needed to repeat the run, the data first."""
    steps = f"steps {event.step:,} to {event.steps:,}, processes {event.processes}"
    parts = {
        f"Data: {escape(event.data)}": f"**{escape(event.data_origin)}**",
        "Command": _verbatim(event.command),
        f"Model: {event.parameters:,} weights and biases": _verbatim(event.model),
        f"Configuration: {steps}": _table("setting", event.config),
        "Versions": _table("package", event.versions),
    }
    return "\n\n".join(f"## {title}\n\n{content}" for title, content in parts.items())


def failure_page(event: events.FailureEvent) -> str:
    """A page with what ended the run, and the examples of its last mini-batch."""
    examples = " ".join(map(str, event.examples.tolist()))
    return f"## At step {event.step:,}\n\n{escape(event.what)}\n\n## Examples\n\n{examples}"


def finish_page(event: events.RunFinished) -> str:
    """A page with the final figures."""
    return f"## After {event.step:,} steps\n\n{_table('figure', event.summary)}"


def _table(heading: str, values: Mapping[str, Any]) -> str:
    return table((heading, ""), (map(escape, item) for item in values.items()))


def _verbatim(text: str) -> str:
    """An indented code block, which no text can end."""
    return indent(text, "    ")
