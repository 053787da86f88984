"""Orders: no order is quoted that could not be had then, and none that the machine cannot be."""

from datetime import date, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray import host
from spacegray import spec as specs
from spacegray.catalog import order, sale
from spacegray.catalog.data import Choice
from spacegray.catalog.order import Pointing, Wish
from spacegray.errors import UsageError
from spacegray.machine import board
from spacegray.machine.accelerator import Accelerator
from spacegray.spec import Spec
from tests.support.sale_facts import (
    EVER,
    GONE,
    KEY_DAYS,
    MORE,
    ON_SALE,
    TEN_CORES,
    base_on,
    sold_on,
)

DAY = timedelta(days=1)
MUCH_BYTES = 1 << 50
LARGE_HOST = host.Host(
    distribution="debian",
    version="13",
    codename="trixie",
    name="Debian",
    kernel="6.12",
    cpus=64,
    cpu_model="",
    memory_total_bytes=MUCH_BYTES,
    memory_available_bytes=MUCH_BYTES,
)
KVM = Accelerator("kvm", "a test", 1.0)

days = st.dates(date(2013, 1, 1), date(2027, 12, 31)) | st.sampled_from(
    [day + DAY * step for day in KEY_DAYS for step in (-1, 0, 1)]
)
sale_days = st.dates(ON_SALE, GONE - DAY)
wishes = st.builds(
    Wish,
    cores=st.none() | st.sampled_from(specs.CORES),
    memory_gb=st.none() | st.sampled_from(specs.MEMORY_GB),
    graphics=st.none() | st.sampled_from(specs.GRAPHICS),
    ssd_tb=st.none() | st.sampled_from(specs.SSD_TB),
    pointing=st.sampled_from(get_args(Pointing)),
    mount=st.sampled_from(specs.MOUNTS),
)


def wanted(wish: Wish, base_day: date) -> dict[Choice, Any]:
    """The value of each choice: the wish's, else the base model's."""
    base = base_on(base_day)
    return {
        choice: base[choice] if getattr(wish, choice) is None else getattr(wish, choice)
        for choice in EVER
    }


@given(wishes, days)
def test_an_order_is_taken_exactly_if_all_of_it_was_sold_that_day(wish: Wish, day: date):
    sold, chosen = sold_on(day), wanted(wish, day)
    absent = [choice for choice, value in chosen.items() if value not in sold[choice]]
    if not absent:
        assert order.quote(wish, day).day == day.isoformat()
        return
    with pytest.raises(UsageError) as caught:
        order.quote(wish, day)
    said = str(caught.value)
    assert "\n" not in said
    assert "--any-date" in said
    if ON_SALE <= day < GONE:
        for each in sale.offers(day):
            named = each.option in absent and each.value == chosen[each.option]
            assert (f"{each.label} was sold" in said) == named
            assert not named or all(f"from {s.since} to {s.until}" in said for s in each.sold)
    else:
        assert "from 2017-12-14 to 2021-03-18" in said


@given(wishes, days)
def test_every_order_is_a_machine_that_can_be_built(wish: Wish, day: date):
    quote = order.quote(wish, day, any_date=True)
    spec = order.spec_of(quote)
    chosen = wanted(wish, day)
    for field in ("cores", "memory_gb", "graphics", "ssd_tb", "mount"):
        assert getattr(spec, field) == chosen[field]
    assert specs.parse(specs.dump(spec), source="test") == spec
    made = board.scale(spec, LARGE_HOST, KVM)
    assert made.cores == spec.cores
    assert made.memory_mb == spec.memory_gb * 1024
    assert made.graphics == spec.graphics
    assert spec.ssd_bytes == spec.ssd_tb * 10**12
    order.check(spec, source="test")


@given(wishes, days)
def test_the_total_is_the_sum_of_the_lines_and_the_share_is_right(wish: Wish, day: date):
    quote = order.quote(wish, day, any_date=True)
    prices = [line.price_usd for line in quote.lines if line.price_usd is not None]
    assert quote.total_usd == sum(int(each.value) for each in prices) >= 4999
    unconfirmed = [int(each.value) for each in prices if each.mark == "unconfirmed"]
    assert quote.unconfirmed_usd == sum(unconfirmed)
    assert quote.unconfirmed_share == pytest.approx(sum(unconfirmed) / quote.total_usd)
    assert 0 <= quote.unconfirmed_share < 1
    assert len(quote.lines) == 1 + len(EVER)


@given(wishes, sale_days)
def test_of_any_date_changes_nothing_of_what_was_sold_that_day(wish: Wish, day: date):
    try:
        quote = order.quote(wish, day)
    except UsageError:
        relaxed = order.quote(wish, day, any_date=True)
        assert relaxed.spec["ordered"] == ""
        assert any("priced as of" in note for note in relaxed.notes)
        assert any("bears no day" in note for note in relaxed.notes)
        return
    assert order.quote(wish, day, any_date=True) == quote
    assert quote.spec["ordered"] == day.isoformat()
    assert not any("priced as of" in note for note in quote.notes)


@given(wishes, days)
def test_a_spec_that_bears_a_day_is_held_to_it(wish: Wish, day: date):
    chosen = wanted(wish, day)
    del chosen["pointing"]
    spec = Spec(**chosen, ordered=day.isoformat())
    sold = sold_on(day)
    if all(value in sold[choice] for choice, value in chosen.items()):
        order.check(spec, source="my.toml")
        return
    with pytest.raises(UsageError, match=r"my\.toml, ordered on .* was sold from 20"):
        order.check(spec, source="my.toml")
    order.check(Spec(**chosen), source="my.toml")


ALL_2017 = Wish(cores=18, memory_gb=128, graphics="vega-64", ssd_tb=4)
ALL_2019 = Wish(cores=18, memory_gb=256, graphics="vega-64x", ssd_tb=4)


@pytest.mark.parametrize(
    ("wish", "day", "total", "unconfirmed"),
    [
        (Wish(), "2017-12-14", 4999, 0),
        (ALL_2017, "2017-12-14", 13_199, 2400 + 2800 + 600),
        (ALL_2017, "2019-03-18", 13_199, 5800),
        (ALL_2017, "2019-03-19", 13_199 - 400 - 200, 5600),
        (ALL_2019, "2019-03-19", 15_899, 10_900),
        (ALL_2019, "2020-08-04", 15_099, 10_100),
        (Wish(memory_gb=64), "2019-03-18", 5799, 0),
        (Wish(memory_gb=64), "2019-03-19", 5399, 0),
        (Wish(cores=10), "2020-08-03", 5799, 800),
        (Wish(cores=10), "2020-08-04", 4999, 0),
        (Wish(), "2021-03-18", 4999, 0),
        (Wish(mount="vesa", pointing="both"), "2018-06-01", 5227, 228),
    ],
)
def test_whole_configurations_of_the_key_days(wish, day, total, unconfirmed):
    quote = order.quote(wish, date.fromisoformat(day))
    assert (quote.total_usd, quote.unconfirmed_usd) == (total, unconfirmed)


@pytest.mark.parametrize(
    ("wish", "day", "total", "as_of"),
    [
        (Wish(memory_gb=256), "2018-01-01", 10_199, ["2019-03-19"]),
        (Wish(cores=8), "2020-12-24", 4999, ["2020-08-03"]),
        (Wish(cores=18), "2021-03-10", 6599, ["2021-03-04"]),
        (Wish(), "2013-06-10", 4999, ["2017-12-14"]),
        (Wish(cores=18), "2026-01-01", 6599, ["2021-03-18", "2021-03-04"]),
    ],
)
def test_of_any_date_the_nearest_day_counts(wish, day, total, as_of):
    quote = order.quote(wish, date.fromisoformat(day), any_date=True)
    assert quote.total_usd == total
    assert [note[-11:-1] for note in quote.notes if "priced as of" in note] == as_of


@pytest.mark.parametrize(
    ("wish", "day", "says"),
    [
        (Wish(cores=14), ON_SALE, "promised for January 2018"),
        (Wish(), ON_SALE, "delivered about a week after"),
        (Wish(), ON_SALE, "GBP 4,899"),
        (Wish(mount="vesa"), MORE, "takes the place of the stand"),
        (Wish(mount="vesa"), MORE, "zinc screws may shear"),
        (Wish(memory_gb=64), MORE, "Four equal modules"),
        (Wish(), GONE - DAY, "while supplies lasted"),
        (Wish(), GONE - DAY, "JPY 555,800"),
    ],
)
def test_a_buyer_is_told_what_matters_that_day(wish, day, says):
    assert any(says in note for note in order.quote(wish, day).notes)


@pytest.mark.parametrize(
    ("wish", "day", "says"),
    [
        (Wish(cores=10), ON_SALE, "January"),
        (Wish(cores=14), date(2018, 2, 1), "January"),
        (Wish(), MORE, "stand"),
        (Wish(), TEN_CORES, "Elsewhere"),
        (Wish(), date(2017, 12, 21), "delivered"),
    ],
)
def test_and_not_what_does_not(wish, day, says):
    assert not any(says in note for note in order.quote(wish, day).notes)


def rule(**fields: Any) -> sale.Rule:
    """A rule about the Vega 64X that there never was."""
    return sale.Rule(
        choice="graphics", value="vega-64x", text="it goes so", mark="unconfirmed", **fields
    )


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"requires": {"ssd_tb": [2, 4]}}, False),
        ({"requires": {"ssd_tb": [1, 2]}}, True),
        ({"excludes": {"cores": [8, 10]}}, False),
        ({"excludes": {"cores": [10]}}, True),
        ({"requires": {"ssd_tb": [1]}, "excludes": {"mount": ["stand"]}}, False),
    ],
)
def test_what_does_not_go_together_is_refused(fields, allowed):
    chosen = base_on(MORE) | {"graphics": "vega-64x"}
    order.check_rules(base_on(MORE), [rule(**fields)])
    if allowed:
        order.check_rules(chosen, [rule(**fields)])
        return
    with pytest.raises(UsageError, match=r"it goes so \(unconfirmed\)"):
        order.check_rules(chosen, [rule(**fields)])
