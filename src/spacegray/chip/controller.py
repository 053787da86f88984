"""The client of the SSD's controller: the program `ssdd`, one process for each open disk.

One CBOR map per packet on a SOCK_SEQPACKET pair. The controller gets four descriptors (this
link, its own link to the vault, the two modules) and confines itself to them; the disk's key goes
from the vault to it and never comes by here.
"""

import os
import socket
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from spacegray.chip.messages import Front
from spacegray.chip.modules import NAMES
from spacegray.chip.packets import exchange
from spacegray.chip.part import Part, Watcher
from spacegray.errors import SpacegrayError
from spacegray.sockets import PeerError

PROGRAM_NAME: Final = "ssdd"
ANSWER_SECONDS: Final = 60.0
"""Longer than opening after a power cut or reading a slice takes on a slow host."""
STOP_SECONDS: Final = 30.0
"""What a closing disk may take to write out what it holds before it is killed."""
EXIT_SECONDS: Final = 5.0
"""What it may take to end when nothing is open any more."""
KILL_SECONDS: Final = 0.03
"""What a killed one is waited for: it is gone in a millisecond, or held up by the host's disk."""
END_SECONDS: Final = 0.5
"""What a controller that hung up gets to end, so that the error can say how it did."""

_BOTH: Final = 2
_RESTORE: Final = "or `erase`, then `import` a copy"
_PROOF: Final = "it asks for the password or recovery key"

_Kind = TypeVar("_Kind")


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """An open disk."""

    capacity_bytes: int
    recovered: bool
    """It had not been closed, so that its log was followed."""
    incomplete: bool
    """It was adopted without all of its newest state, because that is damaged."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The controller's numbers; counters are over the life of the disk."""

    state: Literal["closed", "open", "served"]
    capacity_bytes: int
    used_bytes: int
    """Blocks in use, as of the last checkpoint."""
    physical_bytes: int
    spare_bytes: int
    host_written_blocks: int
    slots_written: int
    blocks_cleaned: int
    segments_cleaned: int
    trimmed_blocks: int
    read_errors: int
    opens: int
    power_cuts: int
    sequence: int
    anchored_sequence: int
    cache_hits: int
    cache_misses: int
    stopped: int
    """1 after a flush of the host failed: nothing is served until the disk is opened anew."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A slice that was read: where to go on, how many blocks were checked, which are bad."""

    next: int
    checked: int
    bad: list[int]


class ControllerRefusalError(SpacegrayError):
    """The controller answered, and said no; `code` is the protocol's word."""

    def __init__(self, doing: str, code: str, detail: str, module: object, name: str) -> None:
        """`name` is the workstation's, for the command that helps."""
        self.code = code
        super().__init__(doing, *_explain(code, detail, module, name), link="disk")


class Controller:
    """A running controller of one disk."""

    def __init__(
        self,
        program: Path,
        *,
        name: str,
        modules: Sequence[int],
        vault: int,
        watcher: Watcher,
        ended: Callable[[Part], None],
    ) -> None:
        """Start `program` on the two modules' descriptors and its link to the vault.

        `name` is the workstation's, for errors. Raises SpacegrayError when it cannot be started.
        """
        self._name = name
        self._opened = False
        self._link, far_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words: list[str | Path] = [program, "--link-fd", str(far_end.fileno())]
        words += ["--vault-fd", str(vault)]
        for module in modules:
            words += ["--module-fd", str(module)]
        try:
            self._part = Part(
                words,
                descriptors=(far_end.fileno(), vault, *modules),
                watcher=watcher,
                ended=ended,
            )
        except OSError as error:
            self._link.close()
            raise SpacegrayError(
                "starting the disk's controller",
                f"{program}: {error.strerror}",
                "run the set-up (`./run doctor`)",
                link="disk",
            ) from None
        finally:
            far_end.close()

    @property
    def running(self) -> bool:
        return self._part.running

    def how_ended(self) -> str:
        """How it ended and its last line on standard error; empty while it runs."""
        return self._part.last_words()

    def format(self, doing: str, capacity_bytes: int) -> None:
        """Erase both modules and make a new empty disk of them."""
        self._ask(doing, {"op": "format", "capacity_bytes": capacity_bytes})

    def open(self, doing: str, *, strict: bool, adopt: bool) -> Opened:
        """Check and open the disk; `strict`: every flush is anchored.

        `adopt`: in whatever state the modules are, which is this chip's from then on.
        """
        request = {"op": "open", "strict": strict, "adopt": adopt}
        opened = _convert(doing, self._ask(doing, request), Opened)
        self._opened = True
        return opened

    def serve(self, doing: str, front: Front, listener: int) -> None:
        """Serve the open disk to whoever connects to the listening socket."""
        self._ask(doing, {"op": "serve", "front": front}, (listener,))

    def status(self, doing: str) -> Status:
        """Its numbers, now."""
        return _convert(doing, self._ask(doing, {"op": "status"}), Status)

    def verify(self, doing: str, block: int, count: int) -> Verified:
        """Read and authenticate the blocks in use among `count` from `block` on."""
        reply = self._ask(doing, {"op": "verify", "block": block, "count": count})
        return _convert(doing, reply, Verified)

    def kill(self) -> None:
        """End it at once, whatever it is doing: to the disk a power cut. Never raises."""
        self._part.kill(patience_seconds=KILL_SECONDS)
        self._link.close()

    def stop(self) -> str:
        """Close the disk and end it; returns what went wrong, or nothing. Never raises."""
        trouble = ""
        if self._opened:
            try:
                self._ask("closing", {"op": "close"}, seconds=STOP_SECONDS)
            except SpacegrayError as error:
                trouble = error.stopped_by
        self._link.close()
        self._part.wait(END_SECONDS if trouble else EXIT_SECONDS)
        if self._part.stop(timeout_seconds=0) == 0 or trouble:
            return trouble
        return self._part.last_words()

    def _ask(
        self,
        doing: str,
        request: dict[str, Any],
        descriptors: Sequence[int] = (),
        *,
        seconds: float = ANSWER_SECONDS,
    ) -> dict[str, Any]:
        self._link.settimeout(seconds)
        try:
            reply = exchange(self._link, request, descriptors, peer="it")
        except (OSError, PeerError) as error:
            words = "no answer in time" if isinstance(error, TimeoutError) else error
            self._part.wait(END_SECONDS)
            said = ": ".join(filter(None, (str(words), self._part.last_words())))
            raise SpacegrayError(
                doing,
                f"the disk's controller failed ({said})",
                "see `logs`, then start the workstation again",
                link="disk",
            ) from None
        if reply.pop("ok", None) is not True:
            code, detail = str(reply.get("error")), str(reply.get("detail"))
            raise ControllerRefusalError(doing, code, detail, reply.get("module"), self._name)
        return reply


def listens(descriptor: int) -> bool:
    """Whether this is a unix stream socket that listens."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as candidate:
        kind = (candidate.family, candidate.type)
        listening = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return kind == (socket.AF_UNIX, socket.SOCK_STREAM) and listening == 1


def _explain(code: str, detail: str, module: object, name: str) -> tuple[str, str]:
    """What stopped it and what to do next, from the controller's refusal."""
    accept = f"`spacegray ssd accept {name}`"
    if module == _BOTH:
        which, them = f"both modules ({' and '.join(NAMES)}) are", "them"
    else:
        name = NAMES[module] if module in (0, 1) and isinstance(module, int) else "one"
        which, them = f"module {name} is", "it"
    match code:
        case "unformatted":
            return "the chip remembers no disk", "`erase` makes a new empty one"
        case "missing":
            return f"{which} empty or cut off", f"put {them} back, {_RESTORE}"
        case "foreign":
            return f"{which} of another disk", f"put this workstation's own back, {_RESTORE}"
        case "exchanged":
            return (
                f"{NAMES[0]} and {NAMES[1]} are exchanged",
                "give each its own name again",
            )
        case "stale":
            return (
                f"{which} older than the chip remembers",
                f"{accept} accepts this older state ({_PROOF}), or put the newest modules back",
            )
        case "adopted":
            return (
                f"{which} adopted since, by another chip, or by an adoption that was cut short",
                f"put this workstation's own back, or {accept} takes {them} over ({_PROOF})",
            )
        case "unauthorised":
            return (
                "the vault has not allowed an adoption",
                f"{accept} asks for what it needs",
            )
        case "damaged":
            # "module 0: damaged (what of it)"
            part = detail.rpartition("(")[2].rstrip(")")
            return f"{which} damaged ({part})", f"put an undamaged copy of it back, {_RESTORE}"
        case "no_space":
            return "the host's disk is full", "make room on that disk and try again"
        case "stopped":
            return (
                "the host's disk failed to keep what was written, so that it was stopped",
                "see to the host's disk, then start the workstation again",
            )
        case "storage" | "vault":
            return detail, "see `logs`; see to the host's disk, then try again"
    return f"the disk's controller refused ({code}: {detail})", "see `logs`"


def _convert(doing: str, reply: dict[str, Any], kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.convert(reply, kind)
    except msgspec.ValidationError as error:
        raise SpacegrayError(
            doing, f"a broken answer of its controller ({error})", "run the set-up", link="disk"
        ) from None
