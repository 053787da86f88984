"""What the serial console says of the boot chain, and that no bytes on it do harm."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray.links import TARGETS, Target, chain
from spacegray.workstation.serial import LINE_LIMIT_BYTES, SerialWatch, Sighting

DENIED = (
    b'\x1b[2J\x1b[01;01HBdsDxe: failed to load Boot0001 "Spacegray" from '
    b"PciRoot(0x0)/Pci(0x3,0x0)/HD(1,GPT): Access Denied"
)


def sighting(line: bytes, target: Target = "main") -> Sighting | None:
    """What the first line of a start says."""
    found = SerialWatch(target).feed(line + b"\r\n")
    return found[0] if found else None


def test_the_firmwares_refusal_is_seen_through_its_escape_codes():
    seen = sighting(DENIED)
    assert seen is not None
    assert (seen.link, seen.status) == ("kernel", "failed")
    assert "Secure Boot refused the kernel image" in seen.detail
    assert seen.refused


def test_nothing_to_boot_is_a_failure_of_the_kernel_link():
    seen = sighting(b"BdsDxe: No bootable option or device was found.")
    assert seen is not None
    assert (seen.link, seen.status) == ("kernel", "failed")


def test_another_boot_option_is_a_failure_and_ours_is_not():
    seen = sighting(b'BdsDxe: loading Boot0001 "UiApp" from Fv(7CB8BDC9)/FvFile(462CAA21)')
    assert seen is not None
    assert (seen.link, seen.status) == ("kernel", "failed")
    assert sighting(b'BdsDxe: loading Boot0000 "Spacegray" from \\EFI\\BOOT') is None


def test_the_guests_own_links_are_heard():
    seen = sighting(b"[    3.1] spacegray: link system ok 0011aabb")
    assert seen is not None
    assert (seen.link, seen.status, seen.detail) == ("system", "ok", "0011aabb")


def test_the_guest_cannot_speak_for_the_chip_nor_say_that_it_is_up():
    for link in ("chip", "firmware", "disk", "machine", "login"):
        assert sighting(f"spacegray: link {link} ok".encode()) is None


def test_a_corrupted_block_is_reported_and_need_not_end_the_start():
    seen = sighting(b"[   20.5] device-mapper: verity: 254:2: data block 17 is corrupted")
    assert seen is not None
    assert (seen.link, seen.status, seen.fatal) == ("system", "failed", False)


STARTED = b'BdsDxe: starting Boot0000 "Spacegray" from UsbMassStorage(0xFFFF,0xFFFF,0xFF,0xFF)\r\n'


@pytest.mark.parametrize("target", ["other", "external"])
def test_a_foreign_system_is_up_once_the_firmware_starts_it(target: Target):
    (seen,) = SerialWatch(target).feed(STARTED)
    assert (seen.link, seen.status) == ("kernel", "ok")
    assert SerialWatch("main").feed(STARTED) == []
    assert sighting(b"spacegray: link kernel ok 6.12", target) is None


@pytest.mark.parametrize(
    "words",
    [
        b"Something has gone seriously wrong: SBAT self-check failed: Security Policy Violation",
        b"Verifying shim SBAT data failed: Security Policy Violation",
        b"Verification failed: (0x1A) Security Violation",
        b"error: bad shim signature.",
    ],
)
def test_a_loaders_own_refusal_counts_until_a_kernel_speaks(words: bytes):
    watch = SerialWatch("external")
    seen = watch.feed(STARTED + words + b"\r\n")[-1]
    assert (seen.link, seen.status, seen.fatal) == ("kernel", "failed", True)
    watch = SerialWatch("external")
    (seen,) = watch.feed(STARTED + b"[    0.0] Linux version 6.12\r\n" + words + b"\r\n")
    assert seen.status == "ok"
    assert SerialWatch("main").feed(words + b"\r\n") == []


@pytest.mark.parametrize("target", ["main", "recovery"])
@pytest.mark.parametrize("sign", [b"spacegray: link kernel ok 6.12", b"[    0.0] Linux version 6"])
@pytest.mark.parametrize(
    "words",
    [
        DENIED,
        b"BdsDxe: No bootable option or device was found.",
        b'BdsDxe: loading Boot0001 "UiApp" from Fv(7CB8BDC9)/FvFile(462CAA21)',
    ],
)
def test_once_the_kernel_spoke_nobody_speaks_for_the_firmware(
    target: Target, sign: bytes, words: bytes
):
    watch = SerialWatch(target)
    (seen,) = watch.feed(words + b"\r\n")
    assert seen.status == "failed", "the control"
    watch = SerialWatch(target)
    watch.feed(sign + b"\r\n")
    assert watch.feed(words + b"\r\n") == []


def test_recovery_speaks_of_its_kernel_and_of_nothing_else():
    seen = sighting(b"spacegray: link kernel ok 6.12", "recovery")
    assert seen is not None
    for link in ("system", "data", "recovery", "login"):
        assert sighting(f"spacegray: link {link} ok".encode(), "recovery") is None
    seen = sighting(b"spacegray: link recovery failed the chip does not answer", "recovery")
    assert seen is not None
    assert (seen.status, seen.detail) == ("failed", "the chip does not answer")


@given(st.sampled_from(TARGETS), st.lists(st.binary(max_size=300)))
def test_any_bytes_in_any_pieces_are_survived(target, pieces):
    watch = SerialWatch(target)
    for piece in pieces:
        for seen in watch.feed(piece):
            assert seen.link in chain(target)
            assert seen.detail.isprintable()


@given(st.integers(1, len(DENIED) - 1))
def test_a_line_in_two_pieces_is_one_line(cut):
    watch = SerialWatch()
    found = watch.feed(DENIED[:cut]) + watch.feed(DENIED[cut:] + b"\r\n")
    assert [seen.link for seen in found] == ["kernel"]


def test_an_endless_line_is_not_kept():
    watch = SerialWatch()
    for _ in range(100):
        watch.feed(b"x" * 10_000)
    assert len(watch._rest) <= LINE_LIMIT_BYTES
