"""A refusal with a word that programs understand beside the words for people."""

from typing import Final

from spacegray.errors import SpacegrayError

BUSY: Final = "busy"
"""Too many messages: nothing was looked at, ask again."""


class ChipRefusalError(SpacegrayError):
    """Somebody answered, and said no; `code` is the protocol's word.

    Of a refused secret `left` says how many more tries there are, and `wait_seconds` when the
    next one is looked at.
    """

    def __init__(
        self,
        doing: str,
        stopped_by: object,
        next_step: str,
        *,
        code: str | None,
        link: str | None = "chip",
        left: int | None = None,
        wait_seconds: int | None = None,
    ) -> None:
        self.code = code
        self.left = left
        self.wait_seconds = wait_seconds
        super().__init__(doing, stopped_by, next_step, link=link)
