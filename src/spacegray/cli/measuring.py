"""The verb that measures: bench."""

from statistics import median

from spacegray import host
from spacegray.bench import boot as boots
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
