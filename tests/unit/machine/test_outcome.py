"""Each way a machine ends is told from the others, and what is no end is none."""

import pytest

from spacegray.machine.outcome import outcome
from spacegray.qmp import Event


@pytest.mark.parametrize(
    ("name", "reason", "kind"),
    [
        ("SHUTDOWN", "guest-shutdown", "off"),
        ("SHUTDOWN", "guest-reset", "reset"),
        ("SHUTDOWN", "guest-panic", "panicked"),
        ("SHUTDOWN", "host-signal", "stopped"),
        ("SHUTDOWN", "a word of a later QEMU", "stopped"),
        ("GUEST_PANICKED", None, "panicked"),
        ("RESUME", None, None),
        ("POWERDOWN", None, None),
    ],
)
def test_ends_are_told_apart(name: str, reason: str | None, kind: str | None) -> None:
    ended = outcome(Event(name, {"reason": reason} if reason else {}, 0.0))
    assert (ended.kind if ended else None) == kind


def test_a_shutdown_without_a_reason_is_still_an_end() -> None:
    ended = outcome(Event("SHUTDOWN", {}, 0.0))
    assert ended is not None
    assert ended.kind == "stopped"
