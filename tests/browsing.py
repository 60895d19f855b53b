"""The Backprop tab in headless Chromium, without errors on the console."""

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
"""Milliseconds; a generous limit, not a wait."""
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
    """A page with a limit of a minute for expectations; at the end there must be no error on its console."""
    context = browser.new_context(**{"viewport": {"width": 1400, "height": 800}, **options})
    context.set_default_timeout(MINUTE)
    page = context.new_page()
    errors = console_errors(page)
    page.goto(address)
    yield page
    context.close()
    assert errors == []


def console_errors(page: Page) -> list[str]:
    """A list that collects errors on the console and uncaught errors."""
    errors: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.location["url"].endswith("favicon.ico"):
            errors.append(f"{message.text} {message.location['url']}")

    page.on("console", listen)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return errors


def choose(page: Page, choices: str) -> None:
    """Change the address of an open tab, as a link would, and wait until the tab has rewritten it."""
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
