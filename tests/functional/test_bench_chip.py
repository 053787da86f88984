"""`bench chip` measures what it says, with each seal that the host has."""

import json

import pytest

from tests.conftest import Cli
from tests.support.tpm import emulated_tpm


@pytest.mark.parametrize("has_tpm", [False, True])
def test_each_seal_is_measured(tmp_path, has_tpm):
    """Promise: with and without a password, what is deliberate apart from the chip's own share."""
    with emulated_tpm() as tpm:
        place = tpm.socket if has_tpm else tmp_path / "no-tpm"
        cli = Cli(tmp_path, {"SPACEGRAY_TPM": str(place)})
        result = json.loads(cli("bench", "chip", "--runs", "1", "--format", "json").stdout)
    seals = ["keyfile", "passphrase"] + ["tpm2"] * has_tpm
    kinds = [(kind["seal"], kind["password"]) for kind in result["kinds"]]
    assert kinds == [(seal, password) for seal in seals for password in (False, True)]
    assert (result["tpm_milliseconds"] is not None) is has_tpm
    for kind in result["kinds"]:
        (power_on,), (erase,) = kind["power_ons"], kind["erases"]
        assert min(power_on["ready"], power_on["prepare"], erase) > 0
        if kind["password"] or kind["seal"] == "passphrase":
            # Argon2 was really computed: it alone takes this long on the fastest of hosts.
            assert power_on["secrets"] > 5
