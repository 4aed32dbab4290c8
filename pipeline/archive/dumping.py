"""A dump under way: the program that writes it, and what takes what it writes."""

from dataclasses import dataclass

from pipeline.archive.writer import ArchiveWriter
from pipeline.concurrency import Workers
from pipeline.events import Notify
from pipeline.postgres.dump import DumpCall
from pipeline.postgres.statement_timeout import StatementTimeout


@dataclass(frozen=True, slots=True)
class Dumping:
    """What the dump of each format needs. ``workers`` has all threads, and its owner makes all calls."""

    call: DumpCall
    statements: StatementTimeout
    writer: ArchiveWriter
    workers: Workers
    piece_size: int
    """Bytes that are read, hashed and compressed at once."""
    notify: Notify
