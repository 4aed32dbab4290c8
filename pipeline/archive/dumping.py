"""A running dump: the program that writes it, and the writer that takes its output."""

from dataclasses import dataclass

from pipeline.archive.writer import ArchiveWriter
from pipeline.concurrency import Workers
from pipeline.events import Notify
from pipeline.postgres.dump import DumpCall
from pipeline.postgres.statement_timeout import StatementTimeout


@dataclass(frozen=True, slots=True)
class Dumping:
    """The parts that a dump in any format needs. Call everything from the thread that made ``workers``."""

    call: DumpCall
    statement_timeout: StatementTimeout
    writer: ArchiveWriter
    workers: Workers
    piece_size: int
    """Bytes of a piece, which is read, hashed and compressed at once."""
    notify: Notify
