"""Measure zstd's levels on a dump, which is compressed in pieces, as in a backup: ``python -m benchmarks.levels``.

The speeds are those of one core. Other programs change them little, since they come from the thread's CPU time.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks.database import LARGEST, Shape, build
from pipeline.config import LEVELS, MIB, Limits
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.stages.compress import Compressor

_PIECE = Limits(jobs=1).piece_size
_SHAPE = Shape(megabytes=20, largest_share=0.9, small_tables=10)
_MOST = 16 * MIB
"""The most bytes that are compressed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a level costs, and what it leaves."""

    level: int
    speed: float
    """Bytes of the dump that one core compresses in a second."""
    left: float
    """The size of the frames, divided by the size of the dump."""

    def __str__(self) -> str:
        """Return a line below :data:`HEAD`."""
        return f"{self.level:5} {self.speed / MIB:13.1f} {self.left:6.1%}"


HEAD = "level  MiB/s a core   left"


def measure(level: int, dump: bytes) -> Cost:
    """Compress the dump at the level."""
    compressor, pieces = Compressor(level), [dump[at : at + _PIECE] for at in range(0, len(dump), _PIECE)]
    began = time.thread_time()
    stored = sum(len(compressor.frame(piece)) for piece in pieces)
    return Cost(level, len(dump) / (time.thread_time() - began), stored / len(dump))


def _largest_table() -> bytes:
    """Return the beginning of the largest table of the benchmark's database."""
    with ThrowawayCluster() as cluster:
        build(cluster.conninfo(), _SHAPE)
        copy = sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(LARGEST))
        with psycopg.connect(cluster.conninfo()) as connection, connection.cursor().copy(copy) as rows:
            return b"".join(map(bytes, rows))[:_MOST]


def main() -> None:
    """Print what each level costs and leaves."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levels", description=__doc__)
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="a file of pg_dump -Fd -Z0, such as that of your largest table; default: a table of the benchmarks. "
        f"The first {_MOST // MIB} MiB are compressed",
    )
    file: Path | None = parser.parse_args().file
    if file is None:
        dump = _largest_table()
    else:
        with file.open("rb") as opened:
            dump = opened.read(_MOST)
    print(HEAD)
    for level in LEVELS:
        print(measure(level, dump), flush=True)  # the highest levels take many seconds


if __name__ == "__main__":
    main()
