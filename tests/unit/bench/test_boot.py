"""The figures of `bench boot` are those of the runs, and nothing else."""

import os
import subprocess
import sys

from spacegray.bench import home
from spacegray.bench.boot import Result, Run


def test_ratios_are_of_medians():
    chip = [Run(12.0, 6.0), Run(10.0, 6.0), Run(50.0, 6.0)]
    plain = [Run(10.0, 3.0), Run(8.0, 3.0), Run(10.0, 3.0)]
    result = Result("tiny", "tcg", "here", chip, plain)
    assert result.ratios() == (1.2, 2.0)
    assert result.as_dict()["wall_ratio"] == 1.2
    assert len(result.as_dict()["chip"]) == 3


def test_cpu_seconds_count_children_too():
    before = home.cpu_seconds(os.getpid())
    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)
    assert home.cpu_seconds(os.getpid()) - before > 0.05
