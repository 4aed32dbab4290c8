"""The benchmark of zstd's levels compresses as a backup does."""

import random
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.levels import HEAD, Cost, measure
from pipeline.config import LEVELS, MIB

WORDS = b"order paid shipped invoice login web ios android api".split()


def dump(size: int) -> bytes:
    """Return rows of random words."""
    chosen = random.Random(0).choices(WORDS, k=size // 4)
    return b"\t".join(chosen)[:size]


def test_a_higher_level_leaves_less() -> None:
    data = dump(5 * MIB)  # two pieces
    low, high = measure(1, data), measure(9, data)
    assert (low.level, high.level) == (1, 9)
    assert 0 < high.left < low.left < 1
    assert low.speed > 0


def test_the_table() -> None:
    assert [HEAD, str(Cost(3, 159.04 * MIB, 0.333)), str(Cost(19, 1.0 * MIB, 0.28))] == [
        "level  MiB/s a core   left",
        "    3         159.0  33.3%",
        "   19           1.0  28.0%",
    ]


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "1.dat").write_bytes(dump(10_000))
    command = [sys.executable, "-m", "benchmarks.levels", tmp_path / "1.dat"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [int(line.split()[0]) for line in printed.splitlines()[1:]] == list(LEVELS)
    assert re.fullmatch(r"level .*(\n +\d+ +[\d.]+ +[\d.]+%)+\n", printed)
