"""The catalogue through the command line: every dated claim, every verb, every wrong word.

The tables below are written down here by hand; nothing in them is taken from the catalogue's own
data. A claim that the data makes and no table asks for fails too.
"""

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cli

EVENTS = [
    # day, until, mark, words in the title, products
    ("2013-06-10", "", "derived", "Mac Pro is shown", {"mac-pro-2013"}),
    ("2013-12-19", "", "confirmed", "Mac Pro goes on sale", {"mac-pro-2013"}),
    ("2017-04-03", "", "confirmed", "round table", {"mac-pro-2013", "mac-pro-2019", "imac-pro"}),
    ("2017-04-04", "", "confirmed", "in the papers", {"mac-pro-2013", "imac-pro"}),
    ("2017-04-06", "", "confirmed", "transcript", {"mac-pro-2013", "imac-pro"}),
    ("2017-06-05", "", "confirmed", "announced", {"imac-pro", "imac"}),
    ("2017-12-12", "", "confirmed", "day of sale is confirmed", {"imac-pro"}),
    ("2017-12-14", "", "confirmed", "can be ordered", {"imac-pro"}),
    ("2018-01-02", "2018-01-03", "confirmed", "iFixit", {"imac-pro"}),
    ("2018-10-01", "2018-10-31", "confirmed", "T2", {"imac-pro"}),
    ("2018-10-30", "", "confirmed", "Mac mini", {"mac-mini", "mac-mini-2014"}),
    ("2019-03-19", "", "confirmed", "256 GB and Vega 64X", {"imac-pro", "imac-2019"}),
    ("2019-03-19", "", "secondary", "cost less", {"imac-pro"}),
    ("2019-06-03", "", "confirmed", "Mac Pro of 2019 is shown", {"mac-pro-2019"}),
    ("2019-12-10", "", "confirmed", "Mac Pro of 2019 goes on sale", {"mac-pro-2019"}),
    ("2019-12-10", "", "secondary", "cylindrical Mac Pro ends", {"mac-pro-2013"}),
    ("2020-08-04", "", "confirmed", "10 cores", {"imac-pro", "imac-2020"}),
    ("2021-03-05", "", "confirmed", "While supplies last", {"imac-pro"}),
    ("2021-03-06", "", "confirmed", "confirms the end", {"imac-pro", "imac-2020", "mac-pro-2019"}),
    ("2021-03-19", "", "confirmed", "gone from the store", {"imac-pro"}),
    ("2021-03-20", "", "confirmed", "Japan", {"imac-pro"}),
    ("2021-03-23", "", "confirmed", "sold out", {"imac-pro"}),
    ("2022-03-08", "", "confirmed", "Mac Studio", {"mac-studio", "studio-display", "imac-2020"}),
    ("2022-03-18", "", "unconfirmed", "go on sale", {"mac-studio", "studio-display"}),
]
DATES = [
    # machine, what, day, mark
    ("imac-pro", "announced", "2017-06-05", "confirmed"),
    ("imac-pro", "on sale", "2017-12-14", "confirmed"),
    ("imac-pro", "changed", "2019-03-19", "confirmed"),
    ("imac-pro", "changed", "2020-08-04", "confirmed"),
    ("imac-pro", "while supplies last", "2021-03-05", "confirmed"),
    ("imac-pro", "withdrawn", "2021-03-19", "confirmed"),
    ("mac-mini-2014", "on sale", "2014-10-16", "confirmed"),
    ("mac-mini-2014", "replaced", "2018-10-30", "derived"),
    ("mac-mini", "announced", "2018-10-30", "confirmed"),
    ("mac-mini", "on sale", "2018-11-07", "confirmed"),
    ("mac-mini", "withdrawn", "2023-01-17", "confirmed"),
    ("imac", "announced", "2017-06-05", "confirmed"),
    ("imac", "replaced", "2019-03-19", "confirmed"),
    ("imac-2019", "announced", "2019-03-19", "confirmed"),
    ("imac-2019", "replaced", "2020-08-04", "confirmed"),
    ("imac-2020", "announced", "2020-08-04", "confirmed"),
    ("imac-2020", "withdrawn", "2022-03-08", "confirmed"),
    ("mac-pro-2013", "announced", "2013-06-10", "derived"),
    ("mac-pro-2013", "on sale", "2013-12-19", "confirmed"),
    ("mac-pro-2013", "changed", "2017-04-04", "confirmed"),
    ("mac-pro-2013", "withdrawn", "2019-12-10", "secondary"),
    ("mac-pro-2019", "announced", "2019-06-03", "confirmed"),
    ("mac-pro-2019", "on sale", "2019-12-10", "confirmed"),
    ("mac-pro-2019", "withdrawn", "2023-06-05", "confirmed"),
    ("mac-studio", "announced", "2022-03-08", "confirmed"),
    ("mac-studio", "on sale", "2022-03-18", "unconfirmed"),
    ("mac-studio", "replaced", "2023-06-05", "derived"),
    ("studio-display", "announced", "2022-03-08", "confirmed"),
    ("studio-display", "on sale", "2022-03-18", "unconfirmed"),
]
OPENED, LAST = "2017-12-14", "2021-03-18"
BEFORE_MORE, MORE = "2019-03-18", "2019-03-19"
LAST_EIGHT, TEN = "2020-08-03", "2020-08-04"
LAST_CHOICE = "2021-03-04"
SOLD = [
    # option, its first and last day, mark
    ("w-2140b", OPENED, LAST_EIGHT, "confirmed"),
    ("w-2150b", OPENED, LAST, "confirmed"),
    ("w-2170b", OPENED, LAST_CHOICE, "confirmed"),
    ("w-2191b", OPENED, LAST_CHOICE, "confirmed"),
    ("vega-56", OPENED, LAST, "confirmed"),
    ("vega-64", OPENED, LAST_CHOICE, "confirmed"),
    ("vega-64x", MORE, LAST_CHOICE, "confirmed"),
    ("memory-32", OPENED, LAST, "confirmed"),
    ("memory-64", OPENED, LAST_CHOICE, "confirmed"),
    ("memory-128", OPENED, LAST_CHOICE, "confirmed"),
    ("memory-256", MORE, LAST_CHOICE, "confirmed"),
    ("ssd-1", OPENED, LAST, "confirmed"),
    ("ssd-2", OPENED, LAST_CHOICE, "confirmed"),
    ("ssd-4", OPENED, LAST_CHOICE, "confirmed"),
    ("pointing-mouse", OPENED, LAST, "confirmed"),
    ("pointing-trackpad", OPENED, LAST_CHOICE, "derived"),
    ("pointing-both", OPENED, LAST_CHOICE, "derived"),
    ("mount-stand", OPENED, LAST, "confirmed"),
    ("mount-vesa", OPENED, LAST, "unconfirmed"),
]
PRICES = [
    # thing, amount, currency, the days between which it held, mark
    ("imac-pro", 4999, "USD", OPENED, LAST_EIGHT, "confirmed"),
    ("imac-pro", 4999, "USD", TEN, LAST, "confirmed"),
    ("imac-pro", 4899, "GBP", OPENED, "2017-12-31", "confirmed"),
    ("imac-pro", 5499, "EUR", OPENED, "2017-12-31", "confirmed"),
    ("imac-pro", 5499, "EUR", "2021-03-05", LAST, "confirmed"),
    ("imac-pro", 555800, "JPY", "2021-03-05", LAST, "confirmed"),
    ("w-2150b", 800, "USD", OPENED, LAST_EIGHT, "unconfirmed"),
    ("w-2170b", 1600, "USD", OPENED, LAST_EIGHT, "unconfirmed"),
    ("w-2170b", 800, "USD", TEN, LAST_CHOICE, "unconfirmed"),
    ("w-2191b", 2400, "USD", OPENED, LAST_EIGHT, "unconfirmed"),
    ("w-2191b", 1600, "USD", TEN, LAST_CHOICE, "unconfirmed"),
    ("memory-64", 800, "USD", OPENED, BEFORE_MORE, "confirmed"),
    ("memory-64", 400, "USD", MORE, LAST_CHOICE, "derived"),
    ("memory-128", 2400, "USD", OPENED, BEFORE_MORE, "confirmed"),
    ("memory-128", 2000, "USD", MORE, LAST_CHOICE, "derived"),
    ("memory-256", 5200, "USD", MORE, LAST_CHOICE, "unconfirmed"),
    ("vega-64", 600, "USD", OPENED, BEFORE_MORE, "unconfirmed"),
    ("vega-64", 600, "USD", MORE, LAST_CHOICE, "unconfirmed"),
    ("vega-64x", 700, "USD", MORE, LAST_CHOICE, "unconfirmed"),
    ("ssd-2", 800, "USD", OPENED, BEFORE_MORE, "unconfirmed"),
    ("ssd-2", 600, "USD", MORE, LAST_CHOICE, "unconfirmed"),
    ("ssd-4", 2800, "USD", OPENED, BEFORE_MORE, "unconfirmed"),
    ("ssd-4", 2600, "USD", MORE, LAST_CHOICE, "unconfirmed"),
    ("pointing-trackpad", 50, "USD", OPENED, LAST_CHOICE, "unconfirmed"),
    ("pointing-both", 149, "USD", OPENED, LAST_CHOICE, "unconfirmed"),
    ("mount-vesa", 79, "USD", OPENED, LAST, "unconfirmed"),
]
REMARKS = [
    # what it is about, its days, mark, words in it
    ("w-2170b", OPENED, "2018-01-31", "confirmed", "January 2018"),
    ("w-2191b", OPENED, "2018-01-31", "confirmed", "January 2018"),
    ("imac-pro", OPENED, "2017-12-20", "confirmed", "a week after 14 December 2017"),
    ("memory-32", OPENED, LAST, "confirmed", "all four sockets"),
    ("memory-64", OPENED, LAST, "confirmed", "all four sockets"),
    ("memory-128", OPENED, LAST, "confirmed", "all four sockets"),
    ("mount-vesa", OPENED, LAST, "confirmed", "zinc screws"),
    ("imac-pro", "2021-03-05", LAST, "confirmed", "only the base model"),
]


def said(cli: Cli, *words: str) -> Any:
    """What a verb of the catalogue says in JSON."""
    return json.loads(cli("catalog", *words, "--format", "json").stdout)


@pytest.fixture(scope="module")
def happened(shared_cli: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = said(shared_cli, "timeline")
    return found


@pytest.fixture(scope="module")
def listed(shared_cli: Cli) -> dict[str, dict[str, Any]]:
    return {each["id"]: each for each in said(shared_cli, "list") if each["kind"] != "events"}


@pytest.fixture(scope="module")
def lines(shared_cli: Cli) -> list[dict[str, str]]:
    text = shared_cli("catalog", "export", "--format", "csv").stdout
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(("day", "until", "mark", "words", "products"), EVENTS)
def test_each_event(happened, day, until, mark, words, products):
    (event,) = (each for each in happened if each["day"] == day and words in each["title"])
    assert (event["until"], event["mark"]) == (until, mark)
    assert set(event["products"]) == products
    assert event["source_title"]


@pytest.mark.parametrize(("machine", "what", "day", "mark"), DATES)
def test_each_date_of_a_machine(listed, machine, what, day, mark):
    dates = [(each["what"], each["day"], each["mark"]) for each in listed[machine]["dates"]]
    assert (what, day, mark) in dates


@pytest.mark.parametrize(("option", "since", "until", "mark"), SOLD)
def test_the_days_on_which_each_option_was_sold(listed, option, since, until, mark):
    (sold,) = listed[option]["sold"]
    assert (sold["since"], sold["until"], sold["mark"]) == (since, until, mark)


@pytest.mark.parametrize(("thing", "amount", "currency", "since", "until", "mark"), PRICES)
def test_each_price_and_its_days(lines, thing, amount, currency, since, until, mark):
    found = [
        (line["value"], line["unit"], line["since"], line["until"], line["mark"])
        for line in lines
        if (line["subject"], line["property"]) == (thing, "price")
    ]
    assert (str(amount), currency, since, until, mark) in found


@pytest.mark.parametrize(("thing", "since", "until", "mark", "words"), REMARKS)
def test_each_remark_and_its_days(lines, thing, since, until, mark, words):
    (line,) = (
        line
        for line in lines
        if (line["subject"], line["property"]) == (thing, "remark") and words in line["value"]
    )
    assert (line["since"], line["until"], line["mark"]) == (since, until, mark)


def test_no_dated_claim_is_missing_above(lines):
    asked = [("timeline", "event", day, until or day) for day, until, *_ in EVENTS]
    asked += [(machine, what, day, day) for machine, what, day, _ in DATES]
    asked += [(option, "sold", since, until) for option, since, until, _ in SOLD]
    asked += [(thing, "price", since, until) for thing, _, _, since, until, _ in PRICES]
    asked += [(thing, "remark", since, until) for thing, since, until, *_ in REMARKS]
    claimed = [
        (line["subject"], line["property"], line["since"], line["until"])
        for line in lines
        if line["since"] or line["until"]
    ]
    assert sorted(claimed) == sorted(asked)


def test_the_list_can_be_narrowed(shared_cli):
    graphics = shared_cli("catalog", "list", "--kind", "graphics").stdout
    assert "Radeon Pro Vega 64X" in graphics
    assert "2019-03-19 to 2021-03-04" in graphics
    assert "Xeon" not in graphics
    events = said(shared_cli, "list", "--kind", "events")
    assert len(events) == len(EVENTS)
    assert {each["kind"] for each in events} == {"events"}


def test_what_is_shown_bears_marks_and_sources(shared_cli):
    text = shared_cli("catalog", "show", "imac-pro").stdout
    assert "9.7 kg (unconfirmed)" in text
    assert "802.11ac (secondary)" in text
    assert "https://en.wikipedia.org/wiki/IMac_Pro" in text
    processor = said(shared_cli, "show", "w-2150b")
    clock = processor["figures"]["turbo_clock"]
    assert (clock["value"], clock["unit"], clock["mark"]) == (4.5, "GHz", "confirmed")
    assert processor["sources"][clock["source"]]["url"].startswith("https://www.waynedixon.com/")
    assert [price["value"] for price in processor["prices"]] == [800]


def test_figures_stand_side_by_side(shared_cli):
    text = shared_cli("catalog", "compare", "imac-pro", "mac-pro-2013", "mac-studio").stdout
    rows = {line[:26].strip(): line[26:].split() for line in text.splitlines() if "cores" in line}
    assert rows["max cores"] == ["18", "12", "20"]
    assert "unconfirmed" in text
    both = said(shared_cli, "compare", "vega-64", "vega-64x")
    assert [thing["id"] for thing in both] == ["vega-64", "vega-64x"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "mac-pro"), "did you mean mac-pro-2013 or mac-pro-2019?"),
        (("show", "newton"), "see `catalog list`"),
        (("show", "new\nton"), "looking up 'new\\nton'"),
        (("show",), "THING"),
        (("compare", "imac-pro"), "name two or more"),
        (("compare", "imac-pro", "imac-pro"), "name two or more"),
        (("compare", "imac-pro", "w-9999"), "no such thing"),
        (("list", "--kind", "mice"), "mice"),
        (("export",), "--format json or --format csv"),
        (("export", "--output", "x.pdf"), "--format json or --format csv"),
        (("schema", "xml"), "xml"),
        (("timeline", "--format", "gif"), "gif"),
    ],
)
def test_a_wrong_word_for_the_catalogue_is_one_line(shared_cli, words, says):
    done = shared_cli("catalog", *words, check=False)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("spacegray: "))
    assert says in line
    assert "Traceback" not in done.stderr


def test_the_timeline_is_drawn(cli):
    picture = cli.home / "timeline.svg"
    cli("catalog", "timeline", "--output", str(picture))
    root = ET.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    cli("catalog", "timeline", "--output", str(cli.home / "timeline.png"))
    assert (cli.home / "timeline.png").read_bytes().startswith(b"\x89PNG")
    text = cli("catalog", "timeline").stdout
    assert "2020-08-04  10 cores become the base" in text
    assert "━" in text
    assert ET.fromstring(cli("catalog", "timeline", "--format", "svg").stdout).tag == root.tag


def test_what_is_exported_is_the_same_in_a_file_and_on_standard_output(cli):
    file = cli.home / "catalog.json"
    cli("catalog", "export", "--output", str(file))
    assert file.read_text() == cli("catalog", "export", "--format", "json").stdout
    assert json.loads(file.read_text())["format"] == "spacegray catalog"
    lost = cli("catalog", "export", "--output", "/proc/nowhere/catalog.csv", check=False)
    assert lost.returncode == 2
    assert "writing /proc/nowhere/catalog.csv" in lost.stderr
    assert "Traceback" not in lost.stderr


@pytest.mark.parametrize("name", ["", "/dev/full", "folder"])
@pytest.mark.parametrize("verb", ["export", "timeline"])
def test_what_is_no_file_is_left_alone(cli, name, verb):
    at = str(cli.home) if name == "folder" else name
    words = ("--format", "json", "--output", at)
    done = cli("catalog", verb, *words, check=False)
    assert done.returncode == 2
    assert "there is something already, and no file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert Path("/dev/full").is_char_device()


def test_a_terminal_without_its_characters_still_has_the_timeline(cli):
    cli.extra["PYTHONIOENCODING"] = "ascii"
    text = cli("catalog", "timeline").stdout
    assert text.isascii()
    assert "===" in text
    assert " * 2017-12-14  The iMac Pro can be ordered" in text
    assert " o 2022-03-18  Mac Studio and Studio Display go on sale (unconfirmed)" in text


@pytest.mark.parametrize(
    ("format_", "name"), [("json", "catalog.schema.json"), ("csv", "catalog.csv-schema.json")]
)
def test_the_schema_that_is_printed_is_the_one_that_is_published(shared_cli, format_, name):
    printed = shared_cli("catalog", "schema", format_).stdout
    assert printed == (ROOT / "docs" / name).read_text()
