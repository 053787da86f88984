"""Guards: the page shows startup security truly, and leads into recovery and through it.

What each setting is and means; the chain of every kind of start; the failed link with its advice;
recovery on the screen. The workstations are made up; the browser, the console, and the screen's
QEMU are real.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from spacegray.boot import policies
from spacegray.errors import SpacegrayError
from spacegray.links import TARGETS, Target, chain
from tests.browser.conftest import OpenPage, artifact, wait_for
from tests.support.console import FakeMachine, Serving, qemu_screen
from tests.support.keyboard import type_text

FIRMWARE_PASSWORD = "Only the owner, 3"
CONTRAST = """() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const over = (top, under) => {
    const alpha = top[3] ?? 1;
    return [0, 1, 2].map((index) => top[index] * alpha + under[index] * (1 - alpha));
  };
  const ground = (element) => {
    if (element === null) return [255, 255, 255];
    return over(channels(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  };
  return [...document.querySelectorAll('.side:not([hidden]) :is(h2, h3, p, strong, span, code)')]
    .filter((element) => element.textContent.trim() && !element.closest('button'))
    .map((element) => {
      const under = ground(element);
      const ink = over(channels(getComputedStyle(element).color), under);
      const [high, low] = [light(ink), light(under)].sort((a, b) => b - a);
      return [element.textContent, (high + 0.05) / (low + 0.05)];
    });
}"""
"""How well each text of the open panel stands out from what is under it (WCAG 2.2, 1.4.3)."""
LEAST_CONTRAST = 4.5


@pytest.fixture
def recovery(pro: FakeMachine, tmp_path: Path) -> Iterator[FakeMachine]:
    """In recovery, with the screen of a real QEMU that waits for a key."""
    with qemu_screen(tmp_path) as screen:
        pro.power_on("recovery")
        pro.screen = screen
        pro.light(*chain("recovery"))
        yield pro


def panel(page: Page) -> Locator:
    """The panel of startup security, opened."""
    page.get_by_role("button", name="Security").click()
    shown = page.locator("#security-panel")
    expect(shown.locator(".summary")).to_be_visible()
    return shown


def section(shown: Locator, title: str) -> Locator:
    return shown.locator("section").filter(
        has=shown.page.get_by_role("heading", name=title, exact=True)
    )


def holding(shown: Locator) -> list[str]:
    """What holds of each setting, by its title."""
    titles: list[str] = shown.locator("[aria-current] strong").evaluate_all(
        "all => all.map(each => each.firstChild.textContent)"
    )
    return titles


def picture(page: Page, name: str) -> None:
    if (path := artifact(f"{name}.png")) is not None:
        page.screenshot(path=path)


def test_every_setting_is_shown_with_what_it_means(page: Page):
    shown = panel(page)
    assert holding(shown) == ["Full Security", "Not allowed", "Not allowed", "None"]
    expect(shown.locator(".summary")).to_have_text(
        "Full Security, no external boot, no firmware password."
    )
    for words in (
        *policies.POLICIES.values(),
        *policies.EXTERNAL_BOOT.values(),
        *policies.OTHER_SYSTEMS.values(),
        *policies.FIRMWARE_PASSWORD.values(),
    ):
        expect(shown).to_contain_text(words)
    expect(shown).to_contain_text("system of 2025-12-01 come up")
    expect(shown.locator("code")).to_have_text("spacegray security set pro --policy medium")
    picture(page, "security-full")


def test_other_settings_show_as_they_are(page: Page, pro: FakeMachine):
    pro.security |= {"policy": "medium", "external_boot": "allow", "firmware_password": True}
    shown = panel(page)
    assert holding(shown) == ["Medium Security", "Allowed", "Not allowed", "Set"]
    expect(shown.locator(".summary")).to_have_attribute("data-policy", "medium")


def test_what_is_not_known_is_not_guessed(page: Page, pro: FakeMachine):
    pro.security = dict.fromkeys(pro.security)
    shown = panel(page)
    assert holding(shown) == []
    expect(section(shown, "External boot")).to_contain_text("was not asked yet")
    expect(shown.locator("code")).to_have_count(0)


def test_recovery_is_started_from_the_panel_by_keyboard_alone(page: Page, pro: FakeMachine):
    expect(page.locator("#state")).to_have_text("Off")
    button = page.get_by_role("button", name="Security")
    button.focus()
    page.keyboard.press("Enter")
    start = page.get_by_role("button", name="Start recovery")
    expect(page.locator("#security-panel .summary")).to_be_visible()
    for _ in range(4):
        page.keyboard.press("Tab")
        if start.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    wait_for(lambda: pro.acts == ["recovery"], page)
    expect(page.locator("#state")).to_have_text("Starting")
    expect(start).to_be_disabled()
    expect(start).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#security-panel")).to_be_hidden()
    expect(page.locator("#target")).to_have_text("recovery")


def test_one_panel_at_a_time(page: Page):
    panel(page)
    page.get_by_role("button", name="Details").click()
    expect(page.locator("#panel")).to_be_visible()
    expect(page.locator("#security-panel")).to_be_hidden()
    expect(page.get_by_role("button", name="Security")).to_have_attribute("aria-expanded", "false")


def test_a_running_machine_is_not_taken_away_for_recovery(page: Page, pro: FakeMachine):
    pro.power_on()
    pro.light(*chain())
    shown = panel(page)
    expect(shown.get_by_role("button", name="Start recovery")).to_be_disabled()
    expect(shown.locator(".when")).to_have_text(
        "Shut the machine down first: recovery starts in its place."
    )


@pytest.mark.parametrize("target", TARGETS)
def test_each_start_has_its_own_chain(page: Page, pro: FakeMachine, target: Target):
    pro.power_on(target)
    names = page.locator("#links li")
    expect(names).to_have_count(len(chain(target)))
    for link in chain(target):
        awaited = page.locator(f'#links [data-link="{link}"]')
        expect(awaited).to_have_attribute("data-phase", "awaited")
        pro.light(link)
        expect(awaited).to_have_attribute("data-phase", "lit")
    expect(page.locator("#state")).to_have_text("Recovery" if target == "recovery" else "Running")
    assert names.evaluate_all("all => all.map(each => each.dataset.link)") == list(chain(target))


def test_a_refused_kernel_is_told_and_leads_to_recovery(page: Page, pro: FakeMachine):
    pro.power_on()
    pro.light("chip", "firmware", "disk", "machine")
    expected, found = "9c41" * 16, "e07d" * 16
    pro.fail("kernel", f"expected SHA-256 {expected}, found {found}")
    pro.reason += "; start `recovery pro` and reinstall, or `restore pro`"
    failed = page.locator(".failed")
    expect(failed).to_contain_text("The kernel link broke")
    expect(failed.locator("dd")).to_contain_text([expected, found, "Start spacegray recovery pro"])
    expect(failed.locator("code")).to_have_text(["spacegray recovery pro", "spacegray restore pro"])
    picture(page, "security-refused")
    failed.get_by_role("button", name="Start recovery").click()
    wait_for(lambda: pro.acts == ["recovery"], page)
    expect(page.locator("#links li")).to_have_count(len(chain("recovery")))


def test_a_broken_chip_offers_no_recovery(page: Page, pro: FakeMachine):
    pro.power_on()
    pro.fail("chip", "the vault did not open")
    expect(page.locator(".failed")).to_contain_text("The chip link broke")
    expect(page.locator(".failed .recover")).to_have_count(0)


def test_recovery_that_is_refused_says_why(page: Page, pro: FakeMachine):
    pro.refusal = SpacegrayError(
        "starting recovery of pro", "its medium was changed", "`reinstall`"
    )
    panel(page).get_by_role("button", name="Start recovery").click()
    expect(page.locator(".failed")).to_contain_text("Its medium was changed.")
    expect(page.locator(".failed code")).to_have_text("spacegray reinstall pro")


def test_a_firmware_password_is_asked_for(page: Page, pro: FakeMachine):
    pro.lock("firmware_password", firmware_password=FIRMWARE_PASSWORD)
    pro.target = "recovery"
    field = page.get_by_label("Firmware password", exact=True)
    expect(field).to_be_focused()
    expect(page.locator("#now")).to_have_text("Waiting for: the firmware password")
    form = page.get_by_role("form")
    expect(form).to_contain_text("before anything but the chosen startup disk")
    expect(form).not_to_contain_text("recovery key")
    picture(page, "security-firmware-password")
    type_text(page, "not this\n", delay_milliseconds=0)
    expect(page.locator(".unlock [role=alert]")).to_have_text(
        "This is not the firmware password. 9 tries are left."
    )
    type_text(page, f"{FIRMWARE_PASSWORD}\n", delay_milliseconds=0)
    expect(page.locator("#state")).to_have_text("Starting")
    assert pro.heard[-1] == ("firmware_password", "normal", FIRMWARE_PASSWORD.encode())
    pro.lock("firmware_password", firmware_password=FIRMWARE_PASSWORD)
    pro.failures["firmware_password"] = 10
    failed = page.locator(".failed")
    expect(failed).to_contain_text("Only its own system starts now")
    expect(failed.locator("code").first).to_have_text("spacegray stop pro")


def test_recovery_is_on_the_screen_and_takes_keys(page: Page, recovery: FakeMachine):
    expect(page.locator("#state")).to_have_text("Recovery")
    expect(page.locator("#now")).to_have_text("Every link holds; recovery is on the screen.")
    expect(page.locator("#tools")).to_be_visible()
    page.locator("#screen canvas").click()
    expect(page.locator("#hint")).to_contain_text("Keyboard goes to the machine")
    picture(page, "security-recovery")
    shown = panel(page)
    expect(shown.locator(".when")).to_contain_text("its menu has Startup Security")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Restart").click()
    expect(page.get_by_role("dialog")).to_contain_text("Recovery ends")
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    wait_for(lambda: recovery.acts == ["restart"], page)


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (800, 500), (1440, 900)])
def test_the_panel_is_readable_by_day_and_night_narrow_and_wide(
    serving: Serving, open_page: OpenPage, pro: FakeMachine, scheme: str, width: int, height: int
):
    pro.power_on()
    pro.light("chip", "firmware", "disk", "machine", "kernel")
    size = {"width": width, "height": height}
    page = open_page(serving.address("pro"), viewport=size, color_scheme=scheme)
    expect(page.locator('#links [data-link="kernel"]')).to_have_attribute("data-phase", "lit")
    picture(page, f"page-{scheme}-{width}")
    shown = panel(page)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
    content = shown.locator(".content")
    assert not content.evaluate("each => each.scrollWidth > each.clientWidth"), "nothing is cut off"
    last = shown.get_by_role("button", name="Start recovery")
    picture(page, f"security-{scheme}-{width}")
    last.scroll_into_view_if_needed()
    expect(last).to_be_in_viewport(ratio=1)
    faint = [each for each in page.evaluate(CONTRAST) if each[1] < LEAST_CONTRAST]
    assert faint == [], json.dumps(faint)
