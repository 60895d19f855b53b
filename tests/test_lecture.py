"""docs/lecture.md: its links, quoted lines, commands and measured figures are correct."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from bp_torch.inspection.experiments import EXPERIMENTS
from bp_torch.nn import mlp

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "lecture.md").read_text(encoding="utf-8")
MEASURED = json.loads((DOCS / "lecture.json").read_text(encoding="utf-8"))
CLAIMS = [claim for experiment in MEASURED.values() for claim in experiment["claims"]]
SECTIONS = {int(number): text for number, text in re.findall(r"^## (\d+)\. (.*?)(?=^## |\Z)", PAGE, re.M | re.S)}
LINKS = re.findall(r"\[(`?)([^\]\n]+?(?:\[[^\]\n]*\][^\]\n]*?)*)`?\]\((?!https:)([^)#\s]+)\)", PAGE)


def test_every_statement_has_a_section() -> None:
    assert list(SECTIONS) == list(range(1, 17))
    assert len(LINKS) > 30


@pytest.mark.parametrize(("quoted", "text", "path"), LINKS)
def test_a_link_leads_to_the_line_it_quotes(quoted: str, text: str, path: str) -> None:
    target = (DOCS / path).resolve()
    assert target.exists()
    if quoted:
        assert text in map(str.strip, target.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("number", SECTIONS)
def test_each_statement_links_to_a_line_of_code(number: int) -> None:
    assert re.search(r"`\]\(\.\./bp_torch/[^)]+\.py\)", SECTIONS[number])


@pytest.mark.parametrize("number", range(1, 16))
def test_each_statement_has_a_command(number: int) -> None:
    assert re.search(r"- Command: `make [a-z]+", SECTIONS[number])


def test_every_command_exists() -> None:
    makefile = (DOCS.parent / "Makefile").read_text(encoding="utf-8")
    commands = re.findall(r"`make ([a-z]+)(?: ARGS=\"([^\"]*)\")?`", PAGE)
    for target, arguments in commands:
        assert re.search(rf"^{target}:", makefile, re.M)
        if target == "experiments":
            assert set(arguments.split()) <= {*EXPERIMENTS, "--quick"}
    named = {name for target, arguments in commands if target == "experiments" for name in arguments.split()}
    assert named == set(EXPERIMENTS)


def test_the_figures_are_from_a_full_run_on_mnist() -> None:
    assert list(MEASURED) == list(EXPERIMENTS)
    for experiment in MEASURED.values():
        assert (experiment["data"], experiment["quick"], experiment["seed"]) == ("mnist", False, 0)
    assert {claim["statement"] for claim in CLAIMS} == set(range(4, 16))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim["claim"])
def test_a_measured_figure_is_in_the_section_of_its_statement(claim: dict[str, object]) -> None:
    section = " ".join(SECTIONS[int(str(claim["statement"]))].split())
    assert str(claim["measured"]) in section
    assert claim["holds"] or "does not hold" in section


def test_number_of_claims_that_do_not_hold() -> None:
    broken = [claim for claim in CLAIMS if not claim["holds"]]
    assert len(broken) == 3
    assert "three did" in PAGE
    assert {claim["scope"] for claim in broken} == {"this network"}


@pytest.mark.parametrize(("caption", "path"), re.findall(r"!\[([^\]]*)\]\((\S+)\)", PAGE))
def test_a_caption_is_the_title_of_its_figure(caption: str, path: str) -> None:
    with Image.open(DOCS / path) as figure:
        assert figure.info["Title"] == caption


def test_number_of_parameters_of_the_network() -> None:
    size = sum(parameter.numel() for parameter in mlp((784, 16, 16, 10)).parameters())
    assert f"= {size:,}," in SECTIONS[1]
