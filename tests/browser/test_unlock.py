"""Guards: the page asks for what a locked machine's chip waits for, and says all there is to say.

What is asked and why, how many tries are left, how long to wait, what comes after the last, and
the other way in. All of it by keyboard alone, and heard as well as seen. The chip is made up; the
browser and the console are real.
"""

import threading
import time

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import OpenPage, artifact, wait_for
from tests.support.console import FREE_TRIES, TRIES, FakeMachine, FakeMachines, Serving
from tests.support.keyboard import type_text

PASSWORD = "Correct horse, 7"
KEY = "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV"


@pytest.fixture
def locked(pro: FakeMachine) -> FakeMachine:
    """It waits for its password, and has a recovery key."""
    pro.lock("password", password=PASSWORD, recovery_key=KEY)
    return pro


@pytest.fixture
def field(locked: FakeMachine, page: Page) -> Locator:
    """Where the password is typed; it has the focus, since nobody is to look for it."""
    field = page.get_by_label("Password", exact=True)
    expect(field).to_be_focused()
    return field


def picture(page: Page, name: str) -> None:
    if (path := artifact(f"{name}.png")) is not None:
        page.screenshot(path=path)


def told(page: Page) -> Locator:
    """What came of the last try."""
    return page.locator(".unlock [role=alert]")


def give(page: Page, text: str) -> None:
    type_text(page, f"{text}\n", delay_milliseconds=0)


def test_a_start_that_needs_a_password_asks_for_it_and_goes_on(page: Page, pro: FakeMachine):
    page.locator(".power-on").click()
    expect(page.locator("#state")).to_have_text("Starting")
    pro.lock("password", password=PASSWORD, recovery_key=KEY)
    expect(page.locator("#state")).to_have_text("Locked")
    expect(page.get_by_role("form", name="pro is locked")).to_be_visible()
    expect(page.locator("#now")).to_have_text("Waiting for: the password")
    expect(page.locator('#links [data-link="chip"]')).to_have_attribute("data-phase", "awaited")
    picture(page, "unlock-locked")
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    give(page, PASSWORD)
    expect(page.locator("#state")).to_have_text("Starting")
    expect(page.locator(".unlock")).to_have_count(0)
    assert pro.heard == [("password", "normal", PASSWORD.encode())]
    pro.light("chip")
    expect(page.locator('#links [data-link="chip"]')).to_have_attribute("data-phase", "lit")


def test_it_says_what_is_asked_why_how_often_and_what_then(page: Page, field: Locator):
    expect(field).to_have_attribute("type", "password")
    expect(field).to_have_attribute("autocomplete", "current-password")
    form = page.get_by_role("form")
    for text in (
        "neither of them opens the disk alone",
        "10 tries left",
        "10 in recovery mode and 10 with the recovery key",
        "It switches itself off at",
    ):
        expect(form).to_contain_text(text)
    described = field.evaluate(
        "field => field.getAttribute('aria-describedby').split(' ')"
        ".map(id => document.getElementById(id).textContent).join(' ')"
    )
    assert "10 tries left" in described
    assert "opens the disk" in described


def test_a_wrong_one_is_said_and_the_field_is_ready_for_the_next(
    page: Page, field: Locator, locked: FakeMachine
):
    give(page, "wrong one")
    expect(told(page)).to_have_text("This is not the password. 9 tries are left.")
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    expect(page.get_by_role("form")).to_contain_text("9 of 10 tries left")
    picture(page, "unlock-wrong")
    give(page, PASSWORD)
    expect(page.locator("#state")).to_have_text("Starting")


def test_nothing_can_be_given_while_one_is_looked_at(
    page: Page, field: Locator, locked: FakeMachine
):
    locked.looking = threading.Event()
    give(page, PASSWORD)
    expect(field).to_be_disabled()
    expect(field).to_have_value("")
    expect(page.get_by_role("button", name="Checking")).to_be_disabled()
    page.keyboard.press("Enter")
    locked.looking.set()
    expect(page.locator("#state")).to_have_text("Starting")
    assert len(locked.heard) == 1


def test_a_wait_is_counted_down_and_then_the_next_is_taken(
    page: Page, field: Locator, locked: FakeMachine
):
    locked.failures["password"] = FREE_TRIES - 1
    give(page, "wrong one")
    expect(told(page)).to_contain_text("7 tries are left. The next one is looked at in 1 minute.")
    timer = page.get_by_role("timer")
    expect(timer).to_contain_text("Next try in 0:5")
    expect(page.get_by_role("button", name="Unlock")).to_be_disabled()
    expect(field).not_to_be_editable()
    expect(field).to_be_focused()
    picture(page, "unlock-waiting")
    give(page, PASSWORD)
    assert len(locked.heard) == 1, "nothing is sent that would not be looked at"
    # The wait is nearly over.
    assert locked.attempts_at is not None
    locked.attempts_at = time.time() - 58
    expect(timer).to_be_hidden()
    expect(told(page)).to_have_text("The next one is looked at now.")
    locked.failures["password"] = 0
    give(page, PASSWORD)
    expect(page.locator("#state")).to_have_text("Starting")


def test_a_page_that_is_opened_in_a_wait_knows_of_it(
    serving: Serving, locked: FakeMachine, open_page: OpenPage
):
    locked.failures["password"] = 7
    locked.attempts_at = time.time() - 100
    page = open_page(serving.address("pro"))
    expect(page.get_by_role("timer")).to_contain_text("Next try in 2:58:1")
    expect(page.get_by_role("form")).to_contain_text("the wait goes on without it")


def test_the_recovery_key_is_another_way_in(page: Page, field: Locator, locked: FakeMachine):
    # A wait of the password's is none of the recovery key's.
    locked.failures["password"] = 5
    expect(page.get_by_role("timer")).to_be_visible()
    other = page.get_by_role("button", name="Use the recovery key instead")
    for _ in range(3):
        page.keyboard.press("Tab")
        if other.evaluate("button => button === document.activeElement"):
            break
    page.keyboard.press("Enter")
    key = page.get_by_label("Recovery key", exact=True)
    expect(key).to_be_focused()
    expect(key).to_have_attribute("autocomplete", "off")
    expect(page.get_by_role("timer")).to_be_hidden()
    type_text(page, KEY[:14], delay_milliseconds=0)
    expect(page.locator("#unlock-count")).to_have_text("12 of 28")
    page.keyboard.press("Enter")
    expect(told(page)).to_contain_text("has 28 characters, and this has 12")
    assert locked.heard == []
    page.get_by_role("button", name="Show").click()
    expect(key).to_have_attribute("type", "text")
    picture(page, "unlock-recovery-key")
    give(page, KEY[14:])
    expect(page.locator("#state")).to_have_text("Starting")
    assert locked.heard == [("recovery_key", "normal", KEY.encode())]


def test_where_no_recovery_key_was_made_none_is_offered(page: Page, pro: FakeMachine):
    pro.lock("password", password=PASSWORD)
    form = page.get_by_role("form")
    expect(form).to_contain_text("10 tries left")
    expect(form).not_to_contain_text("recovery key")
    expect(form).to_contain_text("10 in recovery mode.")


def test_a_passphrase_then_a_password(page: Page, pro: FakeMachine):
    pro.lock("passphrase", "password", passphrase="long words", password=PASSWORD)
    expect(page.get_by_label("Passphrase")).to_be_focused()
    expect(page.get_by_role("form")).to_contain_text("sealed with a passphrase")
    give(page, "other words")
    expect(told(page)).to_have_text("This is not the passphrase.")
    give(page, "long words")
    expect(told(page)).to_have_text("That is right. Now the password.")
    expect(page.get_by_label("Password", exact=True)).to_be_focused()
    give(page, PASSWORD)
    expect(page.locator("#state")).to_have_text("Starting")
    assert [kind for kind, _, _ in pro.heard] == ["passphrase", "passphrase", "password"]


def test_after_the_last_try_recovery_mode_then_the_key_then_nothing(
    page: Page, field: Locator, locked: FakeMachine
):
    locked.failures["password"] = TRIES - 1
    expect(page.get_by_role("timer")).to_be_visible()
    locked.failures["password"] = TRIES
    expect(page.get_by_label("Password, in recovery mode")).to_be_focused()
    give(page, "wrong one")
    expect(told(page)).to_contain_text("9 tries are left")
    assert locked.heard[-1][:2] == ("password", "recovery")
    locked.failures["recovery"] = TRIES
    expect(page.get_by_label("Recovery key", exact=True)).to_be_visible()
    locked.failures["recovery_key"] = TRIES
    expect(page.locator(".failed")).to_contain_text("Locked out")
    expect(page.locator(".failed code")).to_have_text(
        ["spacegray restore pro", "spacegray erase pro"]
    )
    expect(page.locator(".unlock")).to_have_count(0)


def test_it_can_be_switched_off_without_being_asked_twice(
    page: Page, field: Locator, locked: FakeMachine
):
    page.get_by_role("button", name="Shut down").click()
    wait_for(lambda: locked.acts == ["stop"], page)


def test_nothing_typed_goes_to_another_machine(
    page: Page, field: Locator, machines: FakeMachines, locked: FakeMachine
):
    machines["lab"].lock("password", password="its own")
    type_text(page, "half a pass", delay_milliseconds=0)
    page.get_by_role("navigation").get_by_role("link", name="lab").click()
    expect(page.get_by_role("form", name="lab is locked")).to_be_visible()
    expect(field).to_have_value("")
    field.click()
    give(page, "its own")
    expect(page.locator("#state")).to_have_text("Starting")
    assert locked.heard == []
    assert machines["lab"].heard == [("password", "normal", b"its own")]


def test_what_was_typed_stays_nowhere_in_the_page(page: Page, field: Locator, locked: FakeMachine):
    give(page, "Tr0ubador")
    expect(told(page)).to_contain_text("not the password")
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href,"
        " history.state, document.documentElement.outerHTML,"
        " [...document.querySelectorAll('input')].map(field => field.value)])"
    )
    assert "Tr0ubador" not in kept
    assert "pro" in kept


def test_a_disk_older_than_remembered_is_told_with_the_command(page: Page, pro: FakeMachine):
    pro.power_on()
    pro.fail("disk", "the modules are older than the chip remembers")
    pro.reason += "; put the newest back; or, if you want this backup, `ssd accept pro` takes it"
    failed = page.locator(".failed")
    expect(failed).to_contain_text("older than the chip remembers")
    expect(failed.locator("code")).to_have_text("spacegray ssd accept pro")


def test_an_erased_one_says_so_and_how_to_go_on(
    serving: Serving, pro: FakeMachine, open_page: OpenPage
):
    pro.life = "erased"
    page = open_page(serving.address("pro"))
    failed = page.locator(".failed")
    expect(failed).to_contain_text("Every key to its disk was destroyed")
    expect(failed.locator("code")).to_have_text(
        ["spacegray restore pro", "spacegray import pro FILE"]
    )
    pro.life = "in use"
    expect(page.locator(".power-on")).to_be_visible()


def test_the_details_tell_the_chips_facts(page: Page, pro: FakeMachine):
    page.get_by_role("button", name="Details").click()
    chip = page.locator("#panel section").filter(has=page.get_by_role("heading", name="Chip"))
    for text in ("In use (life 2)", "TPM", "set", "loses all", "1, authorised"):
        expect(chip).to_contain_text(text)


@pytest.mark.parametrize(("width", "height"), [(390, 844), (800, 500), (1440, 900)])
def test_all_of_the_form_can_be_reached(
    serving: Serving, locked: FakeMachine, open_page: OpenPage, width: int, height: int
):
    page = open_page(serving.address("pro"), viewport={"width": width, "height": height})
    for part in (page.locator("#secret"), page.get_by_role("button", name="recovery key")):
        part.scroll_into_view_if_needed()
        expect(part).to_be_in_viewport(ratio=1)
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")
