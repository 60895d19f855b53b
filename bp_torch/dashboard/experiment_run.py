"""The run that shows what the experiments found: a table on the Text tab, their figures among the Images, curves."""

from collections.abc import Mapping
from pathlib import Path

from bp_torch.dashboard import tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.pages import table
from bp_torch.dashboard.pictures import render
from bp_torch.dashboard.values import image, scalar, text
from bp_torch.inspection.experiments.finding import Finding


def write_experiments(folder: Path, findings: Mapping[str, Finding], origin: str) -> None:
    """Writes a run, in place of what an earlier one left in TensorBoard, and each figure as a file beside it.

    Args:
        folder: the run's; made if it does not exist. Nothing in it is removed.
        findings: by the experiment's name.
        origin: a sentence: where the data come from.
    """
    events = EventFile(folder)
    events.write([text(tags.CLAIMS, _page(findings, origin))], step=0)
    for name, finding in findings.items():
        finding.figure.savefig(folder / f"{name}.png")
        merits = [scalar(tags.experiment(name, merit), number) for merit, number in finding.merits.items()]
        events.write([image(tags.experiment_picture(name), render(finding.figure)), *merits], step=0)
        for curve, numbers in finding.curves.items():
            for number, value in numbers.items():
                events.write([scalar(tags.experiment_curve(name, curve), value)], step=number)
    events.close()


def _page(findings: Mapping[str, Finding], origin: str) -> str:
    rows = [
        (f"{claim.statement}", claim.claim, claim.measured, "yes" if claim.holds else "no")
        for finding in findings.values()
        for claim in finding.claims
    ]
    return "\n\n".join(["## The lecture's claims, measured", origin, table(("", "claim", "measured", "holds"), rows)])
