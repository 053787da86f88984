"""Guards: the page shows each state truly and live, and is usable by keyboard alone.

The workstations are made up; the browser, the console, and the screen's QEMU are real.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from spacegray.errors import SpacegrayError
from spacegray.links import LINKS
from tests.browser.conftest import OpenPage, wait_for
from tests.support.console import FakeMachine, FakeMachines, Serving, qemu_screen
from tests.support.keyboard import type_text

CURSOR_PIXELS = 9 * 16
"""What a blinking cursor adds and takes away, at most."""


@pytest.fixture
def running(pro: FakeMachine, tmp_path: Path) -> Iterator[FakeMachine]:
    """With the screen of a real QEMU that waits for a key."""
    with qemu_screen(tmp_path) as screen:
        pro.power_on()
        pro.light(*LINKS)
        pro.screen = screen
        yield pro


def link(page: Page, name: str, phase: str) -> None:
    expect(page.locator(f'#links [data-link="{name}"]')).to_have_attribute("data-phase", phase)


def bright_pixels(page: Page) -> int:
    """How much is written on the machine's screen."""
    count: int = page.evaluate(
        """() => {
          const canvas = document.querySelector('#screen canvas');
          if (!canvas || canvas.width === 0) return 0;
          const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
          return pixels.data.filter((value, index) => index % 4 === 1 && value > 80).length;
        }"""
    )
    return count


def blank(page: Page) -> bool:
    return bright_pixels(page) == 0


def test_off_and_power_on_by_keyboard_alone(page: Page, pro: FakeMachine):
    expect(page.locator("#state")).to_have_text("Off")
    button = page.get_by_role("group", name="Power").get_by_role("button", name="Power on")
    for _ in range(6):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    wait_for(lambda: pro.acts == ["start"], page)
    expect(page.locator("#state")).to_have_text("Starting")


def test_links_light_up_live_and_in_order(page: Page, pro: FakeMachine):
    page.locator(".power-on").click()
    for index, name in enumerate(LINKS):
        link(page, name, "awaited")
        for later in LINKS[index + 1 :]:
            link(page, later, "dark")
        pro.light(name, seconds=index + 0.5)
        link(page, name, "lit")
    expect(page.locator("#state")).to_have_text("Running")
    expect(page.locator('[data-link="login"] .seconds')).to_have_text("7.5 s")
    expect(page.locator("#clock")).to_have_text("in 7.5 s")


def test_a_broken_link_is_named_with_what_was_expected_and_found(page: Page, pro: FakeMachine):
    pro.power_on()
    pro.light("chip")
    pro.fail("firmware", "expected SHA-256 0123, found 4567")
    told = page.locator(".failed")
    expect(told).to_contain_text("The firmware link broke")
    expect(told.locator("dd")).to_contain_text(["SHA-256 0123", "4567", "Put the original"])
    link(page, "chip", "past")
    link(page, "firmware", "broken")
    link(page, "disk", "dark")


def test_a_start_that_is_refused_says_why(page: Page, pro: FakeMachine):
    pro.refusal = SpacegrayError("starting pro", "the disk is in use", "end that program")
    page.locator(".power-on").click()
    expect(page.locator(".failed")).to_contain_text("The disk is in use.")
    expect(page.locator(".failed .next")).to_have_text("End that program.")


def test_text_from_a_guest_stays_text(page: Page, pro: FakeMachine):
    pro.power_on()
    pro.fail("kernel", "<img src=x onerror=alert(1)>")
    expect(page.locator(".failed")).to_contain_text("<img src=x")
    assert page.locator(".failed img").count() == 0


def test_the_screen_is_seen_and_takes_keys(page: Page, running: FakeMachine):
    expect(page.locator("#tools")).to_be_visible()
    wait_for(lambda: not blank(page), page)
    expect(page.locator("#hint")).to_have_text("Click the screen to type")
    page.locator("#screen canvas").click()
    expect(page.locator("#hint")).to_contain_text("Keyboard goes to the machine")
    wait_for(lambda: settled(page), page)
    before = bright_pixels(page)
    page.keyboard.press("Escape")
    # The menu of boot devices is written below.
    wait_for(lambda: bright_pixels(page) > before + CURSOR_PIXELS, page)


def settled(page: Page) -> bool:
    """Whether the firmware has written all it has to say and waits for a key."""
    shown = bright_pixels(page)
    page.wait_for_timeout(1500)
    return shown > 0 and abs(bright_pixels(page) - shown) <= CURSOR_PIXELS


def test_the_keyboard_comes_back(page: Page, running: FakeMachine):
    canvas = page.locator("#screen canvas")
    # The hint comes with the picture; before that there is nothing to type into.
    expect(page.locator("#hint")).to_have_text("Click the screen to type")
    canvas.focus()
    expect(page.locator("#hint")).to_contain_text("Ctrl + Alt + Shift")
    page.keyboard.press("Control+Alt+Shift")
    expect(page.locator("#hint")).to_have_text("Click the screen to type")
    expect(page.locator("#fullscreen")).to_be_focused()


@pytest.mark.parametrize("ratio", [1, 2])
@pytest.mark.parametrize("width", [800, 1440, 2560])
def test_the_screen_fits_the_glass(
    serving: Serving, open_page: OpenPage, running: FakeMachine, ratio: int, width: int
):
    size = {"width": width, "height": width * 10 // 16}
    page = open_page(serving.address("pro"), viewport=size, device_scale_factor=ratio)
    wait_for(lambda: not blank(page), page)
    glass = page.locator("#glass").bounding_box()
    canvas = page.locator("#screen canvas").bounding_box()
    assert glass is not None
    assert canvas is not None
    assert glass["x"] - 1 <= canvas["x"]
    assert glass["y"] - 1 <= canvas["y"]
    fill = max(canvas["width"] / glass["width"], canvas["height"] / glass["height"])
    assert 0.98 <= fill <= 1.01
    assert abs(glass["width"] / glass["height"] - 16 / 9) < 0.02
    overflow = "document.documentElement.scrollWidth > innerWidth"
    assert not page.evaluate(overflow), "the page is wider than its window"


def test_the_screen_comes_back_after_it_dropped(page: Page, running: FakeMachine, tmp_path: Path):
    expect(page.locator("#tools")).to_be_visible()
    running.screen = None
    page.evaluate("document.querySelector('#screen canvas').dataset.old = 'yes'")
    running.power_on()
    expect(page.locator("#tools")).to_be_hidden()
    other = tmp_path / "other"
    other.mkdir()
    with qemu_screen(other) as screen:
        running.screen = screen
        running.light(*LINKS)
        expect(page.locator("#tools")).to_be_visible()
        wait_for(lambda: not blank(page), page)


def test_shutting_down_asks_first(page: Page, pro: FakeMachine):
    pro.state = "running"
    page.get_by_role("button", name="Shut down").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Restart").click()
    page.keyboard.press("Escape")
    assert pro.acts == []
    page.get_by_role("button", name="Shut down").click()
    page.get_by_role("dialog").get_by_role("button", name="Shut down").click()
    wait_for(lambda: pro.acts == ["stop"], page)


def test_several_workstations_are_chosen_from(page: Page, machines: FakeMachines):
    machines["lab"].state = "failed"
    machines["lab"].reason = "its supervisor was killed"
    page.get_by_role("navigation").get_by_role("link", name="lab").click()
    expect(page.locator(".failed")).to_contain_text("Its supervisor was killed.")
    expect(page).to_have_title("lab · Spacegray")
    page.go_back()
    expect(page.locator("#state")).to_have_text("Off")


def test_the_details_are_those_of_show(page: Page, pro: FakeMachine):
    page.get_by_role("button", name="Details").click()
    panel = page.locator("#panel")
    for text in ("0x8d1f5a0b77c3e241", "TCG", "/dev/kvm opens", "verity", "8 cores", "3.52 GB"):
        expect(panel).to_contain_text(text)
    expect(panel).to_contain_text("not known while it is off")
    pro.tell("note", text="one processor under emulation")
    expect(panel).to_contain_text("one processor under emulation")
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(page.get_by_role("button", name="Details")).to_be_focused()


def test_a_console_that_is_gone_is_said_and_one_that_is_back_is_found(
    machines: FakeMachines, open_page: OpenPage
):
    serving = Serving(machines)
    page = open_page(serving.address("pro"), tolerate_loss=True)
    expect(page.locator("#state")).to_have_text("Off")
    serving.close()
    expect(page.locator("#banner")).to_contain_text("The console is gone")
    expect(page.locator("#state")).to_have_text("Not connected")
    expect(page.locator(".power button").first).to_be_hidden()
    machines["pro"].power_on()
    back = Serving(machines, port=serving.port, doors=serving.doors)
    try:
        expect(page.locator("#state")).to_have_text("Starting")
        expect(page.locator("#banner")).to_be_hidden()
    finally:
        back.close()


def test_a_new_console_needs_a_new_address(machines: FakeMachines, open_page: OpenPage):
    serving = Serving(machines)
    page = open_page(serving.address("pro"), tolerate_loss=True)
    expect(page.locator("#state")).to_have_text("Off")
    serving.close()
    other = Serving(machines, port=serving.port)
    try:
        expect(page.locator("#banner")).to_contain_text("This session is over")
    finally:
        other.close()


def test_no_workstation_at_all(tmp_path: Path, open_page: OpenPage):
    serving = Serving(FakeMachines(tmp_path))
    try:
        page = open_page(serving.address())
        expect(page.locator("#banner")).to_contain_text("spacegray up")
    finally:
        serving.close()


def test_nothing_moves_for_those_who_asked_for_that(
    serving: Serving, pro: FakeMachine, open_page: OpenPage
):
    pro.power_on()
    moving = "document.getAnimations().length"
    still = open_page(serving.address("pro"), reduced_motion="reduce")
    link(still, "chip", "awaited")
    assert still.evaluate(moving) == 0
    lively = open_page(serving.address("pro"))
    link(lively, "chip", "awaited")
    assert lively.evaluate(moving) > 0, "the control: otherwise it does move"


def test_typing_helper_knows_every_printable_key(page: Page):
    """The control for the tests that type a password: what is typed is what arrives."""
    page.evaluate("document.body.append(Object.assign(document.createElement('input'), {id: 'x'}))")
    page.locator("#x").focus()
    text = "".join(map(chr, range(32, 127)))
    type_text(page, text, delay_milliseconds=0)
    expect(page.locator("#x")).to_have_value(text)
