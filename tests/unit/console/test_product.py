"""Guards: the routes about the product say what the catalogue and the bench say, and no more.

What is asked is not believed: whatever is no order is refused in the three parts of all errors.
"""

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from spacegray import spec
from spacegray.catalog import order, sale, timeline
from spacegray.catalog.order import Wish
from spacegray.console.app import PAGES
from spacegray.console.guard import OPEN_PATH
from spacegray.console.limits import QUERY_VALUE_LIMIT_CHARACTERS
from spacegray.errors import SpacegrayError
from spacegray.service import parts
from spacegray.service.plan import plan
from tests.support.console import FakeMachines, Serving

DAYS = ("2017-12-14", "2019-03-18", "2019-03-19", "2020-08-04", "2021-03-05", "2021-03-18")
QUOTE = "/api/catalog/quote"


@pytest.mark.parametrize("address", PAGES)
def test_every_page_is_served(owner: httpx.Client, address: str):
    answer = owner.get(address)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert 'aria-current="page"' in answer.text


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("any_date", [False, True])
def test_offers_are_those_of_the_day(owner: httpx.Client, day: str, any_date: bool):
    asked = {"date": day, "any_date": str(int(any_date))}
    told = owner.get("/api/catalog/offers", params=asked).json()["offers"]
    assert told == msgspec.to_builtins(sale.offers(date.fromisoformat(day), any_date=any_date))
    sold = {(each["option"], each["value"]) for each in told if each["available"]}
    assert (("memory_gb", 256) in sold) == (any_date or "2019-03-19" <= day < "2021-03-05")


def test_a_quote_says_the_share_that_is_not_confirmed(owner: httpx.Client):
    asked = {"date": "2017-12-14", "cores": "18", "memory_gb": "64", "mount": "vesa"}
    told = owner.get(QUOTE, params=asked).json()
    wish = Wish(cores=18, memory_gb=64, mount="vesa")
    assert told == msgspec.to_builtins(order.quote(wish, date(2017, 12, 14)))
    unsure = [each["price_usd"] for each in told["lines"] if each["price_usd"]]
    unsure = [price["value"] for price in unsure if price["mark"] == "unconfirmed"]
    assert told["unconfirmed_usd"] == sum(unsure) > 0
    assert told["unconfirmed_share"] == pytest.approx(sum(unsure) / told["total_usd"])


def test_what_was_not_sold_that_day_is_refused_with_the_dates(owner: httpx.Client):
    asked = {"date": "2018-01-01", "memory_gb": "256"}
    answer = owner.get(QUOTE, params=asked)
    assert answer.status_code == 400
    assert set(answer.json()) == {"doing", "stopped_by", "next_step"}
    assert "2019-03-19 to 2021-03-04" in answer.json()["stopped_by"]
    assert owner.get("/api/catalog/spec.toml", params=asked).status_code == 400
    assert owner.get(QUOTE, params={**asked, "any_date": "1"}).status_code == 200


def test_without_a_date_any_date_is_that_of_today(owner: httpx.Client):
    assert owner.get(QUOTE, params={"any_date": "1"}).json()["day"] == date.today().isoformat()


@pytest.mark.parametrize(
    "query",
    [
        "",
        "date=",
        "date=2017-13-01",
        "date=2017-02-30",
        "date=2017-W50-4",
        "date=20171214",
        "date=0000-00-00",
        "date=2017-12-14&any_date=2",
        "date=2017-12-14&any_date=true",
        "date=2017-12-14&date=2019-03-19",
        "date=2017-12-14&cores=9",
        "date=2017-12-14&cores=8.0",
        "date=2017-12-14&cores=",
        "date=2017-12-14&graphics=vega-20",
        "date=2017-12-14&mount=wall",
        "date=2017-12-14&user=root",
        "date=2017-12-14&__class__=1",
        f"date=2017-12-14&graphics={'v' * (QUERY_VALUE_LIMIT_CHARACTERS + 1)}",
        f"date=2017-12-14&{'v' * (QUERY_VALUE_LIMIT_CHARACTERS + 1)}=1",
    ],
)
def test_what_is_no_order_is_refused(owner: httpx.Client, query: str):
    for path in (QUOTE, "/api/catalog/spec.toml"):
        answer = owner.get(f"{path}?{query}")
        assert answer.status_code == 400, path
        assert set(answer.json()) == {"doing", "stopped_by", "next_step"}
    assert owner.get(f"{QUOTE}?date=2017-12-14").status_code == 200, "the control"


def test_the_spec_is_one_that_up_takes(owner: httpx.Client):
    asked = {"date": "2020-08-04", "memory_gb": "128", "graphics": "vega-64x", "mount": "vesa"}
    answer = owner.get("/api/catalog/spec.toml", params=asked)
    assert answer.headers["Content-Disposition"] == "attachment"
    made = spec.parse(answer.text, source="the console's")
    assert (made.cores, made.memory_gb, made.graphics, made.ssd_tb) == (10, 128, "vega-64x", 1)
    assert (made.mount, made.ordered) == ("vesa", "2020-08-04")
    order.check(made, source="the console's")


def test_the_timeline_has_every_event_with_its_source(owner: httpx.Client):
    told = owner.get("/api/catalog/timeline").json()
    assert told["events"] == msgspec.to_builtins(timeline.entries())
    assert {product for each in told["events"] for product in each["products"]} <= {
        each["id"] for each in told["lanes"]
    }
    assert all(each["source_title"] or each["mark"] == "unconfirmed" for each in told["events"])


def test_every_part_has_a_plan(owner: httpx.Client):
    told = owner.get("/api/service/parts").json()["parts"]
    assert [each["id"] for each in told] == [each.id for each in parts.parts()]
    for each in told:
        answer = owner.get(f"/api/service/plans/{each['id']}")
        assert answer.json() == msgspec.to_builtins(plan(each["id"]))


def test_a_part_that_there_is_none_of_is_not_found(owner: httpx.Client):
    answer = owner.get("/api/service/plans/memry")
    assert answer.status_code == 404
    assert "memory" in answer.json()["next_step"]


def test_the_document_has_every_address_and_no_other(serving: Serving):
    text = (Path(__file__).parents[3] / "docs" / "console.md").read_text()
    named = set(re.findall(r"^\| `(?:GET |POST )?(/[^`]*)`", text, re.M))
    application = serving.console.guard._app
    assert isinstance(application, Starlette)
    there_are = {getattr(route, "path", "") for route in application.routes}
    assert named == there_are - {OPEN_PATH, "/page"}
    assert f"longer than {QUERY_VALUE_LIMIT_CHARACTERS} characters" in text


def test_a_service_record_is_passed_on_as_it_is(owner: httpx.Client, machines: FakeMachines):
    machines["pro"].record = {"verified": False, "wrong": ["an entry is missing"]}
    assert owner.get("/api/workstations/pro/service").json() == machines["pro"].record
    machines["pro"].refusal = SpacegrayError("asking the chip", "it is sealed", "power it on")
    refused = owner.get("/api/workstations/pro/service")
    assert refused.status_code == 409
    assert refused.json()["stopped_by"] == "it is sealed"
    assert owner.get("/api/workstations/nobody/service").status_code == 404


def test_workstations_may_have_the_names_of_pages(tmp_path: Path):
    names = ("api", "open", "order", "page", "service", "timeline")
    serving = Serving(FakeMachines(tmp_path, *names))
    try:
        with httpx.Client(base_url=serving.origin) as client:
            assert "url=/#/order" in client.get(serving.address("order")).text
            for name in names:
                assert client.get(f"/api/workstations/{name}").json()["name"] == name
                assert client.get(f"/api/workstations/{name}/service").json()["name"] == name
            for address in PAGES:
                assert client.get(address).headers["Content-Type"].startswith("text/html")
    finally:
        serving.close()


def test_the_console_never_loads_the_plot_library():
    """It would double what a confined process has of code, and take a second."""
    program = (
        "import sys\n"
        "from spacegray.console import app\n"
        "from spacegray.catalog import timeline\n"
        "from spacegray.service.plan import plan\n"
        "timeline.entries(), plan('memory')\n"
        "assert 'networkx' in sys.modules, 'the control'\n"
        "sys.exit('matplotlib' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
