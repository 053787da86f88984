"""Real Chromium, the operating system's own, without a window."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.console import FakeMachine, FakeMachines, Serving

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PAGE_MILLISECONDS = 15_000.0
"""How long the page may take to show what follows at once; emulation shares the processor."""

WAIT_SECONDS = 15.0

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


@pytest.fixture
def machines(tmp_path: Path) -> FakeMachines:
    """Made-up workstations, for the tests that look at the page alone."""
    return FakeMachines(tmp_path, "lab", "pro")


@pytest.fixture
def pro(machines: FakeMachines) -> FakeMachine:
    return machines["pro"]


@pytest.fixture
def serving(machines: FakeMachines) -> Iterator[Serving]:
    serving = Serving(machines)
    yield serving
    serving.close()


@pytest.fixture
def page(serving: Serving, open_page: OpenPage) -> Page:
    return open_page(serving.address("pro"))


def wait_for(holds: Callable[[], bool], page: Page) -> None:
    """Let the page go on until something holds."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(50)


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
