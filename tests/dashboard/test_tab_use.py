"""The Backprop tab in someone's hands: mouse, keys, addresses, TensorBoard around it, and runs that cannot be shown."""

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from browsing import ALONE, needs_chromium, opened
from playwright.sync_api import Browser, Page, expect
from safetensors.torch import save
from served import serving
from tiny_frames import tiny_frame, tiny_network
from told_run import PROBES, write_run

import bp_torch.functional as F
from bp_torch import nn
from bp_torch.dashboard import frames, tags
from bp_torch.dashboard.event_file import EventFile
from bp_torch.dashboard.values import own_bytes
from bp_torch.dashboard.writer import TensorBoardRecorder
from bp_torch.training.logging.traces import FrameCapture

pytestmark = needs_chromium

MARKUP = "<img src=x onerror=alert(1)>&amp; é"
START = "#backprop&run=told&step=3&phase=avenues&example=4"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    logdir = tmp_path_factory.mktemp("runs")
    write_run(logdir / "told")
    write_run(logdir / MARKUP.replace("/", ""))
    with TensorBoardRecorder(logdir / "softmax") as recorder:
        model = torch.nn.Sequential(nn.Linear(784, 10), nn.Softmax(1))
        recorder.record(FrameCapture(model, F.squared_error, PROBES, torch.eye(10)).network(0, 3))
    write_blobs(logdir / "later", save({}, {"network": json.dumps({"format": 2})}))
    write_blobs(logdir / "garbage", b"\xff\x00garbage" * 20)
    whole = frames.frame_file(tiny_frame(0), tiny_network())
    zeroed = whole[:900] + bytes(len(whole) - 900)
    write_blobs(logdir / "damaged", frames.network_file(tiny_network()), whole, whole[:500], zeroed, b"", whole)
    frame = tiny_frame(0)
    cut = replace(frame.layers[1], weight=torch.ones(3, 9))
    odd = [
        whole.replace(b'\\"comparisons\\": []', b'\\"comparisons\\": 12'),
        frames.frame_file(replace(frame, layers=(frame.layers[0], cut)), tiny_network()),
    ]
    write_blobs(logdir / "odd", frames.network_file(tiny_network()), *odd, whole)
    with serving(logdir) as address:
        yield address


def write_blobs(folder: Path, network: bytes, *steps: bytes) -> None:
    events = EventFile(folder)
    events.write([own_bytes(tags.NETWORK, network, tags.BACKPROP)], 0)
    for step, content in enumerate(steps):
        events.write([own_bytes(tags.FRAME, content, tags.BACKPROP)], step)
    events.close()


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Page]:
    with opened(browser, f"{address}{ALONE}{START}") as page:
        expect(page.locator(".neuron")).not_to_have_count(0)
        yield page


def address_says(page: Page, said: str) -> None:
    page.wait_for_function("said => location.hash.includes(said)", arg=said)


def test_the_slider_reaches_every_step_by_keys(tab: Page) -> None:
    slider = tab.get_by_role("slider")
    slider.focus()
    for key, step in [("Home", "0"), ("ArrowRight", "1"), ("ArrowRight", "2"), ("ArrowLeft", "1"), ("End", "5")]:
        slider.press(key)
        expect(slider).to_have_attribute("aria-valuenow", step)
    expect(slider).to_have_attribute("aria-valuetext", re.compile("step 5 of 6, cost 0"))
    assert tab.locator(".tick").count() == 6


@pytest.mark.parametrize("linear", [False, True])
def test_a_click_on_the_slider_finds_the_nearest_step(tab: Page, linear: bool) -> None:
    if linear:
        tab.get_by_role("button", name="Log-spaced").click()
        address_says(tab, "spacing=linear")
    boxes = [tick.bounding_box() for tick in tab.locator(".tick").all()]
    places = [box["x"] for box in boxes if box]
    for step in (5, 1, 4, 0):
        tab.mouse.click(places[step] + 4, boxes[step]["y"] - 20)  # type: ignore[index]
        expect(tab.get_by_role("slider")).to_have_attribute("aria-valuenow", str(step))
    gaps = [b - a for a, b in pairwise(places)]
    assert (max(gaps) / min(gaps) < 1.1) is linear


def test_training_plays_to_its_end(tab: Page) -> None:
    tab.get_by_role("button", name="Play training").click()
    expect(tab.get_by_role("button", name="Pause training")).to_be_visible()
    expect(tab.locator(".step")).to_contain_text("step 5 of 6")
    expect(tab.get_by_role("button", name="Play training")).to_be_visible()


def test_phases_play_and_pause(tab: Page) -> None:
    tab.get_by_role("button", name="Play phases").click()
    expect(tab.locator("[aria-current=step]")).to_have_attribute("data-phase", "sums")
    tab.get_by_role("button", name="Pause phases").click()
    expect(tab.get_by_role("button", name="Play phases")).to_be_visible()


def test_a_pinned_weight_is_followed_and_let_go(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    address_says(tab, "pin=1.4.2")
    expect(tab.locator(".follow path")).to_have_count(2)
    assert (tab.locator(".follow path").first.get_attribute("d") or "").count("L") == 5
    expect(tab.locator('line[data-weight="1.4.2"]')).to_have_class("edge marked pinned")
    tab.keyboard.press("Escape")
    expect(tab.locator(".follow")).to_have_count(0)


def test_another_neuron_is_looked_at_beside_the_pinned_weight(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    expect(tab.locator("h2")).to_have_text("The weight from neuron 2 of hidden layer 1 to output 4")
    tab.locator('[data-neuron="1.7"] circle').click()
    tab.mouse.move(0, 0)
    expect(tab.locator("h2")).to_have_text("Output 7")
    expect(tab.locator('line[data-weight="1.4.2"]')).to_have_class("edge pinned")
    expect(tab.locator(".follow")).to_have_count(1)


def test_clicks_are_counted_however_quick(tab: Page) -> None:
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


def test_maps_go_with_the_phase_again_when_asked(tab: Page) -> None:
    title = tab.locator("svg.network .title.end")
    tab.get_by_role("button", name="Weights").click()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    expect(title).to_have_text("weights")
    tab.get_by_role("button", name="As the phase has it").click()
    expect(title).to_have_text("asked of pixels")


def test_the_focus_stays_while_the_pointer_moves(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    tab.locator('[data-key="pin"]').focus()
    box = tab.locator('line[data-weight="1.4.2"]').bounding_box()
    assert box is not None
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.wait_for_timeout(50)
    assert tab.evaluate("document.activeElement.dataset.key") == "pin"


def test_captions_are_not_read_out_while_training_plays(tab: Page) -> None:
    caption = tab.locator(".caption")
    expect(caption).to_have_attribute("aria-live", "polite")
    tab.get_by_role("button", name="First step").click()
    tab.keyboard.press("t")
    expect(caption).to_have_attribute("aria-live", "off")


def test_a_link_in_an_open_tab_means_what_it_means_in_a_new_one(tab: Page) -> None:
    tab.locator('.avenues button[data-key="weight 1.4.2"]').click()
    address_says(tab, "pin=1.4.2")
    tab.evaluate("location.hash = '#backprop&run=told&step=2'")
    expect(tab.locator("[aria-current=step]")).to_have_attribute("data-phase", "forward")
    expect(tab.locator(".follow")).to_have_count(0)


def test_a_click_on_a_line_pins_it(tab: Page) -> None:
    box = tab.locator('line[data-weight="1.4.2"]').bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    address_says(tab, "layer=1&neuron=4&pin=1.4.2")


def test_keys_alone_lead_everywhere(tab: Page) -> None:
    tab.locator('[data-neuron="1.4"]').focus()
    for key in ("ArrowLeft", "ArrowDown", "Enter"):
        tab.keyboard.press(key)
    expect(tab.locator("h3").last).to_have_text("Three avenues of neuron 5 of hidden layer 1")
    tab.keyboard.press("Escape")
    for key, said in [("w", "example=worst"), ("7", "example=7"), ("Shift+ArrowRight", "step=4"), ("m", "maps=")]:
        tab.locator("body").press(key)
        address_says(tab, said)
    tab.locator("body").press("ArrowRight")
    address_says(tab, "phase=sums")
    tab.locator("body").press("?")
    expect(tab.get_by_role("dialog")).to_be_visible()


def test_a_key_pressed_on_what_is_drawn_anew_leaves_the_focus_there(tab: Page) -> None:
    for key in ("weight 1.4.2", "example 7", "maps change"):
        tab.locator(f'[data-key="{key}"]').press("Enter")
        tab.wait_for_timeout(100)
        assert tab.evaluate("document.activeElement.dataset.key") == key


@pytest.mark.parametrize("maps", ["Weights", "Desired change", "Asked of pixels"])
def test_maps_change_their_pictures(tab: Page, maps: str) -> None:
    other = "Weights" if maps != "Weights" else "Desired change"
    tab.get_by_role("button", name=other).click()
    before = tab.locator(".map").first.get_attribute("href")
    tab.get_by_role("button", name=maps).click()
    expect(tab.get_by_role("button", name=maps)).to_have_attribute("aria-pressed", "true")
    assert tab.locator(".map").first.get_attribute("href") != before


def test_the_picture_is_saved_whole(tab: Page) -> None:
    with tab.expect_download() as saved:
        tab.get_by_role("button", name="SVG").click()
    assert saved.value.suggested_filename == "backprop-told-step-3-avenues.svg"
    root = ET.parse(saved.value.path()).getroot()
    kinds = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert "told, step 3, three avenues: a 4" in [element.text for element in root.iter()]
    assert kinds.count("line") >= 80
    assert {"script", "foreignObject"}.isdisjoint(kinds)
    hrefs = [element.get("href", "") for element in root.iter() if element.tag.endswith("image")]
    assert all(href.startswith("data:image/png") for href in hrefs if href)


def test_wishes_run_along_their_lines_unless_motion_is_unwelcome(browser: Browser, address: str) -> None:
    for motion in ("no-preference", "reduce"):
        with opened(browser, f"{address}{ALONE}{START}", reduced_motion=motion) as page:
            expect(page.locator(".neuron")).not_to_have_count(0)
            page.evaluate(
                "new MutationObserver(() => window.ran = true)"
                ".observe(document.querySelector('svg.network [aria-hidden]'), {childList: true})"
            )
            page.keyboard.press("ArrowRight")
            expect(page.locator("[aria-current=step]")).to_have_attribute("data-phase", "sums")
            assert bool(page.evaluate("window.ran")) is (motion == "no-preference")


def test_tensorboard_around_it_has_the_address_and_the_colours(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}{START}") as page:
        inside = page.frame_locator("iframe")
        expect(inside.locator("[aria-current=step]")).to_have_attribute("data-phase", "avenues")
        inside.locator("[data-phase=average]").first.click()
        address_says(page, "phase=average&example=4")
        page.evaluate("location.hash = location.hash.replace('step=3', 'step=5')")
        expect(inside.locator(".step")).to_contain_text("step 5 of 6")
        for theme in ("dark", "light"):
            page.evaluate("dark => document.body.classList.toggle('dark-mode', dark)", theme == "dark")
            expect(inside.locator("html")).to_have_attribute("data-theme", theme)


def test_what_is_logged_later_is_there_after_a_reload(browser: Browser, tmp_path: Path) -> None:
    recorder = TensorBoardRecorder(tmp_path / "run")
    recorder.record(tiny_network())
    recorder.record(tiny_frame(0))
    with serving(tmp_path, "--reload_interval", "1") as address, opened(browser, f"{address}#backprop") as page:
        inside = page.frame_locator("iframe")
        expect(inside.locator(".step")).to_contain_text("1 of 1 logged")
        recorder.record(tiny_frame(7))
        recorder.close()
        reload = page.get_by_role("button", name=re.compile("Last Updated"))
        for _ in range(20):
            reload.click()
            page.wait_for_timeout(300)
            if "of 2 logged" in inside.locator(".step").inner_text():
                break
        expect(inside.locator(".step")).to_contain_text("1 of 2 logged")


def test_without_frames_it_says_how_to_have_some(browser: Browser, tmp_path: Path) -> None:
    with serving(tmp_path) as address, opened(browser, f"{address}#backprop") as page:
        said = page.frame_locator("iframe").locator(".empty")
        expect(said).to_contain_text("No run here has frames yet")
        expect(said).to_contain_text("python scripts/train.py --data digits")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("softmax", "Run softmax cannot be walked through here: layer 1 (Softmax): only one elementwise activation"),
        ("later", "it was written in format 2, and this tab reads format 1"),
        ("garbage", "Run garbage cannot be shown: it is cut short."),
        ("damaged&step=1", "Step 1 of run damaged cannot be shown: it is cut short. Choose another step or run."),
        ("damaged&step=2", "Step 2 of run damaged cannot be shown:"),
        ("damaged&step=3", "Step 3 of run damaged cannot be shown: it is only 0 bytes long."),
        ("odd&step=0", "Step 0 of run odd cannot be shown: it does not say what was compared."),
        ("odd&step=1", "Step 1 of run odd cannot be shown: its array 1.weight is 3 by 9, not 3 by 4."),
        ("gone", "There is no run gone with frames here. Choose another."),
    ],
)
def test_what_cannot_be_shown_is_said(browser: Browser, address: str, run: str, said: str) -> None:
    with opened(browser, f"{address}{ALONE}#backprop&run={run}") as page:
        expect(page.get_by_role("alert")).to_contain_text(said)
        if "step" in run:
            page.get_by_role("button", name="Last step").click()
            expect(page.locator(".neuron")).to_have_count(7)
        page.get_by_label("Run").select_option("told")
        expect(page.locator(".caption")).to_be_visible()


def test_names_are_text_and_never_markup(browser: Browser, address: str) -> None:
    with opened(browser, f"{address}{ALONE}#backprop") as page:
        page.get_by_label("Run").select_option(MARKUP)
        expect(page.locator(".neuron")).not_to_have_count(0)
        address_says(page, "run=%3Cimg")
        assert page.locator("img").count() == 0
        page.reload()
        expect(page.get_by_label("Run")).to_have_value(MARKUP)


@pytest.mark.parametrize(
    "choice",
    [
        "step=99999",
        "step=x",
        "column=1.5&phase=average",
        "example=-1&layer=7&neuron=2",
        "phase=none",
        "pin=9.9.9&maps=no",
    ],
)
def test_an_address_that_means_nothing_is_forgiven(browser: Browser, address: str, choice: str) -> None:
    with opened(browser, f"{address}{ALONE}#backprop&run=told&{choice}") as page:
        expect(page.locator(".caption")).not_to_be_empty()
        expect(page.get_by_role("alert")).to_be_hidden()
