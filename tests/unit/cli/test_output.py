"""What the command line prints: events in words, decimal sizes, nothing that a guest made up."""

import io

import pytest
from rich.console import Console

from spacegray.cli import output


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (512 << 20, "536.9 MB"), (10**12, "1.0 TB")],
)
def test_sizes_are_decimal(count, text):
    assert output.size(count) == text


def test_a_broken_link_says_what_it_stands_for():
    line = output.event_line(
        {"kind": "link", "link": "kernel", "status": "failed", "detail": "refused", "seconds": 4.2}
    )
    assert line is not None
    assert "FAILED" in line
    assert "refused" in line
    assert "Secure Boot accepted" in line


def test_events_of_no_interest_print_nothing():
    assert output.event_line({"kind": "progress"}) is None
    assert output.event_line({"kind": "state", "state": "off", "reason": "shut down"}) == (
        "off: shut down"
    )


def test_the_guests_text_is_not_taken_for_markup(capsys):
    output.table(("a", "b"), [("[red]x[/red]", None)])
    assert "[red]x[/red]" in capsys.readouterr().out


def test_a_pipe_gets_plain_lines_and_not_too_many(capsys):
    with output.Bars() as bars:
        for done in range(101):
            bars.step("building", done, 100)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "building: 0 %"
    assert lines[-1] == "building: 100 %"
    assert len(lines) == output.PLAIN_STEPS + 1


def test_on_a_narrow_terminal_no_cell_of_a_table_is_cut_off(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(output, "console", Console(file=text, width=30, highlight=False))
    output.table(("sold", "price"), [("2017-12-14 to 2019-03-18", "$600 (unconfirmed)")] * 2)
    said = "".join(text.getvalue().split())
    assert "…" not in said
    assert sum(said.count(part) for part in ("2019-03-18", "(unconfirmed)")) == 4
