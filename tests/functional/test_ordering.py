"""Orders from the command line: the options and prices of a day, refusals, a spec that starts."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from spacegray import spec as specs
from spacegray.catalog.figures import DOLLARS
from tests.conftest import PASSWORD, ROOT, Cli
from tests.support.sale_facts import KEY_DAYS, price_on, sold_on
from tests.support.terminal import Terminal

ALL_2017 = ("--cores", "18", "--memory-gb", "128", "--graphics", "vega-64", "--ssd-tb", "4")
ALL_2019 = ("--cores", "18", "--memory-gb", "256", "--graphics", "vega-64x", "--ssd-tb", "4")
DAY = timedelta(days=1)
REFUSED = 2
SECTOR_BYTES = 512
INTERRUPTED = 130


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the product's user may write."""
    made = Path(tempfile.mkdtemp(prefix="spacegray-order-"))
    yield made
    shutil.rmtree(made)


def quoted(cli: Cli, *words: str) -> dict[str, Any]:
    """An order as JSON."""
    quote: dict[str, Any] = json.loads(cli("order", *words, "--yes", "--format", "json").stdout)
    return quote


def refused(cli: Cli, *words: str) -> str:
    """The one line with which an order is refused."""
    done = cli("order", *words, check=False)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    assert not done.stdout
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def screen(cli: Cli, *words: str) -> Terminal:
    """An order at a terminal."""
    return Terminal([str(ROOT / "run"), "order", *words], cli.environment)


@pytest.mark.parametrize(
    ("words", "day", "total", "unconfirmed", "shown"),
    [
        ((), "2017-12-14", 4999, 0, "no price of it is unconfirmed"),
        (ALL_2017, "2017-12-14", 13_199, 5800, "$5,800 of it (44 %) rests on unconfirmed"),
        (ALL_2017, "2019-03-19", 12_599, 5600, "$5,600 of it (44 %) rests on unconfirmed"),
        (ALL_2019, "2019-03-19", 15_899, 10_900, "$10,900 of it (69 %) rests on unconfirmed"),
        (("--memory-gb", "64"), "2019-03-18", 5799, 0, "+$800"),
        (("--memory-gb", "64"), "2019-03-19", 5399, 0, "+$400 (derived)"),
        (("--cores", "10"), "2020-08-03", 5799, 800, "+$800 (unconfirmed)"),
        ((), "2020-08-04", 4999, 0, "Intel Xeon W-2150B, 10 cores  included"),
        (("--cores", "18"), "2020-08-04", 6599, 1600, "+$1,600 (unconfirmed)"),
        (("--mount", "vesa"), "2021-03-04", 5078, 79, "takes the place of the stand"),
        ((), "2021-03-18", 4999, 0, "while supplies lasted"),
    ],
)
def test_a_configuration_of_a_key_day_has_its_total(
    shared_cli: Cli, words: tuple[str, ...], day: str, total: int, unconfirmed: int, shown: str
):
    quote = quoted(shared_cli, "--date", day, *words)
    assert (quote["total_usd"], quote["unconfirmed_usd"]) == (total, unconfirmed)
    assert quote["unconfirmed_share"] == pytest.approx(unconfirmed / total)
    prices = [line["price_usd"] for line in quote["lines"] if line["price_usd"]]
    assert sum(price["value"] for price in prices) == total
    assert {price["unit"] for price in prices} == {DOLLARS}
    table = shared_cli("order", "--date", day, *words, "--yes").stdout
    assert f"${total:,}" in table
    assert shown in table
    assert ("(partly unconfirmed)" in table) == (unconfirmed > 0)
    for line in quote["lines"]:
        assert line["choice"] in table


@pytest.mark.parametrize("day", [day + step for day in KEY_DAYS for step in (-DAY, DAY * 0)])
def test_every_option_of_a_key_day_has_its_price_or_is_refused(shared_cli: Cli, day: date):
    sold = sold_on(day)
    if not sold["cores"]:
        assert "from 2017-12-14 to 2021-03-18" in refused(shared_cli, "--date", str(day))
        return
    # In as many orders as the choice with the most options needs.
    for number in range(max(map(len, sold.values()))):
        chosen = {
            choice: sorted(values, key=str)[number % len(values)] for choice, values in sold.items()
        }
        words = [w for c, value in chosen.items() for w in (f"--{c.replace('_', '-')}", str(value))]
        machine, *lines = quoted(shared_cli, "--date", str(day), *words)["lines"]
        assert (machine["price_usd"]["value"], machine["price_usd"]["mark"]) == (4999, "confirmed")
        for (choice, value), line in zip(chosen.items(), lines, strict=True):
            price = line["price_usd"] or {"value": None, "mark": None}
            assert (price["value"], price["mark"]) == price_on(choice, value, day), line


@pytest.mark.parametrize(
    ("words", "day", "note"),
    [
        (("--cores", "14"), "2017-12-14", "promised for January 2018"),
        ((), "2017-12-14", "delivered about a week after 14 December 2017"),
        ((), "2017-12-14", "GBP 4,899, in December 2017"),
        ((), "2017-12-14", "EUR 5,499, in December 2017"),
        (("--memory-gb", "128"), "2018-06-01", "Four equal modules fill all four sockets"),
        (("--mount", "vesa"), "2018-06-01", "zinc screws may shear"),
        ((), "2021-03-05", "From 5 March 2021 only the base model was left"),
        ((), "2021-03-18", "EUR 5,499, in March 2021"),
        ((), "2021-03-18", "JPY 555,800, in March 2021, before tax"),
    ],
)
def test_a_buyer_of_that_day_is_told(shared_cli: Cli, words: tuple[str, ...], day: str, note: str):
    assert note in shared_cli("order", "--date", day, *words, "--yes").stdout


def test_the_18_core_of_the_first_day_was_promised_for_january(shared_cli: Cli):
    done = shared_cli("order", "--date", "2017-12-14", "--cores", "18", "--yes")
    assert "promised for January 2018" in done.stdout
    done = shared_cli("order", "--date", "2018-02-01", "--cores", "18", "--yes")
    assert "January" not in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--date", "2017-12-13"), "it was sold from 2017-12-14 to 2021-03-18"),
        (("--date", "2021-03-19"), "it was sold from 2017-12-14 to 2021-03-18"),
        ((), "no day was given, and it was sold from 2017-12-14 to 2021-03-18"),
        (
            ("--date", "2019-03-18", "--memory-gb", "256"),
            "256 GB of DDR4-2666 ECC was sold from 2019-03-19 to 2021-03-04",
        ),
        (
            ("--date", "2019-03-18", "--graphics", "vega-64x"),
            "Radeon Pro Vega 64X was sold from 2019-03-19 to 2021-03-04",
        ),
        (
            ("--date", "2020-08-04", "--cores", "8"),
            "Intel Xeon W-2140B, 8 cores was sold from 2017-12-14 to 2020-08-03",
        ),
        (
            ("--date", "2021-03-05", "--cores", "14"),
            "Intel Xeon W-2170B, 14 cores was sold from 2017-12-14 to 2021-03-04",
        ),
        (("--date", "2021-03-05", "--ssd-tb", "2"), "was sold from 2017-12-14 to 2021-03-04"),
        (("--date", "2021-03-05", "--memory-gb", "64"), "was sold from 2017-12-14 to 2021-03-04"),
        (("--date", "2021-03-05", "--pointing", "both"), "was sold from 2017-12-14 to 2021-03-04"),
    ],
)
def test_what_was_not_sold_that_day_is_refused_with_the_dates(
    shared_cli: Cli, words: tuple[str, ...], says: str
):
    line = refused(shared_cli, *words)
    assert says in line
    assert "--any-date" in line


@pytest.mark.parametrize(
    ("words", "total", "note"),
    [
        (("--date", "2018-01-01", "--memory-gb", "256"), 10_199, "it is priced as of 2019-03-19"),
        (("--date", "2021-01-01", "--cores", "8"), 4999, "it is priced as of 2020-08-03"),
        (
            (
                "--date",
                "2013-06-10",
            ),
            4999,
            "it is priced as of 2017-12-14",
        ),
        (("--date", "2024-01-01", "--cores", "18"), 6599, "it is priced as of 2021-03-04"),
    ],
)
def test_any_date_takes_the_nearest_price_and_says_so(
    shared_cli: Cli, words: tuple[str, ...], total: int, note: str
):
    quote = quoted(shared_cli, "--any-date", *words)
    assert quote["total_usd"] == total
    assert any(note in each for each in quote["notes"])
    assert quote["spec"]["ordered"] == ""


def test_any_date_without_a_date_is_today(shared_cli: Cli):
    before = date.today()
    quote = quoted(shared_cli, "--any-date")
    assert before <= date.fromisoformat(quote["day"]) <= date.today()
    assert quote["spec"]["cores"] == 10


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--date", "2018-02-30"), "'2018-02-30' is no day; write it as YYYY-MM-DD"),
        (("--date", "2019-02-29"), "'2019-02-29' is no day; write it as YYYY-MM-DD"),
        (("--date", ""), "'' is no day; write it as YYYY-MM-DD"),
        (("--date", "2018-01-01", "--output", ""), "'' names no file; - is standard output"),
        (("--date", "20180228"), "'20180228' is no day; write it as YYYY-MM-DD"),
        (("--date", "2018-W09-3"), "'2018-W09-3' is no day; write it as YYYY-MM-DD"),
        (
            ("--date", "2021-03-10", "--pointing", "trackpad"),
            "instead of the mouse was sold from 2017-12-14 to 2021-03-04 (derived)",
        ),
        (("--date", "yesterday"), "write it as YYYY-MM-DD"),
        (("--date", "2018-01-01", "--cores", "12"), "'8', '10', '14', '18'"),
        (("--date", "2018-01-01", "--memory-gb", "much"), "'32', '64', '128', '256'"),
        (("--date", "2018-01-01", "--graphics", "rx580"), "'vega-64x'"),
        (("--date", "2018-01-01", "--mount", "wall"), "'stand', 'vesa'"),
        (("--date", "2018-01-01", "--colour", "white"), "--colour"),
        (("--date", "2018-01-01", "--output", "-", "--format", "json"), "the spec alone"),
        (("--date", "2018-01-01", "--output", "/nowhere/spec.toml"), "/nowhere/spec.toml"),
        (("--date", "2018-01-01", "--output", "/proc/spec.toml"), "/proc/spec.toml"),
        (("--date", "2018-01-01", "--output", "/tmp"), "choose another path"),
    ],
)
def test_a_wrong_word_of_an_order_is_one_line(shared_cli: Cli, words: tuple[str, ...], says: str):
    assert says in refused(shared_cli, *words)


def test_the_spec_alone_can_be_piped_on(shared_cli: Cli):
    done = shared_cli(
        "order", "--date", "2020-01-02", *ALL_2019, "--mount", "vesa", "--edition", "tiny",
        "--output", "-",
    )  # fmt: skip
    assert specs.parse(done.stdout, source="the order") == specs.Spec(
        cores=18,
        memory_gb=256,
        graphics="vega-64x",
        ssd_tb=4,
        mount="vesa",
        ordered="2020-01-02",
        edition="tiny",
    )


def test_a_file_is_written_whole_and_one_that_exists_is_kept(shared_cli: Cli, folder: Path):
    file = folder / "spec.toml"
    words = ("--date", "2018-01-01", "--output", str(file))
    done = shared_cli("order", *words, "--cores", "10")
    assert f"up NAME --spec {file}" in done.stdout
    assert specs.load(file) == specs.Spec(cores=10, ordered="2018-01-01")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert "that file exists" in refused(shared_cli, *words, "--cores", "14")
    assert specs.load(file).cores == 10
    with screen(shared_cli, *words) as terminal:
        status, text = terminal.end()
    assert status == REFUSED
    assert "Processor" not in text, "asked first, refused then"
    shared_cli("order", *words, "--cores", "14", "--yes")
    assert specs.load(file).cores == 14
    assert os.listdir(folder) == ["spec.toml"]


def test_on_a_terminal_it_asks_option_by_option(shared_cli: Cli, folder: Path):
    file = folder / "spec.toml"
    with screen(shared_cli, "--date", "2018-06-01", "--output", str(file)) as terminal:
        terminal.until("Processor [8]: ")
        terminal.type("12\n")
        terminal.until("not one of")
        terminal.until("Processor [8]: ")
        terminal.type("14\n")
        terminal.until("not now: 256 GB of DDR4-2666 ECC was sold from 2019-03-19 to 2021-03-04")
        terminal.until("Memory [32]: ")
        terminal.type("256\n")
        terminal.until("Memory [32]: ")
        terminal.type("64\n")
        for question in ("Graphics [vega-56]: ", "Storage [1]: ", "Pointing device [mouse]: "):
            terminal.until(question)
            terminal.type("\n")
        terminal.until("Mount [stand]: ")
        terminal.type("vesa\n")
        status, text = terminal.end()
    assert status == 0
    assert "$7,478" in text
    wanted = specs.Spec(cores=14, memory_gb=64, mount="vesa", ordered="2018-06-01")
    assert specs.load(file) == wanted


def test_questions_keep_off_standard_output(shared_cli: Cli, folder: Path):
    file = folder / "spec.toml"
    command = f"{ROOT / 'run'} order --date 2021-03-05 --output - > {file}"
    with Terminal(["sh", "-c", command], shared_cli.environment) as terminal:
        # Only the mount is left to be chosen.
        terminal.until("Mount [stand]: ")
        terminal.type("\n")
        status, text = terminal.end()
    assert status == 0
    assert "Processor [" not in text
    assert specs.load(file) == specs.Spec(cores=10, ordered="2021-03-05")


@pytest.mark.parametrize("key", [b"\x03", b"\x04"], ids=["ctrl-c", "ctrl-d"])
def test_whoever_leaves_at_a_question_has_ordered_nothing(
    shared_cli: Cli, folder: Path, key: bytes
):
    file = folder / "spec.toml"
    with screen(shared_cli, "--date", "2018-06-01", "--output", str(file)) as terminal:
        terminal.until("Processor [8]: ")
        terminal.type("18\n")
        terminal.until("Memory [32]: ")
        status, text = terminal.leave(key)
    assert status == INTERRUPTED, text
    assert "Traceback" not in text
    assert text.count("spacegray: ") == 1
    assert not os.listdir(folder)


def test_an_order_is_made_and_started_and_bears_its_day(cli: Cli, folder: Path):
    file = folder / "spec.toml"
    cli(
        "order", "--date", "2019-03-19", "--cores", "18", "--memory-gb", "256", "--graphics",
        "vega-64x", "--ssd-tb", "2", "--mount", "vesa", "--edition", "tiny", "--output", str(file),
    )  # fmt: skip
    cli(
        "up", "pro", "--spec", str(file), "--headless", "--yes", "--password-file", "-",
        stdin=PASSWORD.encode(),
    )  # fmt: skip
    facts = cli.show()
    assert facts["state"] == "running"
    ordered = facts["ordered"]
    assert (ordered["ordered"], ordered["mount"]) == ("2019-03-19", "vesa")
    assert (ordered["cores"], ordered["memory_gb"], ordered["ssd_tb"]) == (18, 256, 2)
    assert "W-2191B" in cli.shell("cat", "/proc/cpuinfo").stdout
    sectors = int(cli.shell("cat", "/sys/block/vda/size").stdout)
    assert sectors * SECTOR_BYTES == 2 * 10**12
    # The same order again is the same machine; another is refused.
    cli("up", "pro", "--spec", str(file), "--headless", "--yes")
    cli("order", "--date", "2019-03-20", "--output", str(file), "--yes")
    done = cli("up", "pro", "--spec", str(file), "--headless", "--yes", check=False)
    assert done.returncode == REFUSED
    assert "another spec" in done.stderr


@pytest.mark.parametrize("verb", ["up", "create"])
def test_a_spec_that_could_not_be_ordered_on_its_day_makes_nothing(
    cli: Cli, folder: Path, verb: str
):
    file = folder / "spec.toml"
    file.write_text('edition = "tiny"\ngraphics = "vega-64x"\nordered = "2018-01-01"\n')
    done = cli(verb, "pro", "--spec", str(file), "--yes", check=False)
    assert done.returncode == REFUSED
    assert "Radeon Pro Vega 64X was sold from 2019-03-19 to 2021-03-04" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not cli.paths.workstation("pro").folder.exists()


def test_create_takes_an_order_from_a_pipe(cli: Cli):
    made = cli("order", "--any-date", "--cores", "8", "--edition", "tiny", "--output", "-").stdout
    cli("create", "pro", "--spec", "-", "--yes", stdin=made.encode())
    kept = specs.load(cli.paths.workstation("pro").spec)
    assert kept == specs.Spec(cores=8, edition="tiny")
