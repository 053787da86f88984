"""Guards: plans of repairs with ticks, a workstation's record, and how its mount is drawn."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from spacegray.console import launch
from spacegray.errors import SpacegrayError
from spacegray.service import parts
from spacegray.service.plan import plan
from tests.browser.conftest import OpenPage, artifact, wait_for
from tests.conftest import Running
from tests.support.console import FakeMachine, FakeMachines, Serving

CHIP_MILLISECONDS = 60_000.0
FINGERPRINT = "5be0cd19137e2179" * 4
ECID = "0x8d1f5a0b77c3e241"


def entry(number: int, said: str, **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "ecid": ECID,
        "time": 1_600_000_000 + number * 86_400,
        "job": "memory 64",
        "said": said,
        "by": "owner",
        "provider": "",
        "fingerprint": "",
        "order": "",
        "verified": True,
        **more,
    }


def record(*entries: dict[str, Any], wrong: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "name": "pro",
        "ecid": ECID,
        "verified": not wrong,
        "wrong": list(wrong),
        "notes": [],
        "entries": list(entries),
        "providers": [{"name": "Corner Repairs", "fingerprint": FINGERPRINT}],
    }


@pytest.fixture
def served(pro: FakeMachine, machines: FakeMachines) -> FakeMachines:
    pro.record = record(
        entry(
            0,
            "the memory was exchanged: 64 GB in place of 32 GB",
            by="provider",
            provider="Corner Repairs",
            fingerprint=FINGERPRINT,
            order="00112233445566778899aabbccddeeff",
        ),
        entry(1, "it was put on the VESA mount", job="vesa-mount"),
    )
    pro.mount = "vesa"
    machines["lab"].record = record()
    return machines


@pytest.fixture
def bench(served: FakeMachines, serving: Serving, open_page: OpenPage) -> Page:
    page = open_page(serving.address("pro"), color_scheme="dark")
    expect(page.locator("#state")).to_have_text("Off")
    page.get_by_role("link", name="Service").click()
    expect(page.locator("#plan h2")).to_be_visible()
    return page


def test_a_plan_says_who_and_with_what_and_in_which_order(bench: Page):
    wanted = plan("memory")
    shown = bench.locator("#plan")
    expect(shown.locator("h2")).to_have_text(wanted.title)
    expect(shown.locator(".who strong")).to_have_text("Authorised provider")
    for tool in wanted.tools:
        expect(shown.locator(".needed")).to_contain_text(tool)
    for title, steps in (("Disassembly", wanted.steps), ("Reassembly", wanted.reassembly)):
        section = shown.locator("section").filter(has=bench.get_by_role("heading", name=title))
        items = section.locator("li")
        expect(items).to_have_count(len(steps))
        for index, step in enumerate(steps):
            expect(items.nth(index)).to_contain_text(step.action.rstrip("."))
            marks = [] if step.mark == "confirmed" else [step.mark]
            assert items.nth(index).locator("label .mark").all_text_contents() == marks
    for facts, name in ((wanted.risks, "Risks"), (wanted.afterwards, "Afterwards")):
        section = shown.locator("section").filter(has=bench.get_by_role("heading", name=name))
        expect(section.locator("li")).to_have_count(len(facts))
    expect(bench.get_by_label("Workstation")).to_have_value("pro")
    bench.set_viewport_size({"width": 1440, "height": 1400})
    bench.get_by_role("checkbox").nth(0).check()
    bench.get_by_role("checkbox").nth(1).check()
    if (picture := artifact("service.png")) is not None:
        bench.screenshot(path=picture)


def test_every_part_can_be_chosen_and_the_address_names_it(bench: Page, serving: Serving):
    chooser = bench.get_by_label("Part", exact=True)
    values = chooser.locator("option").evaluate_all("all => all.map(each => each.value)")
    assert sorted(values) == sorted(each.id for each in parts.parts())
    chooser.select_option("stand")
    expect(bench.locator("#plan .who strong")).to_have_text("Owner")
    assert bench.url == f"{serving.origin}/service?part=stand#/pro"
    bench.reload()
    expect(chooser).to_have_value("stand")
    bench.goto(f"{serving.origin}/service?part=dimm#/pro")
    expect(bench.locator("#plan h2")).to_have_text(plan("dimm").title)


def test_ticks_count_and_last(bench: Page):
    boxes = bench.get_by_role("checkbox")
    total = boxes.count()
    progress = bench.locator("#plan .progress")
    expect(progress).to_contain_text(f"0 of {total} steps done")
    boxes.nth(0).focus()
    bench.keyboard.press("Space")
    boxes.nth(2).check()
    expect(progress).to_contain_text(f"2 of {total} steps done")
    bench.reload()
    expect(boxes.nth(0)).to_be_checked()
    expect(boxes.nth(1)).not_to_be_checked()
    bench.get_by_role("button", name="Clear ticks").click()
    expect(progress).to_contain_text(f"0 of {total} steps done")
    expect(boxes.nth(0)).to_be_focused()
    bench.reload()
    expect(boxes.nth(0)).not_to_be_checked()


def test_a_record_that_holds_and_one_that_does_not(bench: Page, served: FakeMachines):
    history = bench.locator("#history")
    expect(history.locator(".verdict")).to_contain_text("Verified: 2 entries")
    entries = history.locator(".entries li")
    expect(entries.nth(0)).to_contain_text("It was put on the VESA mount")
    expect(entries.nth(1)).to_contain_text("By Corner Repairs, work order 0011223344556677")
    expect(entries.nth(1).locator("time")).to_have_attribute("datetime", "2020-09-13")
    expect(history).to_contain_text("spacegray service history pro")

    served["pro"].record = record(
        entry(0, "the memory was exchanged", verified=False),
        wrong=("entry 0 was not signed by its chip <img src=x>",),
    )
    bench.get_by_label("Workstation").select_option("lab")
    expect(history.locator(".verdict")).to_contain_text("Verified: no entry")
    bench.get_by_label("Workstation").select_option("pro")
    expect(history.locator(".verdict")).to_have_attribute("data-verified", "false")
    expect(history.locator(".verdict")).to_contain_text("Entry 0 was not signed by its chip <img")
    expect(entries.nth(0)).to_contain_text("Not verified")
    expect(bench.locator("#said")).to_have_text("pro: This record does not hold.")


def test_a_chip_that_cannot_be_asked_is_said(
    served: FakeMachines, serving: Serving, open_page: OpenPage
):
    served["pro"].refusal = SpacegrayError("asking", "the chip is sealed", "power it on")
    page = open_page(serving.address("pro"), tolerate_loss=True)
    expect(page.locator("#state")).to_have_text("Off")
    page.get_by_role("link", name="Service").click()
    refused = page.locator("#history [role=alert]")
    expect(refused).to_contain_text("The chip is sealed.")
    expect(refused).to_contain_text("Power it on.")
    expect(page.locator("#plan h2")).to_be_visible()


def test_the_drawing_shows_what_holds_the_machine(bench: Page):
    drawing = bench.locator("#drawing svg")
    expect(drawing).to_have_attribute("data-mount", "vesa")
    expect(bench.locator("#drawing figcaption")).to_contain_text("arm")
    bench.get_by_label("Workstation").select_option("lab")
    expect(drawing).to_have_attribute("data-mount", "stand")
    expect(bench.get_by_role("img", name="On its stand")).to_be_visible()


def test_the_picture_on_the_main_page_follows_the_mount(
    served: FakeMachines, serving: Serving, open_page: OpenPage
):
    page = open_page(serving.address("pro"))
    mac = page.locator("#mac")
    expect(mac).to_have_attribute("data-mount", "vesa")
    neck = page.locator(".neck")
    arm = neck.bounding_box()
    page.get_by_role("navigation").get_by_role("link", name="lab").click()
    expect(mac).to_have_attribute("data-mount", "stand")
    stand = neck.bounding_box()
    assert arm is not None
    assert stand is not None
    assert arm["width"] < stand["width"] / 3
    served["lab"].mount = "vesa"
    page.evaluate("dispatchEvent(new Event('focus'))")
    wait_for(lambda: mac.get_attribute("data-mount") == "vesa", page)


def test_without_a_workstation_there_are_still_plans(
    served: FakeMachines, serving: Serving, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(served, "names", list)
    page = open_page(serving.address())
    page.goto(f"{serving.origin}/service")
    expect(page.locator("#plan h2")).to_be_visible()
    expect(page.get_by_label("Workstation")).to_be_disabled()
    expect(page.locator("#history")).to_have_text("There is no workstation yet.")


def test_what_was_done_to_a_real_machine_is_on_the_page(powered_off: Running, open_page: OpenPage):
    """Nothing is made up here: the command line does it, the chip signs it, the porter asks it."""
    cli, name = powered_off.cli, powered_off.name
    cli("service", "do", "vesa-mount", name, "--yes")
    output = cli("open", name, "--headless").stdout
    found = re.search(r"http://127\.0\.0\.1:\d+/open\?\S+", output)
    assert found is not None, output
    page = open_page(found.group())
    try:
        expect(page.locator("#mac")).to_have_attribute("data-mount", "vesa")
        page.get_by_role("link", name="Service").click()
        verdict = page.locator("#history .verdict")
        expect(verdict).to_have_attribute("data-verified", "true", timeout=CHIP_MILLISECONDS)
        newest = page.locator("#history .entries li").first
        expect(newest).to_contain_text("VESA mount")
        expect(newest).to_contain_text("By its owner")
        expect(page.locator("#drawing svg")).to_have_attribute("data-mount", "vesa")
        before = page.locator("#history .entries li").count()

        cli("service", "do", "stand", name, "--yes")
        page.reload()
        entries = page.locator("#history .entries li")
        expect(entries).to_have_count(before + 1, timeout=CHIP_MILLISECONDS)
        expect(verdict).to_have_attribute("data-verified", "true")
        expect(page.locator("#drawing svg")).to_have_attribute("data-mount", "stand")
    finally:
        launch.stop(cli.paths)
