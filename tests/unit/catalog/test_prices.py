"""Every price, with its mark and its days; and data that is wrong does not load."""

from collections.abc import Callable
from datetime import date, timedelta

import msgspec
import pytest

from spacegray.catalog import data, sale
from spacegray.catalog.data import Choice
from spacegray.catalog.sale import Prices
from tests.support.sale_facts import GONE, LAST_ONES, MORE, ON_SALE, PRICES, TEN_CORES

DAY = timedelta(days=1)


@pytest.mark.parametrize(("choice", "value", "since", "after", "amount", "mark"), PRICES)
def test_each_price_holds_from_its_first_day_to_its_last(choice, value, since, after, amount, mark):
    for day in (since, since + (after - since) // 2, after - DAY):
        price = sale.price(choice, value, day)
        assert (price and price.value, price and price.mark) == (amount, mark), day


def test_there_is_no_price_besides_these():
    listed = [(each.choice, each.value, each.since, each.until + DAY) for each in sale.load().price]
    assert sorted(listed, key=str) == sorted((fact[:4] for fact in PRICES), key=str)


@pytest.mark.parametrize("day", [ON_SALE, MORE, TEN_CORES - DAY, TEN_CORES, GONE - DAY])
def test_the_machine_cost_the_same_throughout_and_that_is_confirmed(day):
    price = sale.machine_price(day)
    assert (price.value, price.unit, price.mark) == (4999, "USD", "confirmed")


@pytest.mark.parametrize(
    ("day", "prices"),
    [
        (ON_SALE, {("GBP", 4899), ("EUR", 5499)}),
        (date(2017, 12, 31), {("GBP", 4899), ("EUR", 5499)}),
        # In December 2017, the sources say; of later they say nothing.
        (date(2018, 1, 1), set()),
        (TEN_CORES, set()),
        (LAST_ONES - DAY, set()),
        (LAST_ONES, {("EUR", 5499), ("JPY", 555_800)}),
        (GONE - DAY, {("EUR", 5499), ("JPY", 555_800)}),
    ],
)
def test_elsewhere_only_what_is_known_of_that_base_model(day, prices):
    found = sale.elsewhere(day)
    assert {(each.unit, each.value) for each in found} == prices
    assert all(each.mark == "confirmed" and each.note for each in found)


def test_every_price_that_is_no_general_knowledge_names_where_it_was_read():
    sources = data.load().sources
    for claim in sale.claims(sale.load()):
        assert claim.source in sources or (claim.mark == "unconfirmed" and not claim.source)


def test_a_cut_price_says_what_it_was_cut_from():
    """What is derived from an unconfirmed price stays unconfirmed; from a confirmed one, not."""
    cut: list[tuple[Choice, int]] = [
        ("memory_gb", 64),
        ("memory_gb", 128),
        ("ssd_tb", 2),
        ("ssd_tb", 4),
    ]
    for choice, value in cut:
        before, after = (sale.price(choice, value, day) for day in (MORE - DAY, MORE))
        assert before is not None
        assert after is not None
        assert f"{before.value:,} less the cut" in after.note
        assert (before.mark, after.mark) in (
            ("confirmed", "derived"),
            ("unconfirmed", "unconfirmed"),
        )


def altered(change: Callable[[Prices], Prices]) -> None:
    """Check the real prices with one thing changed."""
    sale.check(change(sale.load()))


def other_price(prices: Prices, at: int, **fields: object) -> Prices:
    """With the price number `at` changed."""
    changed = list(prices.price)
    changed[at] = msgspec.structs.replace(changed[at], **fields)
    return msgspec.structs.replace(prices, price=changed)


def other_figure(prices: Prices, at: int, **fields: object) -> Prices:
    """With the figure of the price number `at` changed."""
    figure = prices.price[at].price
    assert figure is not None
    return other_price(prices, at, price=msgspec.structs.replace(figure, **fields))


def other_rule(prices: Prices, **fields: object) -> Prices:
    """With the first rule changed."""
    changed = msgspec.structs.replace(prices.rule[0], **fields)
    return msgspec.structs.replace(prices, rule=[changed])


def test_the_prices_as_they_are_pass():
    altered(lambda prices: prices)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: other_price(p, 1, until=date(2020, 8, 2)), "are not those of the days"),
        (lambda p: other_price(p, 1, since=date(2017, 12, 13)), "are not those of the days"),
        (lambda p: other_price(p, 1, until=date(2020, 8, 4)), "two prices of cores 10"),
        (lambda p: other_price(p, 2, price=p.price[1].price), "the base has no cores"),
        (lambda p: other_price(p, 1, price=None), "two prices of the base's cores"),
        (lambda p: other_price(p, 1, value=12), "are not those of the days"),
        (
            lambda p: msgspec.structs.replace(p, price=[*p.price, foreign(p)]),
            "there is no option",
        ),
        (
            lambda p: other_price(
                p, 1, price=msgspec.structs.replace(p.price[1].price, unit="EUR")
            ),
            "in US dollars",
        ),
        (
            lambda p: other_price(p, 1, price=msgspec.structs.replace(p.price[1].price, value=9.5)),
            "whole number",
        ),
        (
            lambda p: other_price(
                p, 1, price=msgspec.structs.replace(p.price[1].price, source="hearsay")
            ),
            "no source hearsay",
        ),
        (lambda p: msgspec.structs.replace(p, base=[*p.base, p.base[0]]), "two prices of the mach"),
        (lambda p: msgspec.structs.replace(p, base=p.base[:1]), "the base has no cores"),
        (lambda p: other_rule(p, value="hook"), "there is no option"),
        (lambda p: other_rule(p, requires={"cores": [8, 12]}), "there is no option"),
        (lambda p: other_rule(p, excludes={"mount": ["hook"]}), "there is no option"),
    ],
)
def test_wrong_prices_do_not_load(change, says):
    with pytest.raises(ValueError, match=says):
        altered(change)


def foreign(prices: Prices) -> sale.Price:
    """The price of an option that there never was."""
    return msgspec.structs.replace(prices.price[0], value=12)


def test_a_span_ends_after_it_begins():
    with pytest.raises(ValueError, match="ends on the day"):
        sale.Span(since=MORE, until=ON_SALE)
