"""Figures and tab share a palette, and no other file defines these colours."""

import re
from pathlib import Path

import pytest

from bp_torch.inspection.figures import DIVERGING, LESS, MORE

PACKAGE = Path(__file__).parents[2] / "bp_torch"
STATIC = PACKAGE / "dashboard" / "plugin" / "static"
COLOUR = re.compile(r"#(?:[0-9a-fA-F]{6}|[0-9a-fA-F]{3,4})\b")


def test_the_tab_has_the_colours_of_the_figures() -> None:
    themes = (STATIC / "colours.js").read_text(encoding="utf-8")
    (light,) = re.findall(r"light: \{(.*)\}", themes)
    assert dict(re.findall(r'(\w+): "(#\w{6})"', light)) == {"paper": "#ffffff", "more": MORE, "less": LESS}


def test_the_scale_goes_from_less_to_more() -> None:
    for place, colour in ((0.0, LESS), (0.5, "#ffffff"), (1.0, MORE)):
        expected = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert DIVERGING(place)[:3] == pytest.approx(expected, abs=1 / 100)


def test_no_other_file_has_colours_that_mean_more_or_less() -> None:
    """Other Python files have no colours; the tab's style sheet has greys and that of the ring."""
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "figures.py"]
    assert [path for path in files if re.search(r'["\']#[0-9a-fA-F]{6}["\']', path.read_text(encoding="utf-8"))] == []
    meaning = set(COLOUR.findall((STATIC / "colours.js").read_text(encoding="utf-8"))) - {"#ffffff", "#262626"}
    others = [path for path in STATIC.iterdir() if path.name != "colours.js"]
    assert [path for path in others if meaning & set(COLOUR.findall(path.read_text(encoding="utf-8")))] == []
