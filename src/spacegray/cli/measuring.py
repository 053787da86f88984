"""The verb that measures: bench."""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from spacegray import host
from spacegray.bench import aging
from spacegray.bench import boot as boots
from spacegray.bench import chip as chips
from spacegray.bench import guest as guests
from spacegray.bench import ssd as ssds
from spacegray.bench.load import COLUMNS, Figure
from spacegray.bench.servers import LABELS, OURS
from spacegray.cli import output
from spacegray.progress import Silent


def boot(edition: str, *, runs: int, accel: str | None, mirror: str | None, as_json: bool) -> None:
    """Power-on to login with the chip and without; the ratio of the medians last."""
    with output.Bars() as bars:
        result = boots.boot(
            edition,
            runs=runs,
            mirror=mirror or host.mirror(),
            accel=accel,
            progress=Silent() if as_json else bars,
        )
    if as_json:
        output.as_json(result.as_dict())
        return
    print(f"{result.host}; {result.accelerator}, edition {result.edition}")
    rows = [
        (
            name,
            f"{median(run.wall_seconds for run in kind):.1f} s",
            f"{median(run.cpu_seconds for run in kind):.1f} s",
            ", ".join(f"{run.wall_seconds:.1f}" for run in kind),
        )
        for name, kind in (("with the chip", result.chip), ("plain QEMU", result.plain))
    ]
    wall, cpu = result.ratios()
    rows.append(("ratio", f"{wall:.2f}", f"{cpu:.2f}", ""))
    output.table(("power-on to login", "wall (median)", "CPU (median)", "wall, each run"), rows)


def chip(*, runs: int, as_json: bool) -> None:
    """What the chip costs a power-on, seal by seal."""
    with output.Bars() as bars:
        result = chips.chip(runs=runs, progress=Silent() if as_json else bars)
    if as_json:
        output.as_json(result.as_dict())
        return
    print(f"{result.host}; medians of {result.runs}")
    rows = []
    for kind in result.kinds:
        typical = kind.typical()
        times = (typical.ready, typical.prepare, typical.own, typical.secrets, median(kind.erases))
        rows.append([kind.label, *(f"{each:,.0f} ms" for each in times)])
    output.table(("seal", "ready", "prepare", "own share", "secrets", "erase"), rows)
    if (tpm := result.tpm_milliseconds()) is not None:
        print(f"of tpm2's own share, the TPM's (what it takes beyond keyfile): {tpm:,.0f} ms")


def ssd(
    *,
    runs: int,
    quick: bool,
    folders: Iterable[str],
    aged: bool,
    beyond: bool,
    guest: bool,
    as_json: bool,
) -> None:
    """The disk beside unprotected and less protected servers; ratios last."""
    with output.Bars() as bars:
        result = ssds.ssd(
            runs=1 if quick else runs,
            extent=ssds.QUICK if quick else ssds.FULL,
            folders=tuple(map(Path, folders)),
            aged=aged,
            beyond=beyond,
            guest=guest,
            progress=Silent() if as_json else bars,
        )
    if as_json:
        output.as_json(result.as_dict())
        return
    print(f"{result.host}; {result.runs} rounds of {result.extent.seconds} s")
    for medium in result.media:
        _show_medium(medium)
    if result.aged is not None:
        _show_aged(result.aged)
    if result.beyond is not None:
        _show_beyond(result.beyond)
    if result.guest is not None:
        _show_guest(result.guest)


def _show_medium(medium: ssds.Medium) -> None:
    ratio, fastest = medium.ratio(), medium.ratio_fastest()
    speeds = [
        [LABELS[name], *(f"{_median(found[c.key], _speed):,.0f} {c.unit}" for c in COLUMNS)]
        for name, found in medium.figures.items()
    ]
    speeds.append(["ours / storage daemon raw", *(f"{ratio[c.key]:.2f}" for c in COLUMNS)])
    speeds.append(["ours / fastest unprotected", *(f"{fastest[c.key]:.2f}" for c in COLUMNS)])
    titles = [column.title for column in COLUMNS]
    print()
    output.table((f"{medium.kind} ({medium.folder})", *titles), speeds)
    print()
    output.table(
        ("latency, mean and p99", *titles),
        (
            [LABELS[name], *(_latency(found[c.key]) for c in COLUMNS)]
            for name, found in medium.figures.items()
        ),
    )
    print()
    output.table(
        ("CPU seconds per GiB", *titles),
        (
            [LABELS[name], *(f"{_median(found[c.key], _cpu):.2f}" for c in COLUMNS)]
            for name, found in medium.figures.items()
        ),
    )


def _show_aged(aged: aging.Aged) -> None:
    ratio = aged.ratio()
    print()
    output.table(
        ("aged (tmpfs)", *(column.title for column in COLUMNS)),
        [
            [
                name,
                *(f"{_median(found[c.key], _speed):,.0f} {c.unit}" for c in COLUMNS),
            ]
            for name, found in (
                (f"new, {aging.FILLED_PERCENT} % filled", aged.fresh),
                ("overwritten at random", aged.aged),
            )
        ]
        + [["ratio", *(f"{ratio[column.key]:.2f}" for column in COLUMNS)]],
    )
    print(f"written to the modules for each byte written at random: {aged.write_amplification:.2f}")


def _show_beyond(beyond: aging.Beyond) -> None:
    figures = beyond.as_dict()
    print()
    output.table(
        (
            "index cache (tmpfs)",
            *("4K rand read", "ours / raw", "4K rand write", "ours / raw", "leaves missed"),
        ),
        [
            [
                label,
                *(
                    cell
                    for key in ("rand_read", "rand_write")
                    for cell in (
                        f"{figures[name]['ours'][key]:,.0f} IOPS",
                        f"{figures[name]['ratio'][key]:.2f}",
                    )
                ),
                f"{100 * figures[name]['missed']:.0f} %",
            ]
            for name, label in (("within", "within it"), ("beyond", "four times it"))
        ],
    )


def _show_guest(guest: guests.Guest) -> None:
    ratio = guest.ratio()
    rows = [
        [label, *(f"{median(guest.speeds[name][key]):,.0f} MB/s" for key in guests.COLUMNS)]
        for name, label in ((OURS, "ours, vhost-user-blk"), (guests.PLAIN, "raw, virtio-blk"))
    ]
    print()
    output.table(
        (f"in a guest (tmpfs, {guest.accelerator})", *guests.COLUMNS.values()),
        [*rows, ["ratio", *(f"{ratio[key]:.2f}" for key in guests.COLUMNS)]],
    )


def _speed(figure: Figure) -> float:
    return figure.speed


def _cpu(figure: Figure) -> float:
    return figure.cpu_seconds_per_gib


def _median(figures: list[Figure], of: Callable[[Figure], float]) -> float:
    return median(of(figure) for figure in figures)


def _latency(figures: list[Figure]) -> str:
    mean = median(figure.mean_us for figure in figures)
    p99 = median(figure.p99_us for figure in figures)
    return f"{mean:,.0f} {p99:,.0f} µs"
