"""A figure always says how sure it is, and cannot say so without its source."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray.catalog.figures import MARKS, Claim, Figure, Period, marked, shown, when

values = st.one_of(st.booleans(), st.integers(-(10**6), 10**6), st.floats(0, 1e6), st.text())


@pytest.mark.parametrize(
    ("value", "unit", "mark", "text"),
    [
        (4999, "USD", "confirmed", "$4,999"),
        (5200, "USD", "unconfirmed", "$5,200 (unconfirmed)"),
        (555800, "JPY", "confirmed", "555,800 JPY"),
        (3.2, "GHz", "confirmed", "3.2 GHz"),
        (13.75, "MB", "derived", "13.75 MB (derived)"),
        (4096, "", "confirmed", "4,096"),
        ("4 x 8 GB", "", "secondary", "4 x 8 GB (secondary)"),
        (True, "", "confirmed", "yes"),
        (False, "", "unconfirmed", "no (unconfirmed)"),
    ],
)
def test_a_figure_reads_as_people_write_it(value, unit, mark, text):
    assert shown(Figure(value=value, unit=unit, mark=mark, source="s", note="n")) == text


@given(values, st.sampled_from(MARKS))
def test_only_what_is_confirmed_stands_without_its_mark(value, mark):
    text = shown(Figure(value=value, mark=mark, source="s", note="n"))
    assert text.endswith(f"({mark})") == (mark != "confirmed") or mark in str(value)
    assert marked("x", mark) == ("x" if mark == "confirmed" else f"x ({mark})")


@pytest.mark.parametrize("mark", [mark for mark in MARKS if mark != "unconfirmed"])
def test_what_is_not_unconfirmed_names_its_source(mark):
    with pytest.raises(ValueError, match="names its source"):
        Figure(value=1, mark=mark, note="so")
    assert Figure(value=1, mark="unconfirmed").source == ""


def test_what_is_derived_says_how():
    with pytest.raises(ValueError, match="says how"):
        Claim(mark="derived", source="s")


def test_a_period_holds_on_both_its_days_and_not_beside_them():
    period = Period(since=date(2019, 3, 19), until=date(2021, 3, 4), mark="unconfirmed")
    assert period.holds(date(2019, 3, 19))
    assert period.holds(date(2021, 3, 4))
    assert not period.holds(date(2019, 3, 18))
    assert not period.holds(date(2021, 3, 5))
    assert Period(since=date(2019, 3, 19), mark="unconfirmed").holds(date.max)
    with pytest.raises(ValueError, match="ends on the day"):
        Period(since=date(2019, 3, 19), until=date(2019, 3, 18), mark="unconfirmed")


@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (date(2017, 12, 14), None, "2017-12-14"),
        (date(2017, 12, 14), date(2017, 12, 14), "2017-12-14"),
        (date(2018, 1, 2), date(2018, 1, 3), "2018-01-02 to 2018-01-03"),
        (date(2018, 10, 1), date(2018, 10, 31), "2018-10"),
        (date(2020, 2, 1), date(2020, 2, 29), "2020-02"),
        (date(2020, 2, 1), date(2020, 2, 28), "2020-02-01 to 2020-02-28"),
        (date(2020, 1, 1), date(2020, 2, 29), "2020-01-01 to 2020-02-29"),
    ],
)
def test_days_read_as_days_and_whole_months_as_months(since, until, text):
    assert when(since, until) == text
