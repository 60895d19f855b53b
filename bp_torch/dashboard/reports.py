"""The runs that show what the gradient checker and the experiments found: tables, figures, curves."""

from collections.abc import Iterable
from pathlib import Path

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.pictures import Picture
from bp_torch.dashboard.values import image, scalar, text
from bp_torch.inspection.experiments.setup import CLAIM_HEADINGS, Claim, ExperimentResult
from bp_torch.markdown import escape, table


def write_experiments(folder: Path, results: Iterable[tuple[str, ExperimentResult]], origin: str) -> list[Claim]:
    """Writes a run, and each figure as a file beside it; returns all claims.

    Nothing is removed from the folder but the event files of an earlier run, of which TensorBoard would go on showing
    what there is no more. Each result is written before the next is asked for; the origin says where the data come
    from, and how the experiments were done.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    events = EventFile(folder)
    claims: list[Claim] = []
    for name, result in results:
        _write(events, folder / f"{name}.png", name, result)
        claims += result.claims
    events.write([text(tags.CLAIMS, _page(claims, origin))], step=0)
    events.close()
    return claims


def write_gradients(folder: Path, functions: str, scores: str) -> None:
    """Writes tables of Markdown, one of functions and one of checkers, in place of those of an earlier run there."""
    events = EventFile(folder)
    events.write([text(tags.CHECKED_FUNCTIONS, functions), text(tags.CHECKER_SCORES, scores)], step=0)
    events.close()


def _write(events: EventFile, path: Path, name: str, result: ExperimentResult) -> None:
    """One experiment: its figure twice, its metrics, and its curves at the numbers that they depend on."""
    result.figure.savefig(path, metadata={"Title": result.figure.get_suptitle()})
    picture = Picture(path.read_bytes(), *result.figure.canvas.get_width_height())
    metrics = [scalar(tags.experiment(name, metric), number) for metric, number in result.metrics.items()]
    events.write([image(tags.experiment_picture(name), picture), *metrics], step=0)
    for curve, numbers in result.curves.items():
        for number, value in numbers.items():
            events.write([scalar(tags.experiment_curve(name, curve), value)], step=number)


def _page(claims: Iterable[Claim], origin: str) -> str:
    rows = (map(escape, claim.cells) for claim in claims)
    return "\n\n".join(["## The lecture's claims, measured", escape(origin), table(CLAIM_HEADINGS, rows)])
