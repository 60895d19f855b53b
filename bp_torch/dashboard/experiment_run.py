"""The run that shows what the experiments found: a table on the Text tab, their figures among the Images, curves."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.pages import plain, table
from bp_torch.dashboard.pictures import Picture
from bp_torch.dashboard.values import image, scalar, text
from bp_torch.inspection.experiments.finding import Claim, Finding


def write_experiments(folder: Path, findings: Iterable[tuple[str, Finding]], origin: str) -> list[Claim]:
    """Writes a run, in place of what an earlier one left in TensorBoard, and each figure as a file beside it.

    Args:
        folder: the run's; made if it does not exist. Nothing is removed from it but the event files of an earlier one,
            of which TensorBoard would go on showing what there is no more.
        findings: of experiments, with their names; each is written before the next is asked for.
        origin: where the data come from, and how the experiments were done.

    Returns:
        All claims.
    """
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    events = EventFile(folder)
    claims: list[Claim] = []
    for name, finding in findings:
        _write(events, folder / f"{name}.png", name, finding)
        claims += finding.claims
    events.write([text(tags.CLAIMS, _page(claims, origin))], step=0)
    events.close()
    return claims


def _write(events: EventFile, path: Path, name: str, finding: Finding) -> None:
    """One experiment: its figure twice, its merits, and its curves at the numbers that they depend on."""
    finding.figure.savefig(path, metadata={"Title": finding.figure.get_suptitle()})
    picture = Picture(path.read_bytes(), *finding.figure.canvas.get_width_height())
    merits = [scalar(tags.experiment(name, merit), number) for merit, number in finding.merits.items()]
    events.write([image(tags.experiment_picture(name), picture), *merits], step=0)
    for curve, numbers in finding.curves.items():
        for number, value in numbers.items():
            events.write([scalar(tags.experiment_curve(name, curve), value)], step=number)


def _page(claims: Sequence[Claim], origin: str) -> str:
    rows = [(c.statement, c.claim, c.measured, "yes" if c.holds else "no", c.of) for c in claims]
    headings = ("", "claim", "measured", "holds", "of")
    return "\n\n".join(["## The lecture's claims, measured", plain(origin), table(headings, rows)])
