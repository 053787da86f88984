"""What the chip claims to hold against: the design's table, word for word, and nothing beyond."""

from typing import get_args

import pytest

from spacegray.chip.messages import Seal
from spacegray.chip.promises import FAILS, HOLDS, TABLE, promises

SEALS = get_args(Seal)


@pytest.mark.parametrize("seal", SEALS)
def test_each_seal_says_something_of_each_attack(seal: Seal) -> None:
    """Promise: `chip show` says of every attack of the table what this seal does against it."""
    said = promises(seal)
    assert [each["against"] for each in said] == [each.against for each in TABLE]
    assert all(each["holds"] for each in said)


def test_no_seal_claims_what_it_cannot_hold() -> None:
    """Promise: the claims are the design's; of these lines none may ever grow."""
    by_attack = {each.against: each[1:] for each in TABLE}
    assert len(by_attack) == 6
    assert by_attack["root on the host, or its owner's own account, while the machine runs"] == (
        FAILS, FAILS, FAILS,
    )  # fmt: skip
    assert by_attack["the whole home or host disk copied"][0] == FAILS
    assert by_attack["the whole host disk put back to an older day"] == (
        "not noticed", "not noticed", "noticed (NV counter)",
    )  # fmt: skip
    assert by_attack["erase, against copies made before"][:2] == ("does not reach them",) * 2
    assert by_attack["modules or workstation folder copied, stolen, put back"][0] != HOLDS
