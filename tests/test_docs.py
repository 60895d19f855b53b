"""README.md and docs/: what they name exists, their examples run, their figures were measured."""

import json
import os
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
from bp_torch.gradients.checks import CHECKS

ROOT = Path(__file__).parents[1]
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README = PAGES[ROOT / "README.md"]


def page(name: str) -> str:
    return PAGES[ROOT / "docs" / f"{name}.md"]


def examples(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


CHECKING, TRAINING, DRIVING, EXPLAINING = examples(README)
LOOP = examples(page("engine"))[0]
(INSPECTING,) = examples(page("inspection"))


def kept_equal(name: str, part: str) -> list[str]:
    """The lines of a part of a page that a comment marks as kept equal to something else by a test."""
    (found,) = re.findall(rf"<!-- the {part}: kept [^\n]*by a test -->\n(.*?)\n<!--", page(name), re.DOTALL)
    return str(found).splitlines()


def run(example: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not list(folder.iterdir())
    return done.stdout


BETWEEN = "-- and then --"
AS_STATED = (
    "\nlabel = digits.test.labels[8]\nprint(torch.equal(explanation.output_nudges, "
    "2 * (torch.eye(10)[label] - explanation.outputs)), len(neuron.weights), pixels.shape)"
)
DIFFERENCE = "\nprint(max((gradients[n] - g).abs().max().item() for n, g in zip(gradients, automatic, strict=True)))"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the training example prints, and then each example that begins where it ends."""
    following = EXPLAINING, DRIVING + DIFFERENCE, INSPECTING + AS_STATED
    code = textwrap.dedent(
        f"""
        names = {{"__name__": "__main__"}}
        exec({TRAINING!r}, names)
        for example in {following!r}:
            print({BETWEEN!r})
            exec(example, dict(names))
        """
    )
    return run(code, tmp_path_factory.mktemp("examples")).split(BETWEEN)


def test_the_first_example_runs_offline_and_learns(printed: list[str]) -> None:
    difference, accuracy = (float(line.split()[-1]) for line in printed[0].splitlines())
    assert difference < 1e-6
    assert accuracy > 0.9


def test_the_engine_continues_the_first_example(printed: list[str]) -> None:
    assert float(printed[2].splitlines()[-1]) < 1e-6


def test_an_explanation_is_what_the_page_says(printed: list[str]) -> None:
    explained = printed[3]
    assert "True 16 torch.Size([28, 28])" in explained
    assert "times as sensitive as" in explained
    predicted, measured, order = map(float, re.findall(r"when wiggled (\S+) (\S+) of order (\S+)", explained)[0])
    assert measured == pytest.approx(predicted, rel=0.02)
    assert order == pytest.approx(2, abs=0.1)


def test_the_report_on_a_wrong_backward_is_the_one_shown(tmp_path: Path) -> None:
    """Except for the sizes of rounding errors."""
    report = re.findall(r"```text\n(.*?)```", page("checker"), re.DOTALL)[0]
    (failure,) = re.findall(r"```text\n(.*?)```", README, re.DOTALL)
    found = run(CHECKING, tmp_path)
    assert _without_numbers(found) == _without_numbers(report)
    assert _without_numbers(failure) in _without_numbers(found)
    assert "hint: off by the constant factor 0.2, and 5 is a size here: averaged instead of summed?" in failure


def test_the_page_names_every_check() -> None:
    names = " ".join(page("checker").split())
    assert not [name for name in CHECKS if f"`{name}`" not in names]


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+(\.\d+)?(e[+-]\d+)?(?= x|$)", "#", text, flags=re.MULTILINE)


def test_the_readme_is_short_and_begins_with_what_people_come_for() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.split()) <= 1200
    first = "\n".join(README.splitlines()[:60])
    for part in (
        "make train",
        "check_gradients(",
        "http://localhost:6006/#backprop",
        "3blue1brown.com/lessons/backpropagation",
    ):
        assert part in first


def test_the_figures_of_the_claims_are_those_measured() -> None:
    measured = json.loads((ROOT / "docs" / "lecture.json").read_text(encoding="utf-8"))
    claims = [claim for experiment in measured.values() for claim in experiment["claims"]]
    broken = [claim for claim in claims if not claim["holds"]]
    text = " ".join(page("inspection").split())
    assert f"Of {len(claims)} claims on MNIST, {len(claims) - len(broken)} hold" in text
    assert [claim["claim"][:14] for claim in broken] == ["while it learn", "after learning", "where they end"]
    cosines = [
        claim["measured"].split()[2].rstrip(",") for claim in claims if claim["measured"].startswith("mean cosine 0")
    ]
    first, *later = cosines[0], *map(float, cosines[1:])
    assert "their cosine is {}, after 600 steps {:.2f}, in the end {:.2f}".format(first, *later) in text


def test_the_loop_is_the_engines() -> None:
    tape = (ROOT / "bp_torch" / "engine" / "tape.py").read_text(encoding="utf-8")
    assert LOOP.count("\n") > 5
    assert textwrap.indent(LOOP, " " * 4) in tape


def test_the_table_of_functions_is_the_catalogue() -> None:
    assert f"[{len(CATALOGUE)} functions]" in README
    rows = [
        f"| `{entry.name}` | {entry.backward} | {', '.join(map(str, entry.kinks))} |".replace("|d|", r"\|d\|")
        for entry in CATALOGUE.values()
    ]
    assert kept_equal("functions", "catalogue") == ["| function | backward | slope at a kink |", "|---|---|---|", *rows]


def test_the_scoreboard_is_that_of_the_planted_bugs() -> None:
    """The checker's own tests keep that page's results true."""
    bugs, scores = page("planted-bugs"), kept_equal("checker", "scoreboard")
    assert "\n".join(scores) in bugs
    ours, total = scores[2].split("|"), re.search(r"caught of (\d+)", scores[0])
    assert total is not None
    assert int(total[1]) == len(BUGS)
    assert f"finds {int(ours[2])} of {len(BUGS)} [planted bugs]" in README
    assert f"`torch.autograd.gradcheck` finds {scores[3].split('|')[2].strip()}\n" in README
    listed = [tuple(line.split(" | ")[:2]) for line in bugs.partition("## Bug by bug")[2].splitlines()[4:]]
    assert sorted(listed) == sorted((f"| {bug.kind}", bug.name.replace("|", r"\|")) for bug in BUGS)


def test_the_table_of_speed_is_that_of_the_performance_page() -> None:
    rows = kept_equal("engine", "speed")[2:]
    section = page("performance").split("## One step, 784-16-16-10, mini-batch of 100, 1 thread")[1].split("\n## ")[0]
    assert len(rows) > 5
    assert [row for row in rows if row not in section] == []


@pytest.mark.parametrize(
    "name", sorted({name for text in PAGES.values() for name in re.findall(r"bp_torch(?:\.\w+)+", text)})
)
def test_what_a_page_names_exists(name: str) -> None:
    found: Any = bp_torch
    for number, part in enumerate(name.split(".")[1:], 2):
        if not hasattr(found, part):
            import_module(".".join(name.split(".")[:number]))
        found = getattr(found, part)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", PAGES[path]):
        linked = (path.parent / target).resolve() if target else path
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


def test_every_make_target_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    for text in PAGES.values():
        assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
    assert {"help", "setup", "train", "test", "check", "gradients", "experiments", "explain", "dashboard"} <= targets


def test_a_variable_that_make_would_ignore_is_refused() -> None:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE")
    }  # `make test` sets some
    command = ["make", "--dry-run", "train", "epochs=1"]
    done = subprocess.run(command, cwd=ROOT, env=outside, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'unknown variable epochs: pass flags in ARGS, such as make train ARGS="--epochs 1"' in done.stderr
