"""Runs with the results of the gradient checker and of the experiments: tables, figures, curves."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile, event_files, scalar, text
from bp_torch.inspection.experiments.setup import CLAIM_HEADINGS, Claim, ExperimentResult
from bp_torch.markdown import escape, table


def write_experiments(folder: Path, results: Iterable[tuple[str, ExperimentResult]], origin: str) -> list[Claim]:
    """Write the results of experiments as a run, each figure also as a file; returns all claims.

    Replaces the events of an earlier run. Each result is written before the next is requested. `origin` describes the
    data and the settings.
    """
    for old in event_files(folder):
        old.unlink()
    events = EventFile(folder)
    claims: list[Claim] = []
    for name, result in results:
        _write(events, folder / f"{name}.png", name, result)
        claims += result.claims
    rows = (map(escape, claim.cells) for claim in claims)
    parts = "## The lecture's claims, measured", escape(origin), table(CLAIM_HEADINGS, rows)
    events.write([text(tags.CLAIMS, "\n\n".join(parts))], step=0)
    events.close()
    return claims


def write_tables(folder: Path, tables: Mapping[str, str]) -> None:
    """Write Markdown tables, by their tags, as a run; TensorBoard hides those of an earlier run."""
    events = EventFile(folder)
    events.write([text(tag, table) for tag, table in tables.items()], step=0)
    events.close()


def _write(events: EventFile, path: Path, name: str, result: ExperimentResult) -> None:
    result.figure.savefig(path, metadata={"Title": result.figure.get_suptitle()})
    width, height = result.figure.canvas.get_width_height()
    picture = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes())
    metrics = [scalar(tags.experiment(name, metric), number) for metric, number in result.metrics.items()]
    events.write([Summary.Value(tag=tags.experiment_picture(name), image=picture), *metrics], step=0)
    for curve, numbers in result.curves.items():
        for number, value in numbers.items():
            events.write([scalar(tags.experiment_curve(name, curve), value)], step=number)
