"""A plain, slow reader of the SSD's modules: two files, a key and an anchor in, blocks out.

Written from docs/flash-format.md alone, in another language and with another library than the
controller, so it checks that document too. It reads, and never writes. The product never
imports it.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION = 2
SLOT = 4096
TAG = 12
FANOUT = 256
GROUP_SLOTS_MAX = 240
FIRST_SEGMENT = 2
DATA, LEAF, MIDDLE, PIECE, RECORD, SUPERBLOCK = range(6)
SUPERBLOCK_SLOTS = (1, 2)
BEGINS, ENDS = 1, 2

HEADER = struct.Struct("<8sII16s16sQII32s")
RECORD_HEAD = struct.Struct("<Q12sIQHHIII")
BODY_HEAD = struct.Struct("<QIIIIQ8QII")
SESSION = struct.Struct("<II32s")
SEGMENT = struct.Struct("<IHH")
ENTRY = struct.Struct("<I12s")
CHANGE = struct.Struct("<II12s")
ANCHOR = struct.Struct("<II16s16s16sQ12sIQII12sI32sII12sII12s")
SUPERBLOCK_HEAD = struct.Struct("<32sI")


class FlashError(Exception):
    """The modules are not what the anchor says, or a block is not what was written."""


@dataclass(frozen=True)
class Anchor:
    """What the vault remembers."""

    pairing: bytes
    identities: tuple[bytes, bytes]
    sequence: int
    tag: bytes
    adoptions: int
    checkpoint_sequence: int
    checkpoint: tuple[int, int, bytes]
    """Slot number, generation, tag."""
    superblock: int
    salt: bytes
    tails: tuple[tuple[int, int, bytes], tuple[int, int, bytes]]


@dataclass(frozen=True)
class Record:
    """One record, and where it lies."""

    slot: int
    generation: int
    tag: bytes
    sequence: int
    previous: bytes
    next_segment: int
    durable: int
    flags: int
    entries: tuple[tuple[int, int, bytes], ...]
    """Kind, number and tag of each slot before the record, in order."""
    trims: tuple[tuple[int, int], ...]

    def members(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Slot number, kind, number and tag of each slot of the group."""
        first = self.slot - len(self.entries)
        for place, (kind, number, tag) in enumerate(self.entries):
            yield first + place, kind, number, tag


def read_anchor(data: bytes) -> Anchor:
    """Takes an anchor apart."""
    if len(data) != ANCHOR.size:
        raise FlashError("the anchor has another size")
    (
        version,
        _flags,
        pairing,
        zero,
        one,
        sequence,
        tag,
        adoptions,
        checkpoint_sequence,
        checkpoint_slot,
        checkpoint_generation,
        checkpoint_tag,
        superblock,
        salt,
        *tails,
    ) = ANCHOR.unpack(data)
    if version != VERSION:
        raise FlashError(f"not an anchor of version {VERSION}")
    return Anchor(
        pairing,
        (zero, one),
        sequence,
        tag,
        adoptions,
        checkpoint_sequence,
        (checkpoint_slot, checkpoint_generation, checkpoint_tag),
        superblock,
        salt,
        ((tails[0], tails[1], tails[2]), (tails[3], tails[4], tails[5])),
    )


def superblock_anchors(modules: tuple[Path, Path], volume_key: bytes) -> list[bytes]:
    """The anchors in the superblocks of both modules, the newest first: all that the key needs.

    A thief who has the volume key reads modules with the first of them; a chip's anchor is what
    keeps them fresh, not what keeps them secret.
    """
    found = {}
    for path in modules:
        data = path.read_bytes()
        for place in SUPERBLOCK_SLOTS:
            slot = data[place * SLOT :][:SLOT].ljust(SLOT, b"\0")
            salt, count = SUPERBLOCK_HEAD.unpack_from(slot)
            key = _session_key(volume_key, salt)
            try:
                plain = _decrypt(
                    key,
                    (count, place),
                    (SUPERBLOCK, 0),
                    slot[SUPERBLOCK_HEAD.size : -TAG],
                    slot[-TAG:],
                )
            except InvalidTag:
                continue
            anchor = read_anchor(plain[: ANCHOR.size])
            if (anchor.salt, anchor.superblock) != (salt, place):
                raise FlashError("a superblock of another place or session")
            found[plain[: ANCHOR.size]] = (anchor.adoptions, anchor.sequence)
    return sorted(found, key=lambda bytes_: found[bytes_], reverse=True)


def _session_key(volume_key: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"spacegray flash session 1").derive(volume_key)


def _decrypt(
    key: bytes, nonce: tuple[int, int], associated: tuple[int, int], sealed: bytes, tag: bytes
) -> bytes:
    """Nonce: generation and slot; associated data: kind and number. Raises InvalidTag."""
    mode = GCM(struct.pack("<QI", *nonce), tag, min_tag_length=TAG)
    opening = Cipher(AES(key), mode).decryptor()
    opening.authenticate_additional_data(struct.pack("<BQ", *associated))
    return opening.update(sealed) + opening.finalize()


class FlashReader:
    """An SSD as it was when it was stopped, or when the power went."""

    def __init__(self, modules: tuple[Path, Path], volume_key: bytes, anchor: bytes) -> None:
        self._modules = tuple(path.read_bytes() for path in modules)
        self._volume_key = volume_key
        self._anchor = read_anchor(anchor)
        self.blocks, self._segment_slots = self._check_headers()
        self._check_tails()
        # Until the body is read, the only session known is the one that wrote it.
        self._sessions = [(0, _session_key(volume_key, self._anchor.salt))]
        self._generations: dict[int, int] = {}
        self._changed: dict[int, tuple[int, bytes] | None] = {}
        self._middles: list[tuple[int, bytes]] = []
        self.records = 0
        self._follow()

    def read_block(self, block: int) -> bytes:
        """The 4096 bytes of a block; `FlashError` when they are not what was written."""
        if not 0 <= block < self.blocks:
            raise IndexError(block)
        entry = self._changed[block] if block in self._changed else self._find(block)
        return bytes(SLOT) if entry is None else self._open(*entry, DATA, block)

    def _find(self, block: int) -> tuple[int, bytes] | None:
        """The index entry of a block in the checkpoint's tree."""
        leaf = block // FANOUT
        entry = self._middles[leaf // FANOUT] if leaf // FANOUT < len(self._middles) else (0, b"")
        for kind, number, place in (
            (MIDDLE, leaf // FANOUT, leaf % FANOUT),
            (LEAF, leaf, block % FANOUT),
        ):
            if entry[0] == 0:
                return None
            entry = ENTRY.unpack_from(self._open(*entry, kind, number), place * ENTRY.size)
        return entry if entry[0] else None

    def _check_headers(self) -> tuple[int, int]:
        found = []
        for module, data in enumerate(self._modules):
            magic, version, number, identity, pairing, blocks, slots, adoptions, mac = (
                HEADER.unpack_from(data.ljust(SLOT, b"\0"))
            )
            if (magic, version) != (b"SGFLASH\0", VERSION):
                raise FlashError(f"module {module}: missing")
            if identity not in self._anchor.identities:
                raise FlashError(f"module {module}: foreign")
            if number != module or identity != self._anchor.identities[module]:
                raise FlashError("the modules are exchanged")
            key = HKDF(SHA256(), 32, pairing, b"spacegray flash header 1").derive(self._volume_key)
            if not hmac.compare_digest(mac, hmac.digest(key, data[:64], hashlib.sha256)):
                raise FlashError(f"module {module}: the header is not what was written")
            if pairing != self._anchor.pairing:
                older = adoptions < self._anchor.adoptions
                raise FlashError(
                    f"module {module}: {'older than the anchor' if older else 'adopted since'}"
                )
            found.append((blocks, slots))
        if found[0] != found[1]:
            raise FlashError("the modules differ in size")
        return found[0]

    def _check_tails(self) -> None:
        for module, (slot, _generation, tag) in enumerate(self._anchor.tails):
            if slot and self._slot(slot)[-TAG:] != tag:
                raise FlashError(f"module {module}: older than the anchor")

    def _follow(self) -> None:
        """Walks the log from the checkpoint, and builds the index."""
        anchor = self._anchor
        slot, generation, tag = anchor.checkpoint
        record = self._record(slot, generation, anchor.checkpoint_sequence)
        if record is None or record.tag != tag or not record.flags & BEGINS:
            raise FlashError("the checkpoint is not there")
        chain = [record]
        while (following := self._next(chain[-1])) is not None:
            chain.append(following)
        anchored = anchor.sequence - anchor.checkpoint_sequence
        if not 0 <= anchored < len(chain) or chain[anchored].tag != anchor.tag:
            raise FlashError("the log ends before the anchor")
        chain = self._accepted(chain, anchored)
        self.records = len(chain)
        end = next(place for place, record in enumerate(chain) if record.flags & ENDS)
        for record in chain:
            self._generations[record.slot // self._segment_slots] = record.generation
        pieces = b""
        for record in chain[: end + 1]:
            for slot, kind, number, tag in record.members():
                if kind != PIECE or number != len(pieces) // SLOT:
                    raise FlashError("something else than pieces in the checkpoint")
                pieces += self._open(slot, tag, kind, number)
        self._read_body(pieces)
        for record in chain:
            self._generations[record.slot // self._segment_slots] = record.generation
        for record in chain[end + 1 :]:
            for first, count in record.trims:
                self._changed.update(dict.fromkeys(range(first, first + count)))
            for slot, kind, number, tag in record.members():
                # Nodes of the index that were written again say what the records said already.
                if kind == DATA:
                    self._changed[number] = (slot, tag)

    def _accepted(self, chain: list[Record], anchored: int) -> list[Record]:
        """The chain up to the first record above what is durable whose slots are not whole."""
        durable = max(self._anchor.sequence, *(record.durable for record in chain))
        for place in range(anchored + 1, len(chain)):
            record = chain[place]
            if record.sequence <= durable:
                continue
            for slot, kind, number, tag in record.members():
                try:
                    self._unseal(slot, record.generation, tag, kind, number, self._slot(slot))
                except FlashError:
                    return chain[:place]
        return chain

    def _next(self, record: Record) -> Record | None:
        segment, index = divmod(record.slot, self._segment_slots)
        last = self._segment_slots - 1
        here = range(index + 1, min(index + 1 + GROUP_SLOTS_MAX, last) + 1)
        there = range(min(GROUP_SLOTS_MAX, last) + 1)
        for number, generation, places in (
            (segment, record.generation, here),
            (record.next_segment, record.generation + 1, there),
        ):
            if number < FIRST_SEGMENT:
                continue
            for place in places:
                slot = number * self._segment_slots + place
                found = self._record(slot, generation, record.sequence + 1)
                if found is not None and found.previous == record.tag:
                    return found
        return None

    def _record(self, slot: int, generation: int, sequence: int) -> Record | None:
        """The record in a slot, if there is one of this sequence."""
        sealed = self._slot(slot)
        tag = sealed[-TAG:]
        try:
            plain = self._unseal(slot, generation, tag, RECORD, 0, sealed[:-TAG])
        except FlashError:
            return None
        (found, previous, next_segment, durable, entries, trims, flags, its, _) = (
            RECORD_HEAD.unpack_from(plain)
        )
        if (found, its) != (sequence, generation) or entries > slot % self._segment_slots:
            return None
        at = RECORD_HEAD.size
        pairs = [ENTRY.unpack_from(plain, at + 16 * place) for place in range(entries)]
        at += 16 * entries
        ranges = [struct.unpack_from("<II", plain, at + 8 * place) for place in range(trims)]
        return Record(
            slot,
            generation,
            tag,
            sequence,
            previous,
            next_segment,
            durable,
            flags,
            tuple((word >> 30, word & ((1 << 30) - 1), tag) for word, tag in pairs),
            tuple((first, count) for first, count in ranges),
        )

    def _read_body(self, body: bytes) -> None:
        blocks, _next, sessions, segments, middles, *others = BODY_HEAD.unpack_from(body)
        changes = others[-2]
        if blocks != self.blocks:
            raise FlashError("the checkpoint is of a disk of another size")
        at = BODY_HEAD.size
        rows = [SESSION.unpack_from(body, at + SESSION.size * place) for place in range(sessions)]
        self._sessions = [(first, _session_key(self._volume_key, salt)) for first, _, salt in rows]
        at += SESSION.size * sessions
        for segment in range(segments):
            generation, _live, _flags = SEGMENT.unpack_from(body, at + SEGMENT.size * segment)
            self._generations[segment] = generation
        at += SEGMENT.size * segments
        self._middles = [ENTRY.unpack_from(body, at + 16 * place) for place in range(middles)]
        at += 16 * middles
        for place in range(changes):
            block, slot, tag = CHANGE.unpack_from(body, at + CHANGE.size * place)
            self._changed[block % (1 << 31)] = (slot, tag) if slot else None

    def _slot(self, slot: int) -> bytes:
        """The bytes of a slot; what lies past the end of a module is zeros."""
        segment, index = divmod(slot, self._segment_slots)
        at = (segment // 2 * self._segment_slots + index) * SLOT
        return self._modules[segment % 2][at : at + SLOT].ljust(SLOT, b"\0")

    def _open(self, slot: int, tag: bytes, kind: int, number: int) -> bytes:
        """The plain text of a slot that the index or a record points to."""
        generation = self._generations.get(slot // self._segment_slots, 0)
        return self._unseal(slot, generation, tag, kind, number, self._slot(slot))

    def _unseal(
        self, slot: int, generation: int, tag: bytes, kind: int, number: int, sealed: bytes
    ) -> bytes:
        keys = [key for first, key in self._sessions if first <= generation]
        if not keys:
            raise FlashError(f"slot {slot}: of no session")
        try:
            return _decrypt(keys[-1], (generation, slot), (kind, number), sealed, tag)
        except InvalidTag:
            raise FlashError(f"slot {slot}: not what was written") from None
