"""What was sold on a day, against the same history written down in another way."""

from datetime import date, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray import spec
from spacegray.catalog import data, order, sale
from tests.support.sale_facts import EVER, GONE, KEY_DAYS, ON_SALE, base_on, sold_on

DAY = timedelta(days=1)
days = st.dates(date(2013, 1, 1), date(2027, 12, 31)) | st.sampled_from(
    [day + DAY * step for day in KEY_DAYS for step in (-1, 0, 1)]
)


@given(days)
def test_each_day_offers_what_was_sold_that_day_and_says_when_the_rest_was(day: date):
    offers = sale.offers(day)
    assert {(each.option, each.value) for each in offers} == {
        (choice, value) for choice, values in EVER.items() for value in values
    }
    sold = sold_on(day)
    for each in offers:
        assert each.available == (each.value in sold[each.option]), (day, each)
        if each.available:
            assert not each.why_not
            assert any(span.holds(day) for span in each.sold)
            assert each.base == (base_on(day)[each.option] == each.value)
            assert each.base == (each.price_usd is None)
        else:
            assert each.price_usd is None
            for span in each.sold:
                assert f"from {span.since} to {span.until}" in each.why_not
                assert not span.holds(day)


@given(days)
def test_of_any_date_all_is_available_at_the_price_of_the_nearest_day(day: date):
    for each in sale.offers(day, any_date=True):
        assert each.available
        at = sale.nearest(each.option, each.value, day)
        assert each.value in sold_on(at)[each.option]
        assert each.price_usd == sale.price(each.option, each.value, at)
        assert bool(each.why_not) == (at != day)
        # No day in between was it sold.
        between = range(1, abs((at - day).days))
        step = DAY if day > at else -DAY
        assert all(each.value not in sold_on(at + step * n)[each.option] for n in between)


def test_the_sale_began_and_ended():
    assert (sale.first_day(), sale.last_day()) == (ON_SALE, GONE - DAY)
    assert sale.sale_day(date(2013, 6, 10)) == ON_SALE
    assert sale.sale_day(date(2022, 3, 8)) == GONE - DAY
    assert sale.sale_day(date(2020, 2, 29)) == date(2020, 2, 29)


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        ("cores", spec.CORES),
        ("memory_gb", spec.MEMORY_GB),
        ("graphics", spec.GRAPHICS),
        ("ssd_tb", spec.SSD_TB),
        ("mount", spec.MOUNTS),
        ("pointing", get_args(order.Pointing)),
    ],
)
def test_what_a_spec_may_say_is_what_was_ever_sold(choice, values):
    assert {each.value for each in data.load().options if each.choice == choice} == set(values)


def test_every_choice_but_the_pointing_device_is_a_field_of_the_spec():
    assert set(sale.CHOICES) - set(spec.Spec.__struct_fields__) == {"pointing"}
    assert set(sale.CHOICES) == set(order.Wish.__struct_fields__) == set(order.WORDS)
    assert set(order.SPEC_CHOICES) == set(sale.CHOICES) - {"pointing"}


def test_memory_comes_as_four_equal_modules():
    for option in data.load().options:
        if option.choice == "memory_gb":
            each = int(option.value) // 4
            assert option.figures["modules"].value == f"4 x {each} GB"
