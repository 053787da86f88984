"""How long-running work tells what it is doing, without knowing who watches."""

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a long piece of work."""

    def step(self, label: str, done: int, total: int) -> None:
        """`done` of `total` units (any unit; total 0 when unknown) of the step `label`."""

    def note(self, text: str) -> None:
        """One line worth keeping, such as a decision taken."""


class Silent:
    """Progress for callers that watch nothing."""

    def step(self, label: str, done: int, total: int) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""
