"""Promise: each setting that startup security can have is explained, in one plain sentence."""

from typing import get_args

import pytest

from spacegray.boot import policies


def test_each_setting_has_its_sentence():
    assert set(policies.POLICIES) == set(policies.POLICY_NAMES) == set(get_args(policies.Policy))
    for switch in (policies.EXTERNAL_BOOT, policies.OTHER_SYSTEMS):
        assert set(switch) == set(get_args(policies.Switch))
    assert set(policies.FIRMWARE_PASSWORD) == {False, True}


@pytest.mark.parametrize(
    "sentence",
    [
        *policies.POLICIES.values(), *policies.EXTERNAL_BOOT.values(),
        *policies.OTHER_SYSTEMS.values(), *policies.FIRMWARE_PASSWORD.values(),
    ],
)  # fmt: skip
def test_it_is_a_sentence(sentence: str):
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert ". " not in sentence
    assert "  " not in sentence
