"""The data files are whole: every id is known, every doubtful figure is marked as such."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from spacegray.catalog import data, sale, things
from spacegray.catalog.data import Source
from spacegray.catalog.figures import Figure
from spacegray.catalog.order import Pointing
from spacegray.errors import UsageError
from spacegray.spec import CORES, MEMORY_GB, SSD_TB, Graphics, Mount

SOURCE = Path(data.__file__).parents[1]

NOT_KNOWN = [
    # What no public source was found for: never to be shown as a fact.
    ("imac-pro", "emc_number"),
    ("imac-pro", "launch_price_of_everything"),
    ("imac-pro", "storage_write_speed"),
    ("imac-pro", "storage_read_speed"),
    ("imac-pro", "ethernet_rates"),
    ("imac-pro", "ethernet_chip"),
    ("imac-pro", "height"),
    ("imac-pro", "width"),
    ("imac-pro", "stand_depth"),
    ("imac-pro", "weight"),
    ("w-2140b", "power"),
    ("w-2150b", "power"),
    ("w-2170b", "power"),
    ("w-2170b", "turbo_clock"),
    ("w-2191b", "power"),
    ("vega-56", "single_precision"),
    ("vega-64x", "single_precision"),
    ("vega-64x", "bandwidth"),
    ("vega-64x", "compute_units"),
    ("vega-64x", "stream_processors"),
    ("vega-64x", "memory"),
    ("mount-vesa", "pattern"),
    ("mount-vesa", "weight_limit"),
]
RETOLD = [
    ("imac-pro", "price_of_everything_in_2019"),
    ("imac-pro", "security_chip_kind"),
    ("imac-pro", "security_chip_memory"),
    ("imac-pro", "storage_module_controller"),
    ("imac-pro", "storage_pairing"),
    ("imac-pro", "wireless"),
    ("imac-pro", "bluetooth"),
    ("imac-pro", "teardown_steps"),
    ("w-2191b", "turbo_clock"),
]
COUNTED = [
    (option, figure)
    for option in ("w-2140b", "w-2150b", "w-2170b", "w-2191b")
    for figure in ("threads", "l3_cache", "l2_and_l3_cache")
]


@pytest.mark.parametrize(
    ("name", "figure", "mark"),
    [
        *((*each, "unconfirmed") for each in NOT_KNOWN),
        *((*each, "secondary") for each in RETOLD),
        *((*each, "derived") for each in COUNTED),
    ],
)
def test_what_is_doubtful_is_marked_so(name, figure, mark):
    assert things.find(name).figures[figure].mark == mark


@pytest.mark.parametrize(
    ("choice", "values"),
    [
        ("cores", CORES),
        ("memory_gb", MEMORY_GB),
        ("graphics", get_args(Graphics)),
        ("ssd_tb", SSD_TB),
        ("pointing", get_args(Pointing)),
        ("mount", get_args(Mount)),
    ],
)
def test_there_is_an_option_for_every_value_of_a_spec_and_no_other(choice, values):
    options = [each for each in data.load().options if each.choice == choice]
    assert [each.value for each in options] == list(values)
    assert data.load().option(choice, values[0]) is options[0]
    with pytest.raises(KeyError):
        data.load().option(choice, "none")


def test_every_processor_adds_up():
    for option in data.load().options:
        if option.kind == "processors":
            value = {name: figure.value for name, figure in option.figures.items()}
            assert value["cores"] == option.value
            assert value["threads"] == 2 * int(value["cores"])
            # One megabyte of L2 a core.
            assert value["l2_and_l3_cache"] == float(value["l3_cache"]) + int(value["cores"])


def test_every_source_is_used_and_can_be_looked_up():
    used = "".join(path.read_text() for path in SOURCE.rglob("data/*.toml"))
    for id_, source in data.load().sources.items():
        assert f'source = "{id_}"' in used, f"nothing names the source {id_}"
        assert re.match(r"https?://[\w.-]+/", source.url) or source.note


def test_every_machine_has_a_beginning_and_says_what_it_is():
    for machine in data.load().machines:
        assert {"on sale", "announced"} & {each.what for each in machine.dates}, machine.id
        assert machine.about
        assert {"form", "launch_price", "security_chip"} & set(machine.figures)


def test_a_source_without_address_says_why():
    with pytest.raises(ValueError, match="neither address nor note"):
        Source(id="x", title="x")


def test_a_figure_may_not_name_a_source_that_is_unknown():
    catalog = data.load()
    wrong = msgspec.structs.replace(catalog.machines[0].dates[0], source="hearsay")
    machine = msgspec.structs.replace(catalog.machines[0], dates=[wrong])
    with pytest.raises(ValueError, match="no source hearsay"):
        data.check(msgspec.structs.replace(catalog, machines=[machine]), len(catalog.sources))


def test_two_things_or_sources_may_not_share_an_id():
    catalog = data.load()
    twice = msgspec.structs.replace(catalog, options=[*catalog.options, catalog.options[0]])
    with pytest.raises(ValueError, match="two things"):
        data.check(twice, len(catalog.sources))
    with pytest.raises(ValueError, match="two sources"):
        data.check(catalog, len(catalog.sources) + 1)


def test_an_event_may_not_name_a_product_that_is_unknown():
    catalog = data.load()
    event = msgspec.structs.replace(catalog.events[0], products=["newton"])
    with pytest.raises(ValueError, match="newton"):
        data.check(msgspec.structs.replace(catalog, events=[event]), len(catalog.sources))


def test_a_file_holds_its_own_tables_alone():
    with pytest.raises(ValueError, match="alone"):
        data.read_list("machines.toml", "option", data.Option)


def test_an_unknown_field_is_refused():
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({"value": 1, "mark": "unconfirmed", "certainty": 1}, Figure)


@pytest.mark.parametrize("name", ["imac-pro", "iMac Pro", "IMAC-PRO", "Radeon Pro Vega 64"])
def test_things_are_found_by_id_and_by_name(name):
    assert things.find(name).id in ("imac-pro", "vega-64")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mac-pro", "mac-pro-2013 or mac-pro-2019"),
        ("mac-studios", "mac-studio"),
        ("w-2150", "w-2150b"),
        ("macintosh-portable", "catalog list"),
        ("", "catalog list"),
    ],
)
def test_a_wrong_name_is_told_what_comes_close(name, hint):
    with pytest.raises(UsageError) as refused:
        things.find(name)
    assert hint in str(refused.value)


def test_what_is_known_of_the_retail_processors_alone_is_not_confirmed_of_these():
    retail = {
        (thing.id, name)
        for thing in things.everything()
        for name, figure in thing.figures.items()
        if figure.source == "techreport-xeon-w" and figure.mark == "confirmed"
    }
    assert retail == set()
    assert things.find("imac-pro").figures["pcie_lanes"].mark == "derived"
    assert things.find("w-2140b").figures["socket"].mark == "derived"


def test_the_prices_of_a_thing_are_those_of_the_sale():
    (first, *_), *_ = things.prices(things.find("imac-pro"))
    assert first.value == 4999
    assert [price.value for price, *_ in things.prices(things.find("w-2191b"))] == [2400, 1600]
    assert things.prices(things.find("mac-studio")) == []
    counted = sum(len(things.prices(thing)) for thing in things.everything())
    known = sale.load()
    priced = [each for each in known.price if each.price is not None]
    assert counted == len(known.base) + len(known.elsewhere) + len(priced)


def test_a_comparison_has_a_column_for_each_and_a_line_for_all_that_one_of_them_has():
    chosen = [things.find(name) for name in ("imac-pro", "mac-studio", "vega-64x")]
    table = dict(things.compare(chosen))
    assert table["max cores"] == ["18", "20", things.NOTHING]
    assert table["weight"] == ["9.7 kg (unconfirmed)", things.NOTHING, things.NOTHING]
    assert table["bandwidth"] == [things.NOTHING, things.NOTHING, "512 GB/s (unconfirmed)"]
    assert table["changed"][0] == "2019-03-19; 2020-08-04"
    order = list(table)
    assert order.index("replaced") < order.index("price") < order.index("form")
    names = {things.label(name) for thing in chosen for name in thing.figures}
    assert names <= set(table)
