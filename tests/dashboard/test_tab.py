"""The Backprop tab: every phase, and its numbers compared with autograd's."""

import re
from collections.abc import Callable

import pytest
import torch
from board import Board
from browsing import ALONE, needs_chromium, opened
from playwright.sync_api import Browser, Page, expect
from recorded_run import RATE, STEPS, Reference

pytestmark = needs_chromium

PHASES = ["forward", "nudges", "avenues", "sums", "back-1", "average", "step"]


@pytest.fixture
def recorded(board: Board) -> list[Reference]:
    return board.recorded


@pytest.fixture
def wide(board: Board) -> list[Reference]:
    return board.wide


@pytest.fixture
def address(serve: Callable[[str], str]) -> str:
    return f"{serve('true')}{ALONE}"


def at(choices: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tab", [choices], indirect=True)


def read(text: str) -> float:
    """A number as the page writes it, such as −1.78·10⁻³."""
    plain = text.translate(str.maketrans("−⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "--0123456789")).replace(",", "").replace("·10", "e")
    return float(re.sub(r"^[=\s]*", "", plain))


def near(value: float) -> object:
    """Equal to the three digits that the page shows."""
    return pytest.approx(value, rel=6e-3, abs=1e-9)


def results(page: Page) -> dict[str, float]:
    """The results of the chain rule, by their left-hand sides."""
    names, values = page.locator(".chain dt").all_inner_texts(), page.locator(".chain dd b").all_inner_texts()
    return dict(zip(names, map(read, values), strict=True))


def hover(page: Page, selector: str) -> None:
    box = page.locator(selector).bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)


def captions(page: Page) -> list[str]:
    found = []
    for phase in PHASES:
        expect(page.locator("[aria-current=step]")).to_have_attribute("data-phase", phase)
        found.append(page.locator(".caption").inner_text())
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return found


@at("")
def test_every_phase_has_its_own_caption(tab: Page) -> None:
    found = captions(tab)
    assert len(set(found)) == len(PHASES)
    assert all(len(caption) > 80 for caption in found)


def test_the_tab_is_dark_and_narrow_where_the_system_is(browser: Browser, address: str) -> None:
    viewport = {"width": 900, "height": 800}
    with opened(browser, f"{address}#backprop&run=recorded", color_scheme="dark", viewport=viewport) as page:
        assert len(set(captions(page))) == len(PHASES)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(38, 38, 38)"


@at("step=3&example=4&phase=avenues")
def test_a_weights_chain_rule_is_autograds(tab: Page, recorded: list[Reference]) -> None:
    hover(tab, 'line[data-weight="1.4.2"]')
    expect(tab.locator("h2")).to_have_text("The weight from neuron 2 of hidden1 to output 4")
    output = recorded[3].model(recorded[3].inputs.double())[0]
    assert output.shape == (10,)
    truth = recorded[3].example(4)
    found = results(tab)
    assert found["∂C/∂w"] == near(truth["output.weight"][4, 2].item())
    assert found["nudge of w: −∂C/∂w"] == near(-truth["output.weight"][4, 2].item())
    numbers = tab.locator(".chain dd span").all_inner_texts()[-1]  # = a · σ′(z) · ∂C/∂a, which multiply to it
    factors = [read(factor.strip("() ")) for factor in numbers.removeprefix("= ").split(" · ")]
    assert torch.tensor(factors).prod().item() == pytest.approx(found["∂C/∂w"], rel=0.02)


@at("step=3&example=4&phase=avenues")
def test_a_pixels_weight_has_its_chain_rule(tab: Page, recorded: list[Reference]) -> None:
    weight = 14 * 28 + 14
    truth = recorded[3].example(4)["hidden1.weight"]
    box = tab.locator(".map").nth(5).bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] * 14.5 / 28, box["y"] + box["height"] * 14.5 / 28)
    expect(tab.locator(".name")).to_contain_text(f"hidden1.weight[5, {weight}]")
    assert results(tab)["∂C/∂w"] == near(truth[5, weight].item())


@at("step=2&example=7&phase=nudges")
def test_a_neurons_chain_rule_is_autograds(tab: Page, recorded: list[Reference]) -> None:
    truth = recorded[2].example(7)
    hover(tab, '[data-neuron="0.3"] circle')
    expect(tab.locator("h2")).to_have_text("Neuron 3 of hidden1")
    found = results(tab)
    assert found["δⱼ = ∂C/∂zⱼ = ∂C/∂b"] == near(truth["hidden1.bias"][3].item())
    assert found["nudge of aⱼ: −∂C/∂aⱼ"] == near(-truth["hidden"][0, 3].item())
    assert found["nudge of zⱼ and b: −δⱼ"] == near(-truth["hidden1.bias"][3].item())


@at("step=3&example=4&phase=avenues")
def test_the_three_avenues_are_autograds(tab: Page, recorded: list[Reference]) -> None:
    truth, model = recorded[3].example(4), recorded[3].model
    rows = [row.locator("td").all_inner_texts() for row in tab.locator(".avenues tbody tr").all()]
    assert read(rows[0][2]) == near(-truth["output.bias"][4].item())
    assert [read(row[2]) for row in rows[1:]] == [near(-w) for w in truth["output.weight"][4].tolist()]
    nudges = -truth["output.bias"][4] * model[2].weight[4]
    assert [read(row[3]) for row in rows[1:]] == [near(nudge) for nudge in nudges.tolist()]
    note = tab.locator(".details .note").inner_text()
    assert read(note.removeprefix("nudge of z and the bias: −δ = −∂C/∂z = ")) == near(-truth["output.bias"][4].item())


@at("step=3&example=4&phase=sums")
def test_added_up_nudges_are_autograds(tab: Page, recorded: list[Reference]) -> None:
    truth = -recorded[3].example(4)["hidden"][0]
    names = [tab.locator(f'[data-neuron="0.{j}"]').get_attribute("aria-label") or "" for j in range(8)]
    assert [read(name.split(", nudge ")[1]) for name in names] == [near(nudge) for nudge in truth.tolist()]
    assert tab.locator(".contributions rect").count() == 8 * 10


@at("step=3&phase=average&layer=1&neuron=6")
def test_the_average_table_is_what_sgd_applies(tab: Page, recorded: list[Reference]) -> None:
    truth = recorded[3].of(recorded[3].inputs, recorded[3].targets.double())
    unit = float(
        "1e" + tab.locator(".details h3").inner_text().split("10")[-1].translate(str.maketrans("⁻⁰¹²³⁴⁵", "-012345"))
    )
    means = [read(cell) * unit for cell in tab.locator(".average tbody td:last-child").all_inner_texts()]
    expected = [truth["output.bias"][6].item(), *truth["output.weight"][6].tolist()]
    assert means == [pytest.approx(-gradient, abs=0.006 * unit) for gradient in expected]
    expect(tab.locator(".details .note")).to_contain_text("SGD applied these means, times the learning rate")
    rows = [tab.locator(f".average tbody tr:nth-child({row}) td").all_inner_texts() for row in (1, 2)]
    for n in range(6):
        alone = recorded[3].of(recorded[3].inputs[n : n + 1], recorded[3].targets[n : n + 1].double())
        shown = [read(row[n]) * unit for row in rows]
        assert shown == [
            pytest.approx(-g.item(), abs=0.006 * unit) for g in (alone["output.bias"][6], alone["output.weight"][6, 0])
        ]


@at("step=3&phase=average&layer=1&neuron=6")
def test_every_example_has_its_column(tab: Page) -> None:
    names = tab.locator(".average thead button:has(canvas)")
    assert "example 0 of the mini-batch" in (names.first.get_attribute("aria-label") or "")
    box = tab.locator(".strip canvas").bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + box["width"] - 3, box["y"] + 20)
    expect(names.last).to_have_attribute("aria-label", re.compile("example 19 of the mini-batch"))
    names.last.click()
    expect(tab.locator(".examples [aria-pressed=true]")).to_have_attribute("data-key", "example batch-19")


@at("step=3&phase=step&layer=1&neuron=6&pin=1.6.2")
def test_the_step_leads_to_the_next_weights(tab: Page, recorded: list[Reference]) -> None:
    after = [read(cell) for cell in tab.locator(".avenues tbody td:last-child").all_inner_texts()]
    following = recorded[4].model
    assert after == [near(x) for x in (following[2].bias[6].item(), *following[2].weight[6].tolist())]
    truth = recorded[3].of(recorded[3].inputs, recorded[3].targets.double())["output.weight"][6, 2].item()
    assert results(tab)["mean ∂C/∂w of 20 examples"] == near(truth)
    assert f"times {RATE:.2f}" in tab.locator(".avenues thead").inner_text()


@pytest.mark.parametrize(
    ("tab", "run"),
    [(f"run={run}&step=3&example=4&phase=back-1", run) for run in ("recorded", "wide")],
    indirect=["tab"],
)
def test_the_nudges_of_pixels_are_autograds(tab: Page, run: str, request: pytest.FixtureRequest) -> None:
    """Summed over all neurons, drawn or not."""
    expect(tab.locator("svg .pixels:not(.map)").nth(1)).to_be_visible()
    colours = tab.evaluate(
        """async () => {
            const image = new Image();
            image.src = document.querySelectorAll('.pixels:not(.map)')[1].href.baseVal;
            await image.decode();
            const context = document.createElement('canvas').getContext('2d');
            context.drawImage(image, 0, 0);
            return [...context.getImageData(0, 0, 28, 28).data];
        }"""
    )
    found = torch.tensor(colours, dtype=torch.float64).view(784, 4)
    truth = -request.getfixturevalue(run)[3].example(4)["x"][0]
    strong = truth.abs() > 0.2 * truth.abs().max()
    assert (found[strong, 2] > found[strong, 0]).equal(truth[strong] > 0)  # blue where the nudge is positive
    seen = found[:, 3] / 255
    torch.testing.assert_close(seen ** (1 / 0.6), (truth / truth.abs().max()).abs(), rtol=0, atol=0.01)


@at("phase=forward&example=3")
def test_the_badge_shows_how_well_the_gradients_agree(tab: Page) -> None:
    tab.locator(".badge summary").click()
    rows = [row.locator("td").all_inner_texts() for row in tab.locator(".popover tbody tr").all()]
    assert tab.locator(".popover tbody th").all_inner_texts() == [
        "hidden1.weight",
        "hidden1.bias",
        "output.weight",
        "output.bias",
    ]
    assert all(row[0] == "✓" and read(row[1]) < 1e-5 for row in rows)


@at("run=wrong")
def test_the_badge_reports_a_wrong_gradient(tab: Page) -> None:
    expect(tab.locator(".badge.failed")).to_contain_text("4 of 4 gradients differ from autograd’s")


@at("run=wide&phase=average&layer=0&neuron=3")
def test_neurons_and_examples_that_are_not_shown_are_counted(tab: Page) -> None:
    expect(tab.locator("svg.network")).to_contain_text("and 16 more")
    assert tab.locator('[data-neuron^="0."]').count() == 24
    expect(tab.locator(".details .note")).to_contain_text("100 of 130 examples are shown; the mean is over all.")
    expect(tab.locator(".details .note")).to_contain_text("768 more weights are not shown.")


@at("run=wide&phase=sums")
def test_sums_include_neurons_that_are_not_drawn(tab: Page) -> None:
    expect(tab.locator(".caption")).to_contain_text("Among those drawn, neuron")
    expect(tab.locator(".details .note").last).to_contain_text("24 of 40 weights, the first")


@at("run=frozen&phase=average&layer=0&neuron=3")
def test_a_frozen_layer_is_not_changed(tab: Page) -> None:
    expect(tab.locator(".details")).to_contain_text("neuron 3 of hidden1 are frozen. There is nothing to average.")
    tab.locator("[data-phase=step]").last.click()
    expect(tab.locator(".details")).to_contain_text("are frozen. The step does not change them.")
    expect(tab.locator(".caption")).to_contain_text("Every weight and bias that is not frozen changes by")


@at(f"step={STEPS - 1}")
def test_the_last_step_is_there(tab: Page) -> None:
    expect(tab.locator(".step")).to_contain_text("step 5 of 6")


@at("run=long&phase=sums&layer=0&neuron=3")
def test_a_layer_named_by_a_number_is_called_layer(tab: Page) -> None:
    """As in a Sequential without names, and in runs of earlier versions."""
    expect(tab.locator("h2")).to_have_text("Neuron 3 of layer 0")
    assert tab.locator("svg.network .title:not(.start):not(.end)").all_text_contents() == ["layer 0", "layer 2"]
    expect(tab.locator(".name")).to_contain_text("0.bias[3]")


@at("run=recorded")
def test_a_layer_is_called_by_the_name_of_its_module(tab: Page) -> None:
    assert tab.locator("svg.network .title:not(.start):not(.end)").all_text_contents() == ["hidden1", "output"]


@at("run=frozen&phase=forward&layer=0&neuron=3")
def test_a_frozen_layer_has_a_name(tab: Page) -> None:
    expect(tab.locator("h2")).to_have_text("Neuron 3 of hidden1")
    expect(tab.locator(".name")).to_contain_text("frozen hidden1.bias[3] = ")
