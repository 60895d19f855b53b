"""Use of the Backprop tab: mouse, keys, addresses, TensorBoard around it, and runs that cannot be shown."""

import functools
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from board import MARKUP
from browsing import ALONE, needs_chromium, opened
from playwright.sync_api import Browser, Page, expect
from served import serving, until
from tiny_frames import tiny_frame, tiny_network

from bp_torch.dashboard.writer import TensorBoardLogger

pytestmark = needs_chromium

START = "step=3&phase=avenues&example=4"
started = pytest.mark.parametrize("tab", [START], indirect=True)


@pytest.fixture
def address(serve: Callable[[str], str]) -> str:
    return serve("true")


def expect_in_address(page: Page, text: str) -> None:
    page.wait_for_function("text => location.hash.includes(text)", arg=text)


@started
def test_the_slider_reaches_every_step_by_keys(tab: Page) -> None:
    slider = tab.get_by_role("slider")
    slider.focus()
    for key, step in [("Home", "0"), ("ArrowRight", "1"), ("ArrowRight", "2"), ("ArrowLeft", "1"), ("End", "5")]:
        slider.press(key)
        expect(slider).to_have_attribute("aria-valuenow", step)
    expect(slider).to_have_attribute("aria-valuetext", re.compile("step 5 of 6, cost 0"))
    assert tab.locator(".tick").count() == 6


@pytest.mark.parametrize("linear", [False, True])
@started
def test_a_click_on_the_slider_finds_the_nearest_step(tab: Page, linear: bool) -> None:
    if linear:
        tab.get_by_role("button", name="Log-spaced").click()
        expect_in_address(tab, "spacing=linear")
    boxes = [tick.bounding_box() for tick in tab.locator(".tick").all()]
    places = [box["x"] for box in boxes if box]
    for step in (5, 1, 4, 0):
        tab.mouse.click(places[step] + 4, boxes[step]["y"] - 20)  # type: ignore[index]
        expect(tab.get_by_role("slider")).to_have_attribute("aria-valuenow", str(step))
    gaps = [b - a for a, b in pairwise(places)]
    assert (max(gaps) / min(gaps) < 1.1) is linear


@started
def test_training_plays_to_its_end(tab: Page) -> None:
    tab.get_by_role("button", name="Play training").click()
    expect(tab.get_by_role("button", name="Pause training")).to_be_visible()
    expect(tab.locator(".step")).to_contain_text("step 5 of 6")
    expect(tab.get_by_role("button", name="Play training")).to_be_visible()


@started
def test_phases_play_and_pause(tab: Page) -> None:
    tab.get_by_role("button", name="Play phases").click()
    expect(tab.locator("[aria-current=step]")).to_have_attribute("data-phase", "sums")
    tab.get_by_role("button", name="Pause phases").click()
    expect(tab.get_by_role("button", name="Play phases")).to_be_visible()


@started
def test_a_pinned_weight_has_curves_until_it_is_unpinned(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    expect_in_address(tab, "pin=1.4.2")
    expect(tab.locator(".follow path")).to_have_count(2)
    assert (tab.locator(".follow path").first.get_attribute("d") or "").count("L") == 5
    expect(tab.locator('line[data-weight="1.4.2"]')).to_have_class("edge marked pinned")
    tab.keyboard.press("Escape")
    expect(tab.locator(".follow")).to_have_count(0)


@started
def test_another_neuron_can_be_shown_while_a_weight_is_pinned(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    expect(tab.locator("h2")).to_have_text("The weight from neuron 2 of hidden1 to output 4")
    tab.locator('[data-neuron="1.7"] circle').click()
    tab.mouse.move(0, 0)
    expect(tab.locator("h2")).to_have_text("Output 7")
    expect(tab.locator('line[data-weight="1.4.2"]')).to_have_class("edge pinned")
    expect(tab.locator(".follow")).to_have_count(1)


@started
def test_quick_clicks_all_count(tab: Page) -> None:
    tab.evaluate("""() => {
        const click = (title, times) => {
            const button = document.querySelector(`[title^="${title}"]`);
            for (let i = 0; i < times; i++) button.click();
        };
        click("First step", 1);
        click("Next step", 4);
        click("Next phase", 3);
    }""")
    expect(tab.get_by_role("slider")).to_have_attribute("aria-valuenow", "4")
    expect(tab.locator("[aria-current=step]")).to_have_attribute("data-phase", "average")


@started
def test_maps_can_return_to_the_default_of_the_phase(tab: Page) -> None:
    title = tab.locator("svg.network .title.end")
    tab.get_by_role("button", name="Weights", exact=True).click()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    expect(title).to_have_text("weights")
    tab.get_by_role("button", name="Default of the phase").click()
    expect(title).to_have_text("nudges of pixels")


@started
def test_the_focus_stays_while_the_pointer_moves(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    tab.locator('[data-key="pin"]').focus()
    box = tab.locator('line[data-weight="1.4.3"]').bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(tab.locator("h2")).to_have_text("The weight from neuron 3 of hidden1 to output 4")
    assert tab.evaluate("document.activeElement.dataset.key") == "pin"


@started
def test_captions_are_not_announced_while_training_plays(tab: Page) -> None:
    caption = tab.locator(".caption")
    expect(caption).to_have_attribute("aria-live", "polite")
    tab.get_by_role("button", name="First step").click()
    tab.keyboard.press("t")
    expect(caption).to_have_attribute("aria-live", "off")
    expect(tab.get_by_role("button", name="Play training")).to_be_visible()


@started
def test_a_link_in_an_open_tab_resets_the_other_choices(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    expect_in_address(tab, "pin=1.4.2")
    tab.evaluate("location.hash = '#backprop&run=recorded&step=2'")
    expect(tab.locator("[aria-current=step]")).to_have_attribute("data-phase", "forward")
    expect(tab.locator(".follow")).to_have_count(0)


@started
def test_a_click_on_a_line_pins_it(tab: Page) -> None:
    box = tab.locator('line[data-weight="1.4.2"]').bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect_in_address(tab, "layer=1&neuron=4&pin=1.4.2")


@started
def test_everything_can_be_reached_by_keys(tab: Page) -> None:
    tab.locator('[data-neuron="1.4"]').focus()
    for key in ("ArrowLeft", "ArrowDown", "Enter"):
        tab.keyboard.press(key)
    expect(tab.locator("h3").last).to_have_text("Three avenues of neuron 5 of hidden1")
    tab.keyboard.press("Escape")
    for key, expected in [("w", "example=worst"), ("7", "example=7"), ("Shift+ArrowRight", "step=4"), ("m", "maps=")]:
        tab.locator("body").press(key)
        expect_in_address(tab, expected)
    tab.locator("body").press("ArrowRight")
    expect_in_address(tab, "phase=sums")
    tab.locator("body").press("?")
    expect(tab.get_by_role("dialog")).to_be_visible()


@started
def test_a_redrawn_button_keeps_the_focus(tab: Page) -> None:
    for key, drawn in (("weight 1.4.2", "pin=1.4.2"), ("example 7", "example=7"), ("maps change", "maps=change")):
        tab.locator(f'[data-key="{key}"]').press("Enter")
        expect_in_address(tab, drawn)
        assert tab.evaluate("document.activeElement.dataset.key") == key


@pytest.mark.parametrize("maps", ["Weights", "Nudges of weights", "Nudges of pixels"])
@started
def test_maps_change_their_pictures(tab: Page, maps: str) -> None:
    other = "Weights" if maps != "Weights" else "Nudges of weights"
    tab.get_by_role("button", name=other, exact=True).click()
    before = tab.locator(".map").first.get_attribute("href")
    tab.get_by_role("button", name=maps, exact=True).click()
    expect(tab.get_by_role("button", name=maps, exact=True)).to_have_attribute("aria-pressed", "true")
    assert tab.locator(".map").first.get_attribute("href") != before


@started
def test_the_picture_is_saved_with_its_styles(tab: Page) -> None:
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="SVG").click()
    assert saved.value.suggested_filename == "backprop-recorded-step-3-avenues.svg"
    root = ET.parse(saved.value.path()).getroot()
    kinds = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert "recorded, step 3, three avenues: label 4" in [element.text for element in root.iter()]
    assert kinds.count("line") >= 80
    assert {"script", "foreignObject"}.isdisjoint(kinds)
    hrefs = [element.get("href", "") for element in root.iter() if element.tag.endswith("image")]
    assert all(href.startswith("data:image/png") for href in hrefs if href)


def test_nudges_are_animated_unless_reduced_motion_is_preferred(browser: Browser, address: str) -> None:
    for motion in ("no-preference", "reduce"):
        with opened(browser, f"{address}{ALONE}#backprop&run=recorded&{START}", reduced_motion=motion) as page:
            expect(page.locator(".neuron")).not_to_have_count(0)
            page.evaluate(
                "new MutationObserver(() => window.ran = true)"
                ".observe(document.querySelector('svg.network [aria-hidden]'), {childList: true})"
            )
            page.keyboard.press("ArrowRight")
            expect(page.locator("[aria-current=step]")).to_have_attribute("data-phase", "sums")
            assert bool(page.evaluate("window.ran")) is (motion == "no-preference")


def test_the_tab_follows_the_address_and_the_theme_of_tensorboard(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}#backprop&run=recorded&{START}") as page:
        inside = page.frame_locator("iframe")
        expect(inside.locator("[aria-current=step]")).to_have_attribute("data-phase", "avenues")
        inside.locator("[data-phase=average]").first.click()
        expect_in_address(page, "phase=average&example=4")
        page.evaluate("location.hash = location.hash.replace('step=3', 'step=5')")
        expect(inside.locator(".step")).to_contain_text("step 5 of 6")
        for theme in ("dark", "light"):
            page.evaluate("dark => document.body.classList.toggle('dark-mode', dark)", theme == "dark")
            expect(inside.locator("html")).to_have_attribute("data-theme", theme)


def test_from_an_empty_folder_to_a_first_frame_and_a_later_one(browser: Browser, tmp_path: Path) -> None:
    with (
        serving(tmp_path, "--reload_interval", "1") as address,
        TensorBoardLogger(tmp_path / "run") as recorder,
        opened(browser, f"{address}#backprop") as page,
    ):
        inside = page.frame_locator("iframe")
        expect(inside.locator(".empty")).to_contain_text("No run here has frames yet")
        expect(inside.locator(".empty")).to_contain_text("bp-torch train --data digits")
        recorder.record(tiny_network())
        for step, expected in ((0, "recorded step 1 of 1"), (7, "recorded step 1 of 2")):
            recorder.record(tiny_frame(step))
            until(functools.partial(shows_after_a_reload, page, expected))
            expect(inside.locator(".step")).to_contain_text(expected)


def shows_after_a_reload(page: Page, text: str) -> bool:
    page.get_by_role("button", name=re.compile("Last Updated")).click()
    page.wait_for_timeout(200)
    return text in page.frame_locator("iframe").locator("body").inner_text()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("softmax", "Run softmax cannot be shown here: module 1 (Softmax): only one elementwise activation"),
        ("later", "it was written in format 2, and this tab reads format 1"),
        ("garbage", "Run garbage cannot be shown: it is cut short."),
        ("damaged&step=1", "Step 1 of run damaged cannot be shown: it is cut short. Choose another step or run."),
        ("damaged&step=2", "Step 2 of run damaged cannot be shown:"),
        ("damaged&step=3", "Step 3 of run damaged cannot be shown: it is only 0 bytes long."),
        ("inconsistent&step=0", "Step 0 of run inconsistent cannot be shown: its comparisons are missing."),
        ("inconsistent&step=1", "Step 1 of run inconsistent cannot be shown: its array 1.weight is 3 by 9, not 3"),
        ("gone", "There is no run gone with frames here. Choose another."),
    ],
)
@started
def test_runs_and_steps_that_cannot_be_shown_are_reported(tab: Page, run: str, message: str) -> None:
    tab.evaluate("run => location.hash = `#backprop&run=${run}`", run)
    expect(tab.get_by_role("alert")).to_contain_text(message)
    if "step" in run:
        tab.get_by_role("button", name="Last step").click()
        expect(tab.locator(".neuron")).to_have_count(7)
    tab.get_by_label("Run").select_option("recorded")
    expect(tab.locator(".caption")).to_be_visible()


def test_names_are_text_and_never_markup(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}{ALONE}#backprop") as page:
        page.get_by_label("Run").select_option(MARKUP)
        expect(page.locator(".neuron")).not_to_have_count(0)
        expect_in_address(page, "run=%3Cimg")
        assert page.locator("img").count() == 0
        page.reload()
        expect(page.get_by_label("Run")).to_have_value(MARKUP)


@pytest.mark.parametrize(
    "tab",
    [
        "step=99999",
        "step=x",
        "column=1.5&phase=average",
        "example=-1&layer=7&neuron=2",
        "phase=none",
        "pin=9.9.9&maps=no",
    ],
    indirect=True,
)
def test_invalid_values_in_the_address_are_ignored(tab: Page) -> None:
    expect(tab.locator(".caption")).not_to_be_empty()
    expect(tab.get_by_role("alert")).to_be_hidden()
