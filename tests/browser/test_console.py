"""Guards: the whole way, from a one-time address to a command typed into a real machine.

Nothing is made up here: Chromium, the console's own process, and a tiny workstation that boots
through its chip and its firmware.
"""

import re
import secrets
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from spacegray.console import launch
from spacegray.links import LINKS, chain
from tests.browser.conftest import OpenPage, artifact
from tests.conftest import Running
from tests.support.keyboard import type_text

BOOT_MILLISECONDS = 240_000.0
PROMPT_SECONDS = 120.0
POLL_SECONDS = 1.0
STILL_SECONDS = 1.5
"""A picture that does not change for so long is drawn."""
CURSOR_PIXELS = 16 * 32
"""What a blinking cursor adds and takes away, at most."""
NOT_RUNNING = re.compile("^(Off|Failed)$")
"""A machine that is off says so, or says how its last start failed, in whatever test that was."""
CHIP_MILLISECONDS = 60_000.0
DISK_PASSWORD = "a Disk's own password, 4"
WRONG_PASSWORD = "surely not this one, 5"
MONITOR = """() => {
  window.litAt = {};
  const look = () => {
    for (const link of document.querySelectorAll('#links li[data-phase="lit"]')) {
      window.litAt[link.dataset.link] ??= performance.now();
    }
  };
  new MutationObserver(look).observe(document.querySelector('#links'), {
    subtree: true, attributes: true, attributeFilter: ['data-phase'],
  });
}"""
"""Notes when each link lights up."""


@pytest.fixture
def address(powered_off: Running) -> Iterator[str]:
    """A one-time address as the command line prints it."""
    output = powered_off.cli("open", powered_off.name, "--headless").stdout
    found = re.search(r"http://127\.0\.0\.1:\d+/open\?\S+", output)
    assert found is not None, output
    yield found.group()
    launch.stop(powered_off.cli.paths)


def on_screen(running: Running) -> str:
    """The text on the machine's first virtual terminal, as its kernel has it."""
    return running.cli.shell("sudo", "cat", "/dev/vcs1", name=running.name, check=False).stdout


def wait_for_text(running: Running, pattern: str) -> None:
    deadline = time.monotonic() + PROMPT_SECONDS
    while not re.search(pattern, shown := on_screen(running)):
        assert time.monotonic() < deadline, f"no {pattern!r} on the screen, but {shown!r}"
        time.sleep(POLL_SECONDS)


def bright_pixels(page: Page) -> int:
    count: int = page.evaluate(
        """() => {
          const canvas = document.querySelector('#screen canvas');
          const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return pixels.data.filter((value, index) => index % 4 === 1 && value > 80).length;
        }"""
    )
    return count


def test_power_on_watch_the_boot_log_in_and_type(
    powered_off: Running, address: str, open_page: OpenPage
):
    running = powered_off
    # Two device pixels to each, so that the machine's own pixels are all to be seen.
    page = open_page(address, device_scale_factor=2, color_scheme="dark")
    expect(page.locator("#state")).to_have_text(NOT_RUNNING)
    page.evaluate(MONITOR)
    page.locator(".power-on").click()
    expect(page.locator("#state")).to_have_text("Running", timeout=BOOT_MILLISECONDS)

    lit = page.evaluate("window.litAt")
    assert sorted(lit, key=lit.get) == list(LINKS), "every link, in the order of the chain"
    assert lit["login"] - lit["machine"] > 1000, "one by one, not all at the end"

    wait_for_text(running, r"login:\s*$")
    expect(page.locator("#tools")).to_be_visible()
    deadline = time.monotonic() + PROMPT_SECONDS
    while bright_pixels(page) < 100:
        assert time.monotonic() < deadline, "the screen stays dark"
        page.wait_for_timeout(500)

    user = running.cli.show(running.name)["user"]
    mark = f"typed-{secrets.token_hex(4)}"
    page.locator("#screen canvas").click()
    type_text(page, f"{user}\n")
    wait_for_text(running, "(?i)password:")
    type_text(page, f"{running.password}\n")
    wait_for_text(running, r"[$#]\s*$")
    type_text(page, f"uname -sr; id -un >/data/{mark}\n")

    deadline = time.monotonic() + PROMPT_SECONDS
    while (done := running.cli.shell("cat", f"/data/{mark}", check=False)).returncode != 0:
        assert time.monotonic() < deadline, f"nothing came of it: {on_screen(running)!r}"
        time.sleep(POLL_SECONDS)
    assert done.stdout == f"{user}\n"
    assert running.password not in on_screen(running)

    page.wait_for_timeout(1000)
    if (picture := artifact("console.png")) is not None:
        page.screenshot(path=picture)


@pytest.fixture
def with_password(powered_off: Running) -> Iterator[Running]:
    """Its chip has a password; none is left for the tests after."""
    cli, name = powered_off.cli, powered_off.name
    cli("password", "set", name, "--new-password-file", "-", stdin=DISK_PASSWORD.encode())
    yield powered_off
    cli("stop", name)
    cli("password", "remove", name, "--password-file", "-", stdin=DISK_PASSWORD.encode())


def test_a_chip_with_a_password_is_unlocked_on_the_page(
    with_password: Running, address: str, open_page: OpenPage
):
    page = open_page(address)
    expect(page.locator("#state")).to_have_text(NOT_RUNNING)
    page.locator(".power-on").click()
    field = page.get_by_label("Password", exact=True)
    expect(field).to_be_focused(timeout=CHIP_MILLISECONDS)
    expect(page.locator("#state")).to_have_text("Locked")

    type_text(page, f"{WRONG_PASSWORD}\n")
    said = page.locator(".unlock [role=alert]")
    expect(said).to_have_text("This is not the password. 9 tries are left.")
    expect(field).to_be_focused()
    type_text(page, f"{DISK_PASSWORD}\n")
    machine = page.locator('#links [data-link="machine"]')
    expect(machine).to_have_attribute("data-phase", "lit", timeout=CHIP_MILLISECONDS)
    expect(page.locator(".unlock")).to_have_count(0)

    page.get_by_role("button", name="Shut down").click()
    page.get_by_role("dialog").get_by_role("button", name="Shut down").click()
    expect(page.locator("#state")).to_have_text("Off", timeout=CHIP_MILLISECONDS)
    page.get_by_role("button", name="Details").click()
    chip = page.locator("#panel section").filter(has=page.get_by_role("heading", name="Chip"))
    expect(chip.locator("dt:has-text('Password') + dd")).to_have_text("set")

    files = [path for path in with_password.cli.home.rglob("*") if path.is_file()]
    kept = [
        path
        for path in files
        if path.suffix in (".log", ".json", ".jsonl", ".toml")
        and any(secret.encode() in path.read_bytes() for secret in (DISK_PASSWORD, WRONG_PASSWORD))
    ]
    assert kept == []
    log = with_password.cli.paths.console_log
    assert log in files, "the control: what the console logs was among what was searched"


def redrawn(page: Page, before: int) -> int:
    """Wait until another picture than the one of `before` bright pixels stands still."""
    deadline = time.monotonic() + PROMPT_SECONDS
    last, since = before, time.monotonic()
    while True:
        now = bright_pixels(page)
        if abs(now - last) > CURSOR_PIXELS:
            last, since = now, time.monotonic()
        if abs(last - before) > CURSOR_PIXELS and time.monotonic() - since > STILL_SECONDS:
            return last
        assert time.monotonic() < deadline, "the screen does not change"
        page.wait_for_timeout(200)


def test_recovery_is_started_and_worked_with_on_the_page(
    with_password: Running, address: str, open_page: OpenPage
):
    """Its menu on the machine's screen changes what the panel beside it then shows."""
    page = open_page(address, color_scheme="dark")
    page.get_by_role("button", name="Security").click()
    panel = page.locator("#security-panel")
    expect(panel.locator(".summary")).to_contain_text("no external boot")
    page.get_by_role("button", name="Start recovery").click()
    expect(page.locator("#state")).to_have_text("Recovery", timeout=BOOT_MILLISECONDS)
    lit = page.locator('#links li[data-phase="lit"]')
    assert lit.evaluate_all("all => all.map(each => each.dataset.link)") == list(chain("recovery"))
    page.keyboard.press("Escape")

    expect(page.locator("#tools")).to_be_visible()
    shown = redrawn(page, 0)
    page.locator("#screen canvas").click()
    page.keyboard.press("Enter")
    shown = redrawn(page, shown)
    type_text(page, f"{DISK_PASSWORD}\n")
    shown = redrawn(page, shown)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    redrawn(page, shown)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.press("Control+Alt+Shift")
    page.get_by_role("button", name="Security").click()
    expect(panel.locator(".summary")).to_contain_text("external boot allowed", timeout=30_000)
    if (picture := artifact("console-recovery.png")) is not None:
        page.screenshot(path=picture)

    cli, name = with_password.cli, with_password.name
    words = ("security", "set", name, "--external-boot", "deny", "--password-file", "-")
    cli(*words, stdin=DISK_PASSWORD.encode())
    expect(panel.locator(".summary")).to_contain_text("no external boot", timeout=30_000)
