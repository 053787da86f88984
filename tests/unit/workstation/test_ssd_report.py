"""What is said of the SSD: bad blocks by their place, and when it is failing."""

import pytest

from spacegray.chip.controller import Status
from spacegray.chip.ssd import Health
from spacegray.workstation import ssd
from spacegray.workstation.ssd import Range
from tests.support import fake_ssdd

PARTITIONS = [
    {"number": 1, "name": "esp", "start_bytes": 4096 * 10, "size_bytes": 4096 * 10},
    {"number": 2, "name": "data", "start_bytes": 4096 * 20, "size_bytes": 4096 * 80},
]


def status(**changed: int) -> Status:
    fields = {**fake_ssdd.STATUS, "capacity_bytes": fake_ssdd.CAPACITY_BYTES, **changed}
    return Status(state="open", **fields)


@pytest.mark.parametrize(
    ("blocks", "ranges"),
    [
        ([], []),
        ([0], [Range(0, 1, None)]),
        ([9, 10], [Range(9, 1, None), Range(10, 1, "esp")]),
        ([18, 19, 20, 21], [Range(18, 2, "esp"), Range(20, 2, "data")]),
        ([30, 32, 99, 100], [
            Range(30, 1, "data"), Range(32, 1, "data"), Range(99, 1, "data"), Range(100, 1, None),
        ]),
    ],
)  # fmt: skip
def test_bad_blocks_are_ranges_within_one_partition(blocks: list[int], ranges: list[Range]):
    assert list(ssd._ranges(blocks, PARTITIONS)) == ranges


def test_a_range_is_told_in_bytes_too():
    assert Range(20, 2, "data").as_dict() == {
        "block": 20,
        "count": 2,
        "offset_bytes": 81920,
        "length_bytes": 8192,
        "partition": "data",
    }


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({"read_errors": 3}, "3 reads failed"),
        ({"stopped": 1}, "failed to keep"),
        ({"spare_bytes": 4096}, "only 4096 bytes are left"),
        ({"spare_bytes": 0, "used_bytes": fake_ssdd.CAPACITY_BYTES}, ""),
    ],
)
def test_health_is_failing_for_a_reason(changed: dict[str, int], says: str):
    reason = ssd._trouble(Health(state="open", status=status(**changed)))
    assert says in reason
    assert bool(reason) == bool(says)
