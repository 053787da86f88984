"""A spec is read back as it was written, and every wrong one gets a line that helps."""

import string
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacegray import spec
from spacegray.errors import UsageError
from spacegray.spec import CORES, EDITIONS, MEMORY_GB, MOUNTS, SSD_TB, Spec

users = st.text(string.ascii_lowercase, min_size=1, max_size=8).filter(
    lambda name: name not in ("root", "sshd", "nobody")
)


@given(
    st.builds(
        Spec,
        cores=st.sampled_from(CORES),
        memory_gb=st.sampled_from(MEMORY_GB),
        graphics=st.sampled_from(("vega-56", "vega-64", "vega-64x")),
        ssd_tb=st.sampled_from(SSD_TB),
        mount=st.sampled_from(MOUNTS),
        ordered=st.just("") | st.dates().map(str),
        edition=st.sampled_from(EDITIONS),
        user=users,
        strict=st.booleans(),
    )
)
def test_what_is_written_is_read_back(ordered):
    assert spec.parse(spec.dump(ordered), source="test") == ordered


def test_the_default_is_the_base_model():
    assert spec.parse("", source="test") == Spec(cores=8, memory_gb=32, ssd_tb=1)


def test_the_day_of_the_order_is_a_day_or_none():
    assert Spec().ordered_on is None
    assert Spec(ordered="2020-02-29").ordered_on == date(2020, 2, 29)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cores = 12", "cores is one of 8, 10, 14, 18"),
        ("memory_gb = 48", "memory_gb is one of 32, 64, 128, 256"),
        ('memory_gb = "much"', "memory_gb is one of"),
        ('graphics = "rx580"', "graphics is one of vega-56, vega-64, vega-64x"),
        ("ssd_tb = 3", "ssd_tb is one of 1, 2, 4"),
        ('mount = "wall"', "mount is one of stand, vesa"),
        ('ordered = "2018-02-30"', "ordered is a day in quotes"),
        ('ordered = "20180228"', "ordered is a day in quotes"),
        ('ordered = "March 2021"', "ordered is a day in quotes"),
        ("ordered = 2018-02-28", "ordered is a day in quotes"),
        ('edition = "huge"', "edition is one of"),
        ('user = "root"', "user"),
        ('user = "Über"', "user"),
        ('user = "a; rm -rf"', "user"),
        ("colour = 1", "colour"),
        ("cores = ", "TOML"),
        ("cores = true", "cores"),
        ('strict = "yes"', "strict"),
    ],
)
def test_a_wrong_spec_names_the_field_and_what_may_stand(text, says):
    with pytest.raises(UsageError) as caught:
        spec.parse(text, source="my.toml")
    assert says in str(caught.value)
    assert "my.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_file_whatever_it_holds_gives_anything_but_a_usage_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("spec") / "spec.toml"
    path.write_bytes(content)
    try:
        assert isinstance(spec.load(path), Spec)
    except UsageError:
        pass


def test_a_missing_or_endless_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        spec.load(tmp_path / "none.toml")
    (tmp_path / "long.toml").write_bytes(b"#" * (spec.SPEC_LIMIT_BYTES + 1))
    with pytest.raises(UsageError, match="too long"):
        spec.load(tmp_path / "long.toml")
