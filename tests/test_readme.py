"""What the README says is so."""

import json
import re
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from planted import BUGS

import bp_torch
from bp_torch.catalogue import CATALOGUE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


LEARNING, EXPLAINING, LOOP, DRIVING, CHECKING = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("name", sorted({*re.findall(r"bp_torch(?:\.\w+)+", README)}))
def test_what_it_names_is_there(name: str) -> None:
    found: Any = bp_torch
    for number, part in enumerate(name.split(".")[1:], 2):
        if not hasattr(found, part):
            import_module(".".join(name.split(".")[:number]))
        found = getattr(found, part)


BETWEEN = "-- and then --"
SHOWN_OF_IT = (
    "\nlabel = digits.test.labels[8]\nprint(torch.equal(explanation.output_nudges, "
    "2 * (torch.eye(10)[label] - explanation.outputs)), len(avenues.weights), pixels.shape)"
)
DIFFERENCE = "\nprint(max((gradients[n] - g).abs().max().item() for n, g in zip(gradients, automatic, strict=True)))"


def lines_of(example: str) -> int:
    return len([line for line in example.splitlines() if line.strip()])


def run(example: str, folder: Path) -> str:
    assert lines_of(example) <= 25
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return done.stdout


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the first example says, and then each of the two that go on from its end, without a trace of the other."""
    learned = textwrap.dedent(
        f"""
        names = {{"__name__": "__main__"}}
        exec({LEARNING!r}, names)
        for example in ({EXPLAINING + SHOWN_OF_IT!r}, {DRIVING + DIFFERENCE!r}):
            print({BETWEEN!r})
            exec(example, dict(names))
        """
    )
    for example, lines in ((LEARNING, 25), (LEARNING + EXPLAINING + SHOWN_OF_IT, 35), (LEARNING + DRIVING, 29)):
        assert lines_of(example) <= lines
    return run(learned, tmp_path_factory.mktemp("learned")).split(BETWEEN)


def kept_true(what: str) -> list[str]:
    """The lines of a part of the README that a test is said to keep true."""
    (part,) = re.findall(rf"<!-- the {what}: kept [^\n]*by a test -->\n(.*?)\n<!--", README, re.DOTALL)
    return part.splitlines()


def test_the_first_example_runs_offline_and_learns(said: list[str]) -> None:
    difference, accuracy = (float(line.split()[-1]) for line in said[0].splitlines())
    assert difference < 1e-6
    assert accuracy > 0.9


def test_an_explanation_is_what_is_said_of_it(said: list[str]) -> None:
    explained = said[1]
    assert "True 16 torch.Size([28, 28])" in explained
    assert re.search(r"\w+\.(weight|bias)\[[\d, ]+\]: \d+\.\d times as sensitive as \w+\.(weight|bias)\[", explained)
    predicted, measured, order = map(float, re.findall(r"when wiggled (\S+) (\S+) of order (\S+)", explained)[0])
    assert measured == pytest.approx(predicted, rel=0.02)
    assert order == pytest.approx(2, abs=0.1)


def test_the_figures_of_the_claims_are_those_of_the_page() -> None:
    measured = json.loads((ROOT / "docs" / "lecture.json").read_text(encoding="utf-8"))
    claims = [claim for experiment in measured.values() for claim in experiment["claims"]]
    broken = [claim for claim in claims if not claim["holds"]]
    told = " ".join(README.split())
    assert f"Of {len(claims)} claims on MNIST, {len(claims) - len(broken)} hold" in told
    assert [claim["claim"][:14] for claim in broken] == ["while it learn", "after learning", "where they end"]
    cosines = [
        claim["measured"].split()[2].rstrip(",") for claim in claims if claim["measured"].startswith("mean cosine 0")
    ]
    assert (
        "their cosine is {}, after 600 steps {:.2f}, in the end {:.2f})".format(cosines[0], *map(float, cosines[1:]))
        in told
    )


def test_the_loop_is_the_engines() -> None:
    tape = (ROOT / "bp_torch" / "engine" / "tape.py").read_text(encoding="utf-8")
    assert LOOP.count("\n") > 5
    assert textwrap.indent(LOOP, " " * 4) in tape


def test_the_second_driver_goes_on_where_the_first_example_ends(said: list[str]) -> None:
    assert float(said[2].splitlines()[-1]) < 1e-6


def test_the_report_on_a_wrong_backward_is_what_is_shown(tmp_path: Path) -> None:
    """But for sizes of rounding errors; what was asked and what failed is counted alike."""
    (shown,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    found = run(CHECKING, tmp_path)
    assert [re.sub(r"\d+(\.\d+)?(e[+-]\d+)?(?= x|$)", "#", line) for line in found.splitlines()] == [
        re.sub(r"\d+(\.\d+)?(e[+-]\d+)?(?= x|$)", "#", line) for line in shown.splitlines()
    ]
    assert "hint: off by the constant factor 0.2, and 5 is a size here: averaged instead of summed?" in shown


def test_the_table_of_functions_is_the_catalogue() -> None:
    rows = [
        f"| `{entry.name}` | {entry.backward} | {', '.join(map(str, entry.kinks))} |".replace("|d|", r"\|d\|")
        for entry in CATALOGUE.values()
    ]
    assert kept_true("catalogue") == ["| function | backward | slope at a kink |", "|---|---|---|", *rows]


def test_the_scoreboard_is_that_of_the_page_of_planted_bugs() -> None:
    """Which the checker's own tests keep true as far as it is about this checker."""
    page = (ROOT / "docs" / "planted-bugs.md").read_text(encoding="utf-8")
    scores = kept_true("scoreboard")
    assert "\n".join(scores) in page
    ours, total = scores[2].split("|"), re.search(r"caught of (\d+)", scores[0])
    assert total is not None
    assert (int(ours[2]), int(ours[3])) == (int(total[1]), 0)
    assert f"on {len(BUGS)} planted bugs" in README
    listed = [tuple(line.split(" | ")[:2]) for line in page.partition("## Bug by bug")[2].splitlines()[4:]]
    assert sorted(listed) == sorted((f"| {bug.kind}", bug.name.replace("|", r"\|")) for bug in BUGS)


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!http|#)([^)]+)\)", README)
    assert len(targets) > 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_make_target_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert targets == {
        "help", "setup", "train", "test", "soak", "check", "gradients", "experiments", "explain", "benchmark",
        "dashboard",
    }  # fmt: skip
    assert set(re.findall(r"`?make ([a-z]+)", README)) <= targets
