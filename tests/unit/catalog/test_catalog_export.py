"""What is exported keeps to its published schema, and the schema would notice if it did not."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from spacegray.catalog import export
from spacegray.catalog.figures import MARKS
from spacegray.catalog.things import KINDS

DOCS = Path(__file__).parents[3] / "docs"


def of_kind(value: object) -> Iterator[dict[str, Any]]:
    """Everything in a document that carries a mark."""
    if isinstance(value, dict):
        if "mark" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from of_kind(each)


def as_row_schema(table: dict[str, Any]) -> dict[str, Any]:
    """A Table Schema as the JSON Schema of one row, all of whose values are text."""
    properties, required = {}, []
    for field in table["fields"]:
        rule: dict[str, Any] = {"type": "string"}
        constraints = field["constraints"]
        if constraints.get("required"):
            rule["minLength"] = 1
        if "pattern" in constraints:
            rule["pattern"] = f"^({constraints['pattern']})$"
        if "enum" in constraints:
            rule["enum"] = constraints["enum"]
        if field["type"] == "date":
            rule = {"anyOf": [{"const": ""}, {"type": "string", "format": "date"}]}
        if field["format"] == "uri":
            rule = {"anyOf": [{"const": ""}, {"type": "string", "pattern": "^https?://"}]}
        properties[field["name"]] = rule
        required.append(field["name"])
    return {"properties": properties, "required": required, "additionalProperties": False}


def checker(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


@pytest.fixture
def document() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(export.as_json())
    return content


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("catalog.schema.json", export.json_schema()),
        ("catalog.csv-schema.json", export.csv_schema()),
    ],
)
def test_the_published_schema_is_that_of_the_code(name, schema):
    assert json.loads((DOCS / name).read_text()) == schema


def test_the_document_keeps_to_its_schema(document):
    checker(export.json_schema()).validate(document)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document["machines"][0]["dates"][0].update(mark="certain"),
        lambda document: document["machines"][0]["dates"][0].update(source=""),
        lambda document: document["machines"][0]["dates"][0].pop("source"),
        lambda document: document["machines"][0]["dates"][0].update(day="last week"),
        lambda document: document["options"][0]["figures"]["cores"].pop("value"),
        lambda document: document["options"][0].update(kind="keyboards"),
        lambda document: document["prices"]["base"][0]["price"].update(source=""),
        lambda document: document["events"][0].update(source=""),
        lambda document: document.update(version=2),
        lambda document: document.update(more=1),
    ],
)
def test_a_spoiled_document_does_not_keep_to_it(document, spoil):
    spoil(document)
    with pytest.raises(jsonschema.ValidationError):
        checker(export.json_schema()).validate(document)


def test_every_source_that_is_named_is_in_the_document(document):
    known = {source["id"] for source in document["sources"]}
    named = {claim["source"] for claim in of_kind(document)} - {""}
    assert named
    assert named <= known


def test_the_csv_keeps_to_its_schema():
    rows = list(csv.DictReader(io.StringIO(export.as_csv(), newline="")))
    schema = export.csv_schema()
    assert list(rows[0]) == [field["name"] for field in schema["fields"]]
    check = checker(as_row_schema(schema))
    for row in rows:
        check.validate(row)
        assert row["source"] or row["mark"] == "unconfirmed"
        assert None not in row


@pytest.mark.parametrize(
    "wrong",
    [{"mark": "certain"}, {"subject": ""}, {"since": "soon"}, {"source_url": "ftp:x"}, {"x": "1"}],
)
def test_the_csv_schema_would_notice_a_wrong_row(wrong):
    row = next(csv.DictReader(io.StringIO(export.as_csv(), newline="")))
    with pytest.raises(jsonschema.ValidationError):
        checker(as_row_schema(export.csv_schema())).validate({**row, **wrong})


def test_every_statement_of_the_document_is_a_line_of_the_csv(document):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(), newline="")))
    # A remark about several options is a line for each of them.
    several = sum(max(len(each["values"]), 1) - 1 for each in document["prices"]["remark"])
    assert len(rows) == len(list(of_kind(document))) + several
    lines = {(row["subject"], row["property"], row["value"], row["mark"]) for row in rows}
    for thing in (*document["machines"], *document["options"]):
        for name, figure in thing["figures"].items():
            value = figure["value"]
            text = str(value).lower() if isinstance(value, bool) else str(value)
            assert (thing["id"], name, text, figure["mark"]) in lines


def test_a_line_says_what_and_where_from():
    rows = list(csv.DictReader(io.StringIO(export.as_csv(), newline="")))
    (clock,) = (
        row for row in rows if (row["subject"], row["property"]) == ("w-2150b", "turbo_clock")
    )
    assert (clock["value"], clock["unit"], clock["mark"]) == ("4.5", "GHz", "confirmed")
    assert clock["source_url"] == "https://www.waynedixon.com/tag/imacpro/"
    (soldered,) = (
        row for row in rows if (row["subject"], row["property"]) == ("vega-64x", "soldered")
    )
    assert soldered["value"] == "true"
    (sale,) = (row for row in rows if (row["subject"], row["property"]) == ("vega-64x", "sold"))
    assert (sale["since"], sale["until"]) == ("2019-03-19", "2021-03-04")


def test_the_document_about_it_names_every_key_column_and_mark(document):
    text = (DOCS / "catalog.md").read_text()
    for word in (*document, *export.Line._fields, *MARKS, *KINDS, *document["prices"]):
        assert f"`{word}`" in text, word
