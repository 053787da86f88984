"""Guards: an order of any day is put together, priced and taken away; what was not sold is refused.

The workstations are made up; the browser, the console and the catalogue are real.
"""

import re
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from spacegray import spec
from spacegray.catalog import order
from spacegray.catalog.order import Wish
from tests.browser.conftest import OpenPage, artifact
from tests.support.console import Serving

PAGES = ("/order", "/service", "/timeline")


@pytest.fixture
def ordering(serving: Serving, open_page: OpenPage) -> Page:
    return opened(serving, open_page, permissions=["clipboard-read", "clipboard-write"])


@pytest.fixture
def refusing(serving: Serving, open_page: OpenPage) -> Page:
    """Where a refusal is expected; the browser itself notes those down as errors."""
    return opened(serving, open_page, tolerate_loss=True)


def opened(serving: Serving, open_page: OpenPage, **options: object) -> Page:
    page = open_page(serving.address(), **options)
    page.get_by_role("link", name="Order").click()
    expect(page.locator("#quote")).to_contain_text("Total")
    return page


def option(page: Page, name: str) -> Locator:
    return page.get_by_role("radio", name=name)


def card(page: Page, name: str) -> Locator:
    return page.locator("#options label").filter(has=option(page, name))


def dollars(amount: int) -> str:
    return f"${amount:,}"


def total(page: Page, amount: int) -> None:
    expect(page.locator("#quote .total td")).to_have_text(dollars(amount))


def test_the_base_of_each_day_and_what_is_not_sold_on_it(ordering: Page):
    expect(option(ordering, ", 8 cores")).to_be_checked()
    total(ordering, 4999)
    expect(option(ordering, "256 GB")).to_be_disabled()
    expect(card(ordering, "256 GB")).to_contain_text("Sold 19 Mar 2019 to 4 Mar 2021")

    ordering.get_by_role("button", name="19 Mar 2019").click()
    expect(option(ordering, "256 GB")).to_be_enabled()
    expect(option(ordering, "Vega 64X")).to_be_enabled()
    expect(card(ordering, "Vega 64X")).not_to_contain_text("Sold")

    ordering.get_by_role("button", name="4 Aug 2020").click()
    expect(option(ordering, "10 cores")).to_be_checked()
    expect(option(ordering, ", 8 cores")).to_be_disabled()
    total(ordering, 4999)

    ordering.get_by_role("button", name="5 Mar 2021").click()
    expect(option(ordering, "64 GB")).to_be_disabled()
    button = ordering.get_by_role("button", name="5 Mar 2021")
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(ordering.get_by_label("Date", exact=True)).to_have_value("2021-03-05")


def test_what_is_not_confirmed_is_marked_and_counted_in_the_total(ordering: Page):
    expect(ordering.locator("#quote")).to_contain_text("Every price in it is sourced.")
    option(ordering, "18 cores").check()
    option(ordering, "128 GB").check()
    wanted = order.quote(Wish(cores=18, memory_gb=128), date(2017, 12, 14))
    assert 0 < wanted.unconfirmed_usd < wanted.total_usd
    total(ordering, wanted.total_usd)
    row = ordering.locator("#quote tr").filter(has_text="18 cores")
    expect(row.locator("td").last).to_contain_text("unconfirmed")
    row = ordering.locator("#quote tr").filter(has_text="128 GB")
    expect(row.locator("td").last).to_have_text("$2,400")
    said = ordering.locator("#quote .unsure")
    expect(said).to_contain_text(dollars(wanted.unconfirmed_usd))
    expect(said).to_contain_text(f"{wanted.unconfirmed_share:.0%}".replace("%", " %"))
    heard = ordering.get_by_role("status").filter(has_text="Total")
    expect(heard).to_contain_text(f"Total {dollars(wanted.total_usd)}. ")
    expect(heard).to_contain_text(f"{dollars(wanted.unconfirmed_usd)} of it")
    expect(card(ordering, "18 cores").locator(".mark")).to_have_text("unconfirmed")
    if (picture := artifact("order.png")) is not None:
        ordering.set_viewport_size({"width": 1440, "height": 1400})
        ordering.screenshot(path=picture)


def test_what_was_chosen_and_is_not_sold_on_another_day_is_refused_with_the_dates(refusing: Page):
    refusing.get_by_role("button", name="19 Mar 2019").click()
    expect(option(refusing, "256 GB")).to_be_enabled()
    option(refusing, "256 GB").check()
    refusing.get_by_role("button", name="14 Dec 2017").click()
    refused = refusing.locator("#refused")
    expect(refused).to_contain_text("from 2019-03-19 to 2021-03-04")
    expect(refused).to_have_attribute("role", "alert")
    expect(refusing.locator("#download")).to_have_attribute("aria-disabled", "true")
    expect(refusing.locator("#download")).not_to_have_attribute("href", re.compile("."))

    refusing.get_by_role("button", name="Order it for any date").click()
    expect(refused).to_be_empty()
    expect(refusing.get_by_role("switch")).to_be_checked()
    expect(option(refusing, "256 GB")).to_be_checked()
    expect(refusing.locator("#quote .notes")).to_contain_text("priced as of 2019-03-19")

    refusing.get_by_role("switch").uncheck()
    expect(refused).to_contain_text("256 GB")
    refusing.get_by_role("button", name="Take the base").click()
    expect(refused).to_be_empty()
    expect(option(refusing, "32 GB")).to_be_checked()
    total(refusing, 4999)


@pytest.mark.parametrize("day", ["2017-12-13", "2021-03-19"])
def test_before_and_after_the_sale_nothing_is_sold(refusing: Page, day: str):
    refusing.get_by_label("Date", exact=True).fill(day)
    expect(refusing.locator("#refused")).to_contain_text("from 2017-12-14 to 2021-03-18")
    assert refusing.locator("#options input:enabled").count() == 0
    refusing.get_by_role("switch").check()
    total(refusing, 4999)


def test_the_spec_is_taken_away_with_the_command_that_starts_it(ordering: Page, tmp_path: Path):
    option(ordering, "64 GB").check()
    option(ordering, "VESA").check()
    expect(ordering.locator("#quote")).to_contain_text("64 GB")
    ordering.get_by_label("Name of the workstation").fill("lab")
    with ordering.expect_download() as download:
        ordering.get_by_role("link", name="Download spec").click()
    assert download.value.suggested_filename == "lab.toml"
    download.value.save_as(tmp_path / "lab.toml")
    made = spec.load(tmp_path / "lab.toml")
    assert (made.cores, made.memory_gb, made.mount, made.ordered) == (8, 64, "vesa", "2017-12-14")
    expect(ordering.locator("#command")).to_have_text("spacegray up lab --spec lab.toml")
    ordering.get_by_role("button", name="Copy").click()
    expect(ordering.locator("#copied")).to_have_text("Copied.")
    copied = ordering.evaluate("navigator.clipboard.readText()")
    assert copied == "spacegray up lab --spec lab.toml"


def test_a_name_that_no_workstation_can_have_makes_no_command(ordering: Page):
    name = ordering.get_by_label("Name of the workstation")
    name.fill("a; rm -r")
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(ordering.locator("#command")).to_have_text("spacegray up NAME --spec NAME.toml")
    expect(ordering.locator("#download")).to_have_attribute("aria-disabled", "true")
    expect(ordering.get_by_role("button", name="Copy")).to_be_disabled()


def test_by_keyboard_alone(ordering: Page):
    """The focus stays where it is though the prices around it change."""
    ordering.get_by_role("button", name="19 Mar 2019").focus()
    ordering.keyboard.press("Enter")
    expect(option(ordering, "256 GB")).to_be_enabled()
    option(ordering, "32 GB").focus()
    for choice, more in (("64 GB", 4999 + 400), ("128 GB", 4999 + 2000)):
        ordering.keyboard.press("ArrowDown")
        expect(option(ordering, choice)).to_be_focused()
        expect(option(ordering, choice)).to_be_checked()
        total(ordering, more)


def test_every_control_has_a_name(serving: Serving, open_page: OpenPage):
    for address in PAGES:
        page = open_page(serving.address())
        page.goto(serving.origin + address)
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
        page.wait_for_load_state("networkidle")
        for control in page.locator("main :is(input, select, button, a[href])").all():
            name = control.evaluate(
                "each => (each.labels?.[0]?.textContent ?? '') || each.textContent"
                " || each.ariaLabel || ''"
            )
            assert name.strip(), control.evaluate("each => each.outerHTML")
        heads = page.locator("h1").all_text_contents()
        assert len(heads) == 1
        assert page.title() == f"{heads[0]} · Spacegray"


@pytest.mark.parametrize("width", [340, 700, 1100])
@pytest.mark.parametrize("address", ["/", *PAGES])
def test_no_page_is_wider_than_its_window(
    serving: Serving, open_page: OpenPage, address: str, width: int
):
    page = open_page(serving.address(), viewport={"width": width, "height": 800})
    page.goto(serving.origin + address)
    page.wait_for_load_state("networkidle")
    assert not page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_pages_lead_to_each_other_and_a_workstation_may_have_the_name_of_one(
    serving: Serving, open_page: OpenPage
):
    page = open_page(serving.address("pro"))
    expect(page.locator("#state")).to_have_text("Off")
    page.get_by_role("link", name="Service").click()
    expect(page.get_by_label("Workstation")).to_have_value("pro")
    for title in ("Order", "Timeline", "Service"):
        page.get_by_role("navigation").get_by_role("link", name=title).click()
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        here = page.get_by_role("navigation").get_by_role("link", name=title)
        expect(here).to_have_attribute("aria-current", "page")
    page.get_by_role("link", name="Workstations").click()
    expect(page.locator("#state")).to_have_text("Off")


def test_a_session_that_is_over_is_said(serving: Serving, open_page: OpenPage):
    page = opened(serving, open_page, tolerate_loss=True)
    page.context.clear_cookies()
    page.get_by_role("button", name="19 Mar 2019").click()
    expect(page.locator("#refused")).to_contain_text("spacegray open")
