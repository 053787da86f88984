"""The authority's signatures of images, judged by tools that have nothing to do with it."""

import hashlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from asn1crypto import cms
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.authorityd import authorityd

PE_OFFSET = 64
OPTIONAL_HEADER_OFFSET = PE_OFFSET + 24
CHECK_SUM_OFFSET = OPTIONAL_HEADER_OFFSET + 64
CERTIFICATE_ENTRY_OFFSET = OPTIONAL_HEADER_OFFSET + 112 + 4 * 8
HEADERS_SIZE_BYTES = 512
IMAGE_SIZE_BYTES = 2 * HEADERS_SIZE_BYTES


def smallest_image() -> bytes:
    """An unsigned PE32+ EFI application with one section and no code worth running."""
    dos_header = b"MZ".ljust(60, b"\0") + struct.pack("<I", PE_OFFSET)
    file_header = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0x0202)
    optional_header = struct.pack(
        "<HBBIIIIIQIIHHHHHHIIIIHHQQQQII",
        *(0x20B, 0, 0, 512, 0, 0, 4096, 4096),  # magic, linker, sizes, entry, base of code
        *(0x400000, 4096, 512, 0, 0, 0, 0, 0, 0, 0),  # image base, alignments, versions
        *(8192, HEADERS_SIZE_BYTES, 0, 10, 0),  # image, headers, check sum, EFI application
        *(0, 0, 0, 0, 0, 16),  # stack, heap, loader flags, number of directories
    ) + bytes(16 * 8)
    section = struct.pack("<8sIIIIIIHHI", b".text", 512, 4096, 512, 512, 0, 0, 0, 0, 0x60000020)
    headers = dos_header + file_header + optional_header + section
    return headers.ljust(HEADERS_SIZE_BYTES, b"\0") + b"\xc3".ljust(512, b"\x90")


def authenticode_digest(image: bytes) -> bytes:
    """SHA-256 of an unsigned image without its check sum and certificate entry."""
    return hashlib.sha256(
        image[:CHECK_SUM_OFFSET]
        + image[CHECK_SUM_OFFSET + 4 : CERTIFICATE_ENTRY_OFFSET]
        + image[CERTIFICATE_ENTRY_OFFSET + 8 :]
    ).digest()


def attach(image: bytes, signature: bytes) -> bytes:
    """The image with a certificate table at its end."""
    padded = signature.ljust(-(-len(signature) // 8) * 8, b"\0")
    table = struct.pack("<IHH", 8 + len(padded), 0x0200, 0x0002) + padded
    entry = struct.pack("<II", len(image), len(table))
    rest = image[CERTIFICATE_ENTRY_OFFSET + 8 :]
    return image[:CERTIFICATE_ENTRY_OFFSET] + entry + rest + table


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, x509.Certificate]:
    """A signature of the smallest image, and the authority's vendor certificate."""
    with authorityd(tmp_path_factory.mktemp("state")) as authority:
        digest = authenticode_digest(smallest_image())
        signature = authority.ask("sign_image", digest=digest)["signature"]
        assert authority.ask("sign_image", digest=digest)["signature"] == signature
        return signature, x509.load_der_x509_certificate(authority.ask("identity")["vendor"])


def test_sbverify_accepts_the_image_and_no_other(
    signed: tuple[bytes, x509.Certificate], tmp_path: Path
) -> None:
    """Promise: a signed image is good for others too, and one changed byte is not."""
    if shutil.which("sbverify") is None:
        pytest.skip("sbverify (package sbsigntool) is not installed")
    signature, certificate = signed
    (tmp_path / "vendor.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    image = attach(smallest_image(), signature)

    def judged(image: bytes) -> bool:
        (tmp_path / "image.efi").write_bytes(image)
        command = ["sbverify", "--cert", "vendor.pem", "image.efi"]
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        return ended.returncode == 0

    assert judged(image)
    last = IMAGE_SIZE_BYTES - 1
    assert not judged(image[:last] + b"\0" + image[last + 1 :])


def test_openssl_accepts_the_signature(
    signed: tuple[bytes, x509.Certificate], tmp_path: Path
) -> None:
    """Promise: the PKCS#7 is whole: OpenSSL follows it from the certificate to the content."""
    signature, certificate = signed
    (tmp_path / "vendor.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "signature.der").write_bytes(signature)
    content = cms.ContentInfo.load(signature)["content"]["encap_content_info"]["content"]
    (tmp_path / "content").write_bytes(content.parsed.contents)

    def judged() -> bool:
        # The `smime` command reads PKCS#7 1.5; `cms` wants an OCTET STRING as content.
        command = "openssl smime -verify -binary -inform DER -in signature.der -content content"
        ended = subprocess.run(
            [*command.split(), "-CAfile", "vendor.pem", "-purpose", "any", "-out", "/dev/null"],
            cwd=tmp_path,
            capture_output=True,
            check=False,
        )
        return ended.returncode == 0

    assert judged()
    (tmp_path / "content").write_bytes(bytes(content.parsed.contents)[:-1] + b"\0")
    assert not judged()


def test_signature_is_over_the_digest_and_nothing_else(
    signed: tuple[bytes, x509.Certificate],
) -> None:
    """Promise: digest, content, attributes, signature: each link read with another library."""
    signature, certificate = signed
    data = cms.ContentInfo.load(signature, strict=True)["content"]
    content = data["encap_content_info"]["content"].parsed
    assert content.contents.endswith(authenticode_digest(smallest_image()))
    (signer,) = data["signer_infos"]
    attributes = {
        attribute["type"].native: attribute["values"] for attribute in signer["signed_attrs"]
    }
    assert set(attributes) == {"content_type", "message_digest"}
    assert attributes["content_type"].native == ["1.3.6.1.4.1.311.2.1.4"]
    assert attributes["message_digest"].native == [hashlib.sha256(content.contents).digest()]
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    key.verify(
        signer["signature"].native,
        signer["signed_attrs"].untag().dump(),
        padding.PKCS1v15(),
        SHA256(),
    )
    (included,) = data["certificates"]
    assert included.dump() == certificate.public_bytes(Encoding.DER)
