"""The Backprop tab in headless Chromium, which must not complain on its console."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH: install Debian's package chromium")

_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
MINUTE = 60_000
"""Milliseconds; a bound that no machine reaches, not a wait."""
expect.set_options(timeout=MINUTE)

ALONE = "data/plugin_entry.html?name=backprop"
"""The tab without TensorBoard around it."""


@contextmanager
def browsing() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A page that waits a minute for what is expected of it; at the end there must have been no complaint."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 800}, **options})
    context.set_default_timeout(MINUTE)
    page = context.new_page()
    complaints = complaints_of(page)
    page.goto(address)
    yield page
    context.close()
    assert complaints == []


def complaints_of(page: Page) -> list[str]:
    """Filled with errors on the console, and those that nobody catches."""
    complaints: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.location["url"].endswith("favicon.ico"):
            complaints.append(f"{message.text} {message.location['url']}")

    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


def choose(page: Page, choices: str) -> None:
    """Lead an open tab to an address, as a link would, and wait until it is shown: the tab then writes it anew."""
    page.mouse.move(0, 0)
    page.evaluate(
        """hash => {
            document.activeElement.blur();
            document.querySelector("dialog").close();
            document.querySelectorAll("details").forEach((badge) => (badge.open = false));
            location.hash = hash;
        }""",
        f"#backprop&{choices}&still=to-be-shown",
    )
    page.wait_for_function("!location.hash.includes('to-be-shown')")
