"""Authenticode: the digest covers what it must, and no image makes the parser fail badly."""

import hashlib
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spacegray.authenticode import SECTION_LIMIT, NotSignableError, digest, parse
from tests.support.chip import (
    CERTIFICATE_ENTRY_AT,
    CHECKSUM_AT,
    HEADERS_BYTES,
    PE_AT,
    unsigned_image,
)

IMAGE = unsigned_image(b"code" * 128, b"data" * 128, trailing=b"symbols!")


def changed(position: int, image: bytes = IMAGE) -> bytes:
    other = bytearray(image)
    other[position] ^= 1
    return bytes(other)


def test_digest_is_that_of_the_image_without_checksum_and_certificate_entry() -> None:
    expected = hashlib.sha256(
        IMAGE[:CHECKSUM_AT]
        + IMAGE[CHECKSUM_AT + 4 : CERTIFICATE_ENTRY_AT]
        + IMAGE[CERTIFICATE_ENTRY_AT + 8 :]
    )
    assert parse(IMAGE).digest() == expected.digest()


@pytest.mark.parametrize("position", [2, HEADERS_BYTES - 1, HEADERS_BYTES, len(IMAGE) - 1])
def test_every_region_is_covered(position: int) -> None:
    """Promise: a changed byte of headers, sections or what follows them is noticed."""
    assert parse(changed(position)).digest() != parse(IMAGE).digest()


def test_checksum_is_not_covered() -> None:
    assert parse(changed(CHECKSUM_AT)).digest() == parse(IMAGE).digest()


def test_signature_is_attached_where_the_directory_says() -> None:
    content = unsigned_image(b"x" * 512, trailing=b"odd")
    signed = parse(content).signed(b"signature")
    start, size = struct.unpack_from("<II", signed, CERTIFICATE_ENTRY_AT)
    assert start % 8 == size % 8 == 0
    assert start + size == len(signed)
    length, revision, kind = struct.unpack_from("<IHH", signed, start)
    assert (revision, kind) == (0x0200, 0x0002)
    assert signed[start + 8 : start + length] == b"signature"


def test_attaching_changes_nothing_that_is_signed() -> None:
    image = parse(unsigned_image(b"x" * 512, trailing=b"odd"))
    signed = bytearray(image.signed(b"signature"))
    (start,) = struct.unpack_from("<I", signed, CERTIFICATE_ENTRY_AT)
    struct.pack_into("<II", signed, CERTIFICATE_ENTRY_AT, 0, 0)
    assert parse(bytes(signed[:start])).digest() == image.digest()


def test_a_signed_image_is_refused() -> None:
    with pytest.raises(NotSignableError, match="signed already"):
        parse(parse(IMAGE).signed(b"signature"))


def with_section(index: int, size: int, start: int) -> bytes:
    other = bytearray(IMAGE)
    struct.pack_into("<II", other, PE_AT + 24 + 240 + 40 * index + 16, size, start)
    return bytes(other)


@pytest.mark.parametrize(
    "image",
    [
        with_section(1, 512, HEADERS_BYTES + 256),
        with_section(1, 256, HEADERS_BYTES + 512 + 256),
        with_section(1, 2**31, HEADERS_BYTES + 512),
        with_section(0, 512, 0),
        b"",
        b"MZ",
        b"\x7fELF" + IMAGE[4:],
        changed(PE_AT),
        changed(PE_AT + 4),
        IMAGE[: PE_AT + 30],
        IMAGE[: HEADERS_BYTES + 100],
        IMAGE[:60] + b"\xff\xff\xff\xff" + IMAGE[64:],
        IMAGE[: PE_AT + 6] + struct.pack("<H", SECTION_LIMIT + 1) + IMAGE[PE_AT + 8 :],
    ],
)
def test_what_is_not_plainly_well_formed_is_refused(image: bytes) -> None:
    """Promise: nothing is signed whose digest another reader could compute differently."""
    with pytest.raises(NotSignableError):
        parse(image)


@settings(deadline=None)
@given(st.integers(0, len(IMAGE) - 1), st.binary(min_size=1, max_size=8), st.integers(0, 2000))
@example(60, b"\xff\xff\xff\x7f", 2000)
def test_broken_images_are_refused_or_read_but_never_more(
    position: int, junk: bytes, length: int
) -> None:
    image = (IMAGE[:position] + junk + IMAGE[position + len(junk) :])[:length]
    try:
        digest = parse(image).digest()
    except NotSignableError:
        return
    assert len(digest) == hashlib.sha256().digest_size


def signed(image: bytes = IMAGE, signature: bytes = b"signature" * 99) -> bytes:
    return parse(image).signed(signature)


def test_an_image_is_known_by_the_same_digest_before_and_after_signing() -> None:
    """Promise: what a ticket names is the image, whoever signed it how often."""
    assert digest(IMAGE) == digest(signed()) == parse(IMAGE).digest()
    assert digest(signed(signature=b"another")) == digest(IMAGE)
    odd = unsigned_image(b"code" * 128, trailing=b"odd")
    assert digest(odd) == digest(signed(odd))


@pytest.mark.parametrize("position", [2, HEADERS_BYTES, len(IMAGE) - 1])
def test_every_region_of_a_signed_image_is_covered(position: int) -> None:
    assert digest(changed(position, signed())) != digest(IMAGE)


def test_nothing_hides_beside_the_signatures() -> None:
    """Promise: bytes that the firmware would not hash, or others than we, are refused."""
    image = signed()
    start, size = struct.unpack_from("<II", image, CERTIFICATE_ENTRY_AT)
    for entry in (
        (start - 8, size + 8), (start, size - 8), (start, size + 8), (start + 8, size - 8),
        (0, size), (start, 0), (start + 1, size - 1), (2**32 - 8, 16),
    ):  # fmt: skip
        other = bytearray(image)
        struct.pack_into("<II", other, CERTIFICATE_ENTRY_AT, *entry)
        try:
            found = digest(bytes(other))
        except NotSignableError:
            continue
        assert found != digest(IMAGE), entry
    for other_image in (image + b"12345678", image[:-8]):
        with pytest.raises(NotSignableError, match="at its end"):
            digest(other_image)
