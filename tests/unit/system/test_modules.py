"""Promise: kernel modules are loaded after what they need, signed as their builder left them."""

import lzma
from pathlib import Path

import pytest

from spacegray.system.inside import modules

RELEASE = "6.12.1-test"
SIGNED = b"code" + modules.SIGNATURE_TRAILER


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> modules.Modules:
    folder = tmp_path / "usr/lib/modules" / RELEASE
    (folder / "kernel/fs").mkdir(parents=True)
    (folder / "modules.dep").write_text(
        "kernel/fs/ext4.ko.xz: kernel/fs/jbd2.ko.xz kernel/lib/crc16.ko.xz\n"
        "kernel/fs/jbd2.ko.xz: kernel/lib/crc16.ko.xz\n"
        "kernel/lib/crc16.ko.xz:\n"
        "kernel/net/virtio_net.ko.xz:\n"
    )
    (folder / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (folder / "kernel/fs/ext4.ko.xz").write_bytes(lzma.compress(SIGNED))
    (folder / "kernel/fs/jbd2.ko.xz").write_bytes(lzma.compress(b"code"))
    monkeypatch.setattr(modules, "_depmod", lambda *_: None)
    return modules.Modules(tmp_path, RELEASE)


def test_what_a_module_needs_goes_before_it(kernel: modules.Modules) -> None:
    assert kernel.ordered(["ext4", "virtio-net", "virtio_pci"]) == [
        "kernel/lib/crc16.ko.xz",
        "kernel/fs/jbd2.ko.xz",
        "kernel/fs/ext4.ko.xz",
        "kernel/net/virtio_net.ko.xz",
    ]


def test_a_folder_means_all_its_modules(kernel: modules.Modules) -> None:
    assert len(kernel.ordered(["fs/"])) == 3


@pytest.mark.parametrize("name", ["nonsense", "drivers/gone/"])
def test_a_module_that_the_kernel_has_not_fails_the_build(
    kernel: modules.Modules, name: str
) -> None:
    with pytest.raises(FileNotFoundError, match="kernel module"):
        kernel.ordered([name])


def test_a_module_is_unpacked_with_its_signature_and_refused_without(
    kernel: modules.Modules,
) -> None:
    assert kernel.content("kernel/fs/ext4.ko.xz") == SIGNED
    with pytest.raises(ValueError, match="not signed"):
        kernel.content("kernel/fs/jbd2.ko.xz")
