"""Real Chromium, the operating system's own, without a window."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PAGE_MILLISECONDS = 15_000.0
"""How long the page may take to show what follows at once; emulation shares the processor."""

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without its own sandbox: it shows nothing here but our page, and in containers
    there is none to be had."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program is not None, "Chromium is missing; set up again with ./test"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens pages; at the end none of them may have complained or asked another host."""
    complaints: list[str] = []
    contexts = []

    def open_page(address: str, *, tolerate_loss: bool = False, **options: Any) -> Page:
        own = {"width": 1440, "height": 900}
        context = browser.new_context(viewport=options.pop("viewport", own), **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PAGE_MILLISECONDS)
        origin = address.split("/open?", maxsplit=1)[0] + "/"
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("request", lambda request: _check(request.url, origin, complaints))
        if not tolerate_loss:
            page.on("console", lambda message: _heard(message.type, message.text, complaints))
        page.goto(address)
        page.wait_for_url(lambda url: "/open?" not in url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def artifact(name: str) -> Path | None:
    """Where a picture called `name` is to be kept; None where nobody wants it."""
    folder = os.environ.get("SPACEGRAY_ARTIFACTS")
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder) / name


def _check(url: str, origin: str, complaints: list[str]) -> None:
    if not url.startswith((origin, "data:", "blob:")):
        complaints.append(f"asked another host: {url}")


def _heard(kind: str, text: str, complaints: list[str]) -> None:
    """A screen that is refused is no fault: the machine may not have one yet."""
    if kind == "error" and not text.startswith(("WebSocket connection to", "Failed when conn")):
        complaints.append(f"console: {text}")
