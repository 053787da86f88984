"""The figures of `bench ssd` are medians of the rounds, and its ratios are ours over theirs."""

from pathlib import Path

import pytest

from spacegray import host
from spacegray.bench import aging, guest, load, servers, ssd
from spacegray.bench.load import COLUMNS, Figure
from spacegray.cli import measuring
from spacegray.errors import SpacegrayError

NAMES = ("seq_read", "seq_write", "rand_read", "rand_write", "flush_write")


def figures(*speeds: float) -> dict[str, list[Figure]]:
    return {column.key: [Figure(speed, 10.0, 20.0, 0.5) for speed in speeds] for column in COLUMNS}


def medium(kind: str = "tmpfs", ours: tuple[float, ...] = (90, 10, 80)) -> ssd.Medium:
    return ssd.Medium(
        Path("/somewhere"),
        kind,
        {
            "ours": figures(*ours),
            "qsd_raw": figures(100, 100, 1),
            "qsd_luks": figures(20, 20, 20),
            "nbdkit_file": figures(160, 160, 200),
            "nbdkit_luks": figures(500, 500, 500),
        },
    )


def test_ratios_are_of_medians_and_the_fastest_is_an_unprotected_one():
    assert medium().ratio() == dict.fromkeys(NAMES, 0.8)
    assert medium().ratio_fastest() == dict.fromkeys(NAMES, 0.5)


def test_the_fastest_is_chosen_column_by_column():
    measured = medium()
    for figure_list in (measured.figures["nbdkit_file"]["flush_write"],):
        figure_list[:] = [Figure(50, 1, 1, 1)] * 3
    assert measured.ratio_fastest()["flush_write"] == 0.8
    assert measured.ratio_fastest()["seq_read"] == 0.5


def test_json_has_the_first_mediums_ratios_at_the_top_and_all_below():
    result = ssd.Result("here", 3, ssd.FULL, [medium(), medium("disk", (50, 50, 50))])
    said = result.as_dict()
    assert tuple(said["ratio"]) == NAMES
    assert tuple(said["ratio_fastest"]) == NAMES
    assert said["ratio"]["seq_read"] == said["media"]["tmpfs"]["ratio"]["seq_read"] == 0.8
    assert said["media"]["disk"]["ratio"]["seq_read"] == 0.5
    assert said["servers"]["ours"]["rand_read"]["median"] == 80
    assert said["servers"]["ours"]["rand_read"]["runs"] == [90, 10, 80]
    assert said["host"] == "here"
    assert "aged" not in said
    assert "beyond" not in said


def test_json_of_the_aged_and_of_what_is_beyond_the_cache():
    result = ssd.Result("here", 3, ssd.FULL, [medium()])
    result.aged = aging.Aged(1 << 30, 1.5, figures(100, 100, 100), figures(80, 1, 90))
    pair = {"ours": figures(50), "qsd_raw": figures(100)}
    result.beyond = aging.Beyond(pair, {"ours": figures(20), "qsd_raw": figures(100)}, (0, 0.7))
    said = result.as_dict()
    assert said["aged"]["ratio"] == dict.fromkeys(NAMES, 0.8)
    assert said["beyond"]["within"]["ratio"]["rand_read"] == 0.5
    assert said["beyond"]["beyond"]["ratio"]["rand_read"] == 0.2
    assert said["beyond"]["beyond"]["missed"] == 0.7
    assert said["aged"]["write_amplification"] == 1.5


def test_each_server_comes_first_in_turn():
    five = [servers.Server(key, Path("/x"), 1) for key in servers.LABELS]
    firsts = [ssd.order(five, number)[0].key for number in range(5)]
    assert firsts == list(servers.LABELS)
    assert all(set(ssd.order(five, n)) == set(five) for n in range(7))


def job(**changes: object) -> dict[str, object]:
    latency = {"mean": 2500.0, "percentile": {"99.000000": 9000}}
    side = {"io_bytes": 1 << 30, "bw_bytes": 500_000_000, "iops": 1000.0, "clat_ns": latency}
    return {
        "read": side,
        "write": {**side, "iops": 77.0},
        "sync": {"lat_ns": {"mean": 40_000.0, "percentile": {"99.000000": 90_000}}},
        **changes,
    }


def test_a_figure_is_what_fio_said():
    by_key = {column.key: column for column in COLUMNS}
    assert load.figure(job(), by_key["seq_read"], 0.5) == Figure(500.0, 2.5, 9.0, 0.5)
    assert load.figure(job(), by_key["rand_read"], 0.5).speed == 1000.0
    flush = load.figure(job(), by_key["flush_write"], 3.0)
    assert flush == Figure(77.0, 40.0, 90.0, 3.0)


def test_a_load_that_did_nothing_is_an_error():
    nothing = {"io_bytes": 0, "bw_bytes": 0, "iops": 0, "clat_ns": {}}
    with pytest.raises(SpacegrayError, match="no work"):
        load.figure(job(read=nothing), COLUMNS[0], 0.0)


def test_missing_tools_are_one_line_that_names_the_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "find_program", lambda name: None if name == "fio" else name)
    with pytest.raises(SpacegrayError, match=r"fio: not installed; install it") as error:
        servers.check_tools()
    assert "\n" not in str(error.value)


def test_no_room_is_said_before_anything_is_made(tmp_path):
    with (
        pytest.raises(SpacegrayError, match="GiB free, and it takes"),
        ssd.work_folder(tmp_path, 1 << 60),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_work_folder_goes_again(tmp_path):
    with ssd.work_folder(tmp_path, 1) as work:
        (work / "image").touch()
    assert not work.exists()


def test_tmpfs_is_told_from_a_disk():
    assert ssd.medium_kind(Path("/dev/shm")) == "tmpfs"
    assert ssd.medium_kind(Path(__file__).parent) == "disk"


def test_a_guests_console_is_read():
    said = """[    1.0] noise
bench seq_write 1000000000 bytes, 10.00 to 12.00\r
bench block_read 4096 bytes, 12.00 to 12.00
bench done"""
    assert guest.speeds_in(said) == {"seq_write": 500.0}


def test_a_guests_ratios_are_of_medians():
    ours, plain = (
        {key: list(values) for key in guest.COLUMNS} for values in ((1.0, 5.0, 9.0), (10.0,))
    )
    found = guest.Guest("tcg", {"ours": ours, "virtio_blk_raw": plain})
    assert found.ratio() == dict.fromkeys(guest.COLUMNS, 0.5)
    assert found.as_dict()["ours"]["seq_read"] == 5


def test_the_table_shows_every_server_and_both_ratios(monkeypatch, capsys):
    result = ssd.Result("here", 3, ssd.FULL, [medium(), medium("disk")])
    result.aged = aging.Aged(1 << 30, 1.5, figures(100), figures(70))
    pair = {"ours": figures(50), "qsd_raw": figures(100)}
    result.beyond = aging.Beyond(pair, pair, (0, 0.7))
    speeds = {key: [100.0] for key in guest.COLUMNS}
    result.guest = guest.Guest("tcg", {"ours": speeds, "virtio_blk_raw": speeds})
    monkeypatch.setattr(ssd, "ssd", lambda **_: result)
    choices = {"aged": True, "beyond": True, "guest": True}
    measuring.ssd(runs=3, quick=False, folders=(), as_json=False, **choices)
    said = capsys.readouterr().out
    for words in (*servers.LABELS.values(), "ours / fastest unprotected", "80 MB/s", "160 IOPS"):
        assert words in said
    for ratio in ("0.80", "0.50", "0.70", "70 %", "1.50"):
        assert ratio in said
