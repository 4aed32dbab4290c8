"""A running dump: the program that writes it, and the writer that takes its output."""

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.archive.writer import ArchiveWriter
from pipeline.concurrency import Workers
from pipeline.events import Notify
from pipeline.postgres.dump import Dump, DumpCall
from pipeline.postgres.statement_timeout import StatementTimeout

TICK = 0.02
"""Seconds between two looks at a dump. In this time, pg_dump writes 20 MB at 1 GB/s."""


@dataclass(frozen=True, slots=True)
class DumpContext:
    """The parts that a dump in any format needs. Use them only from the thread that made ``workers``."""

    call: DumpCall
    statement_timeout: StatementTimeout
    writer: ArchiveWriter
    workers: Workers
    piece_size: int
    """The size of a piece, in bytes. A piece is read, hashed and compressed as a whole."""
    notify: Notify
    open_stores: Callable[[], None]
    """Open the stores, in threads. Call this once the program runs: a program needs a while before it writes data."""

    def await_end(self, dump: Dump) -> None:
        """Wait for the program to end. Raises as ``dump.has_ended``, ``statement_timeout.look`` and ``workers.collect`` do."""
        while not dump.has_ended():
            self.statement_timeout.look()
            self.workers.collect(timeout=TICK)
