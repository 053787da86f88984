"""The parts of the machine: every statement has a mark and a source, a wrong file does not pass."""

import msgspec
import pytest

from spacegray.catalog.figures import MARKS
from spacegray.errors import UsageError
from spacegray.service import parts as machine
from spacegray.service.parts import claims, find, load, parts, read

FILE = machine.DATA.read_text(encoding="utf-8")

HELD = {
    "display", "display-tape", "display-cables", "bottom-tape", "speakers", "blower",
    "power-supply", "logic-board", "memory", "ssd", "ssd-screws", "ssd-seals", "processor",
    "heatsink", "graphics", "wireless", "stand", "stand-screws", "vesa-mount", "card-reader",
    "ports", "microphones", "camera", "antennas", "security-chip",
}  # fmt: skip
"""What the machine is known to consist of, written down apart from the data file."""

COUNTS = {
    "memory": 4, "ssd": 2, "power-supply-screws": 4, "mount-screws": 5, "microphones": 4,
    "speakers": 2,
}  # fmt: skip

SOLDERED = {"graphics", "wireless", "security-chip", "ports", "card-reader"}


def test_the_machine_has_all_that_is_known_of_it():
    assert {part.id for part in parts()} >= HELD
    assert {part.id: part.count.value for part in parts() if part.count} == COUNTS
    assert {part.id for part in parts() if part.soldered_to} == SOLDERED
    assert {part.soldered_to for part in parts() if part.soldered_to} == {"logic-board"}


def test_every_statement_has_a_mark_and_a_source():
    made = load()
    said = list(claims(made))
    assert len(said) > 150
    for claim in said:
        assert claim.mark in MARKS
        if claim.mark == "unconfirmed":
            assert claim.source == "", f"read somewhere, so not unconfirmed: {claim}"
        else:
            assert made.sources[claim.source].url.startswith(("http://", "https://")), claim
        if claim.mark == "derived":
            assert claim.note, claim


def test_every_source_of_the_file_is_used():
    own = {source.id for source in msgspec.toml.decode(FILE, type=machine._File).source}
    assert own <= {claim.source for claim in claims(load())}


def test_every_supply_is_used():
    used = {
        each
        for part in parts()
        for each in (*part.tools, *(part.back_tools or ()), *part.consumables, *part.after_tools)
    }  # fmt: skip
    assert used == set(load().supplies)


def test_each_part_is_found_by_each_of_its_names():
    for part in parts():
        for name in (part.id, *part.aliases, part.id.upper(), part.id.replace("-", " ")):
            assert find(name) is part


@pytest.mark.parametrize(
    ("wrong", "offered"),
    [
        ("memry", "memory"),
        ("ssds-", "ssd"),
        ("powersupply", "power-supply"),
        ("stnad", "stand"),
        ("procesor", "processor"),
        ("gpus", "graphics"),
        ("logicboard", "logic-board"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line_with_names_like_it(wrong, offered):
    with pytest.raises(UsageError) as caught:
        find(wrong)
    assert caught.value.exit_status == 2
    said = str(caught.value)
    assert repr(wrong) in said
    assert offered in said.rpartition("did you mean ")[2]
    assert "\n" not in said


@pytest.mark.parametrize("wrong", ["", "quux", "\n", "x" * 10_000])
def test_a_name_like_none_is_sent_to_the_list(wrong):
    with pytest.raises(UsageError, match="see `service parts`") as caught:
        find(wrong)
    assert "\n" not in str(caught.value)


def test_of_a_wrong_name_no_more_is_repeated_than_can_be_read():
    with pytest.raises(UsageError) as caught:
        find("x" * 5000)
    assert f"there is no part '{'x' * machine.ECHO_LIMIT_CHARACTERS}…'" in str(caught.value)
    assert all(
        len(name) < machine.ECHO_LIMIT_CHARACTERS
        for part in parts()
        for name in (part.id, *part.aliases)
    )


@pytest.mark.parametrize(
    ("right", "wrong", "says"),
    [
        ('mark = "derived"', 'mark = "certain"', "certain"),
        ('source = "y-tt"', 'source = "hearsay"', "hearsay"),
        ('\nsource = "y-tt"\n', "\n", "names its source"),
        ('part = "display"', 'part = "windscreen"', "windscreen"),
        ('tools = ["spudger"]', 'tools = ["hammer"]', "hammer"),
        ('back_tools = ["wrist-strap"]', 'back_tools = ["hammer"]', "hammer"),
        ('carries = ["memory"', 'carries = ["luggage"', "luggage"),
        ('soldered_to = "logic-board"', "", "either soldered or"),
        ('id = "stand"', 'id = "display"', "stand twice: display"),
        ('aliases = ["ram"', 'aliases = ["ssd"', "stand twice: ssd"),
        ('id = "spudger"', 'id = "wrist-strap"', "stand twice: wrist-strap"),
        ('id = "ifixit-news"', 'id = "y-tt"', "stand twice: y-tt"),
        ('part = "stand-screws"', 'part = "display"', "its owner may not take off"),
        ('who = "owner"', 'who = "anybody"', "anybody"),
        ('kind = "seal"', "", "kind"),
        ('kind = "seal"', 'kind = "seal"\ncolour = "red"', "colour"),
    ],
)
def test_a_wrong_file_does_not_pass(right, wrong, says):
    assert right in FILE
    with pytest.raises((ValueError, msgspec.ValidationError), match=says):
        read(FILE.replace(right, wrong, 1).encode())


def test_the_file_itself_passes():
    assert read(FILE.encode()) == load()


@pytest.mark.parametrize(
    ("words", "mark"),
    [
        # As the catalogue's own figures about the same, and never surer than those.
        ("new ones are paired by a restore", "secondary"),
        ("Pair the modules: restore", "secondary"),
        ("carry no controller", "secondary"),
        ("is the controller of the SSD", "confirmed"),
        ("guide to the memory", "unconfirmed"),
    ],
)
def test_what_is_only_retold_is_marked_so(words, mark):
    facts = (fact for fact in claims(load()) if isinstance(fact, machine.Fact))
    assert [fact.mark for fact in facts if words in fact.text] == [mark]


def test_how_sure_it_is_that_something_is_soldered():
    marks = {part.id: part.mark for part in parts() if part.soldered_to}
    assert (marks["graphics"], marks["wireless"]) == ("confirmed", "secondary")
    assert marks["security-chip"] == marks["card-reader"] == "derived"
