"""What the pages ask about the product: orders of any day, the timeline, plans of repairs.

All of it is read from the package's own data, which the confined console may read; it concerns no
workstation, and needs no porter. Trusts nothing of a query: an unknown key, a value that is none of
those there are, or one that is too long is refused before anything is looked up.
"""

import re
from collections.abc import Callable
from datetime import date
from typing import Any, Literal, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spacegray import spec
from spacegray.catalog import sale, timeline
from spacegray.catalog.order import Quote, Wish, quote, spec_of
from spacegray.console.errands import describe
from spacegray.console.limits import QUERY_VALUE_LIMIT_CHARACTERS
from spacegray.errors import UsageError
from spacegray.service import parts

T = TypeVar("T")

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


class Day(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query about one day's offers: `date` is ISO, or empty for today's with `any_date`."""

    date: str = ""
    any_date: Literal["0", "1"] = "0"


def routes() -> list[Route]:
    """The routes, to be put behind the guard."""
    return [
        Route("/api/catalog/offers", _offers, methods=["GET"]),
        Route("/api/catalog/quote", _quote, methods=["GET"]),
        Route("/api/catalog/spec.toml", _spec, methods=["GET"]),
        Route("/api/catalog/timeline", _timeline, methods=["GET"]),
        Route("/api/service/parts", _parts, methods=["GET"]),
        Route("/api/service/plans/{part}", _plan, methods=["GET"]),
    ]


async def _offers(request: Request) -> Response:
    def work() -> dict[str, Any]:
        day, any_date = _day(_fields(request.query_params))
        return {"offers": sale.offers(day, any_date=any_date)}

    return await _answer(work)


async def _quote(request: Request) -> Response:
    return await _answer(lambda: _asked_quote(request.query_params))


async def _spec(request: Request) -> Response:
    def work() -> str:
        return spec.dump(spec_of(_asked_quote(request.query_params)))

    try:
        text = await run_in_threadpool(work)
    except UsageError as error:
        return _wrong(error)
    # Without a name in it the page may name the file; else it is called as the address ends.
    headers = {"Content-Disposition": "attachment"}
    return Response(text, media_type="application/toml", headers=headers)


async def _timeline(_: Request) -> Response:
    return await _answer(lambda: {"events": timeline.entries(), "lanes": timeline.lanes()})


async def _parts(_: Request) -> Response:
    names = ("id", "name", "kind", "aliases")
    return await _answer(
        lambda: {"parts": [{name: getattr(each, name) for name in names} for each in parts.parts()]}
    )


async def _plan(request: Request) -> Response:
    """A part that there is none of is an address that there is none of: 404."""

    def work() -> Any:
        # Its graph library takes a moment, and most consoles are never asked.
        from spacegray.service.plan import plan

        return msgspec.to_builtins(plan(request.path_params["part"]))

    return JSONResponse(await run_in_threadpool(work))


async def _answer(work: Callable[[], Any]) -> Response:
    """What `work` returns, as JSON; it runs in a thread, since the first one reads files."""
    try:
        return JSONResponse(msgspec.to_builtins(await run_in_threadpool(work)))
    except UsageError as error:
        return _wrong(error)


def _wrong(error: UsageError) -> Response:
    """A query that is wrong; a thing that was not sold that day is one, too."""
    return JSONResponse(describe(error), 400)


def _asked_quote(asked: QueryParams) -> Quote:
    fields = _fields(asked)
    about_day = {key: fields.pop(key) for key in Day.__struct_fields__ if key in fields}
    day, any_date = _day(about_day)
    return quote(_converted(fields, Wish), day, any_date=any_date)


def _fields(asked: QueryParams) -> dict[str, str]:
    """The query's fields, each once and of a length that can be looked at."""
    fields = dict(asked)
    if len(asked.multi_items()) != len(fields):
        raise _unreadable("a field is there twice")
    if any(len(text) > QUERY_VALUE_LIMIT_CHARACTERS for pair in fields.items() for text in pair):
        raise _unreadable(f"a field is longer than {QUERY_VALUE_LIMIT_CHARACTERS} characters")
    return fields


def _day(fields: dict[str, str]) -> tuple[date, bool]:
    """The day that is asked about, and whether things not sold then are wanted all the same."""
    asked = _converted(fields, Day)
    any_date = asked.any_date == "1"
    if not asked.date and any_date:
        return date.today(), any_date
    # Without the pattern other forms of ISO 8601 would be taken, weeks among them.
    if not _DAY.fullmatch(asked.date):
        raise _unreadable("the date is none")
    try:
        return date.fromisoformat(asked.date), any_date
    except ValueError as error:
        raise _unreadable(f"the date is none: {error}") from None


def _converted(fields: dict[str, str], kind: type[T]) -> T:
    """The fields as what they are to be; `strict=False` reads the numbers in them."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _unreadable(str(error)) from None


def _unreadable(stopped_by: str) -> UsageError:
    return UsageError("reading the order", stopped_by, "give a date like 2017-12-14, and options")
