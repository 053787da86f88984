"""`service plan` and `service parts` as somebody at the bench uses them."""

import json
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import Cli


def test_a_plan_for_the_memory_says_all_that_is_asked_of_it(shared_cli: Cli):
    said = shared_cli("service", "plan", "memory").stdout
    assert "Exchange the memory" in said
    assert "authorised provider" in said
    for name in ("Display", "Speakers", "Twin blower", "Power supply", "Logic board", "Memory"):
        assert f" {name}: " in said
    assert "new set of adhesive strips" in said
    assert "opening wheel" in said
    assert "(unconfirmed)" in said
    assert "https://" in said


def test_the_stand_needs_nothing_inside(shared_cli: Cli):
    made = json.loads(shared_cli("service", "plan", "stand", "--format", "json").stdout)
    assert made["who"] == "owner"
    assert [step["part"] for step in made["steps"]] == ["mains-cable", "stand-screws", "stand"]
    risks = " ".join(fact["text"] for fact in made["risks"])
    assert "zinc" in risks
    assert "does not support" in risks


def test_the_ssd_says_what_is_lost_and_what_pairs_it(shared_cli: Cli):
    said = shared_cli("service", "plan", "ssd", "--format", "checklist").stdout
    assert "- [ ] Make a backup: everything on the disk will be gone." in said
    assert "restore the machine from a second Mac, which erases everything" in said
    assert "Tamper stickers" in said


def test_the_display_is_looked_at_before_its_tape_is_put_back(shared_cli: Cli):
    for name in ("memory", "ssd", "logic-board"):
        said = shared_cli("service", "plan", name, "--format", "checklist").stdout
        together = said.partition("\n## Put together\n")[2].partition("\n## ")[0]
        check = together.index("Before the new tape closes it: ")
        assert check < together.index("Press the display on along its edges.")
        assert said.count("Before the new tape closes it") == 1
        assert "opening wheel" not in together


def test_what_is_soldered_goes_with_the_logic_board(shared_cli: Cli):
    said = shared_cli("service", "plan", "gpu").stdout
    assert "Exchange the graphics, with the logic board" in said
    assert "Soldered" in said


def test_a_picture_is_written_to_a_file(shared_cli: Cli):
    file = shared_cli.home / "plan.svg"
    said = shared_cli("service", "plan", "power-supply", "--format", "svg", "--output", str(file))
    assert str(file) in said.stdout
    assert ET.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert shared_cli("service", "plan", "psu", "--format", "svg").stdout == file.read_text()


def test_every_part_of_the_list_can_be_planned_for(shared_cli: Cli):
    found = json.loads(shared_cli("service", "parts", "--format", "json").stdout)
    said = shared_cli("service", "parts").stdout
    assert {"memory", "ssd", "processor", "power-supply", "stand"} <= {each["id"] for each in found}
    for each in found:
        assert each["mark"] in said
        assert f"\n{each['id']} " in said
    # Each of them is planned for in the unit tests; here the last, which needs most of the others.
    assert "Exchange the housing" in shared_cli("service", "plan", found[-1]["id"]).stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("memroy",), "did you mean memory?"),
        (("logicboard",), "did you mean logic-board?"),
        (("quux",), "see `service parts`"),
        (("memory", "--format", "gif"), "gif"),
        (("memory", "--output", "/nowhere/plan.txt"), "/nowhere/plan.txt"),
        (("memory", "--output", ""), "'' names no file"),
        (("x" * 5000,), "xxx…'"),
        ((), "PART"),
    ],
)
def test_a_wrong_word_is_one_line(shared_cli: Cli, words: tuple[str, ...], says: str):
    done = shared_cli("service", "plan", *words, check=False)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("spacegray: ")]) == 1
    assert not done.stdout
