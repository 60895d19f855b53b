"""The pages of the Text tab, as TensorBoard renders them."""

import re
from dataclasses import replace

import pytest
from tensorboard.plugin_util import markdown_to_safe_html

from bp_torch.dashboard.writer import finish_page, start_page
from bp_torch.markdown import escape
from bp_torch.training.logging.events import RunFinished, RunStarted

NASTY = "a|b `c|d` *e* _f_ <em>g</em> & \\ \\| [h](http://i) # {j} ~~ 1. !"


def cells(page: str) -> list[list[str]]:
    """The rows of all tables in the rendered page."""
    rows = re.findall(r"<tr>(.*?)</tr>", markdown_to_safe_html(page), re.DOTALL)
    return [re.findall(r"<td>(.*?)</td>", row) for row in rows if "<td>" in row]


def test_the_page_shows_configuration_and_versions_as_tables(run_started: RunStarted) -> None:
    assert cells(start_page(run_started)) == [
        ["hidden", "(16, 16)"],
        ["learning_rate", "0.5"],
        ["seed", "3"],
        ["shuffle", "True"],
        ["resume", "None"],
        ["cost", "a|b"],
        ["python", "3.11.2"],
        ["torch", "2.13.0"],
    ]


def test_the_data_come_first_and_their_origin_is_bold(run_started: RunStarted) -> None:
    page = markdown_to_safe_html(start_page(run_started))
    assert page.startswith("<h2>Data: digits</h2>")
    assert "<strong>Synthetic digits, in place of MNIST: &lt;no network&gt; &amp; no *disk*</strong>" in page


def test_command_and_model_are_shown_verbatim(run_started: RunStarted) -> None:
    command = "python train.py | tee '*.txt'\n\n```\n<b>"
    page = markdown_to_safe_html(start_page(replace(run_started, command=command)))
    assert "<code>python train.py | tee '*.txt'\n\n```\n&lt;b&gt;\n</code>" in page
    assert "<code>Sequential(\n  (hidden1): Linear(784, 16)\n)\n</code>" in page


def test_no_value_can_break_a_table() -> None:
    rows = cells(finish_page(RunFinished(1, {NASTY: NASTY, "lines": "one\n| two |\n"})))
    shown = NASTY.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert rows == [[shown, shown], ["lines", "one | two |"]]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1 + 0.2, "0.3"), (1e-07, "1e-07"), (36000, "36000"), (float("nan"), "nan"), (None, "None")]
)
def test_numbers_are_short(value: object, shown: str) -> None:
    assert escape(value) == shown
