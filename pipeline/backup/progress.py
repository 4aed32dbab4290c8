"""Reports a backup's progress, a few times a second."""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice

from pipeline.archive.writer import ArchiveWriter
from pipeline.concurrency import Workers
from pipeline.errors import PipelineError
from pipeline.postgres.server import Server
from pipeline.postgres.toc import DataEntry

_INTERVAL = 0.2  # seconds
_SHOWN = 8  # tables
_BATCH = 1000  # tables in each query: one answer about all tables would take much memory for a moment

_Announced = dict[str, tuple[DataEntry, int]]
"""For each file: the entry of its table, and an estimate of the file's size in bytes."""


class BackupProgress:
    """Reports a backup's progress. The table of contents names the files to come, and the server estimates their sizes.

    The cost of a report doesn't grow with the number of files.
    """

    def __init__(self, workers: Workers) -> None:
        self._asking = workers.pool(1, "estimate")
        self._announced: _Announced = {}
        """The files that have not been read to their end."""
        self._to_come = 0
        """The sum of the estimates in ``_announced``."""
        self._begun: dict[str, int] = {}
        """The bytes read of each file that has not been read to its end."""
        self._early: set[str] | None = set()
        """The files that were read before the server's answer; None after the answer."""
        self._last = 0.0

    def expect(self, entries: Sequence[DataEntry], server: Server) -> None:
        """Take the entries of the table of contents, and ask the server for estimates of the files' sizes.

        Another thread asks, because the answer takes seconds for many thousands of tables, and the calling thread must watch the spool.
        """
        self._asking.submit(partial(_estimate, entries, server), self._announce)

    @property
    def asking(self) -> bool:
        """True while a query runs."""
        return self._asking.pending > 0

    def passed(self, name: str, taken: int, *, last: bool) -> None:
        """Record that ``taken`` bytes of a file were read. ``last`` is true if these are all bytes of the file."""
        if not last:
            self._begun[name] = taken
            return
        self._begun.pop(name, None)
        if self._early is not None:
            self._early.add(name)
        elif announced := self._announced.pop(name, None):
            self._to_come -= announced[1]

    def report(self, writer: ArchiveWriter, growing: Iterable[str]) -> None:
        """Notify of the backup's progress, unless the last report was less than 0.2 seconds ago. ``growing`` has the files in progress."""
        now = time.monotonic()
        if now - self._last < _INTERVAL:
            return
        self._last = now
        announced = self._announced
        read = sum(min(taken, announced[name][1]) for name, taken in self._begun.items() if name in announced)
        current = list(map(self._name, islice(growing, _SHOWN)))
        writer.report(self._to_come - read, current)

    def _name(self, file: str) -> str:
        """Return the name of the file's table. If the file has no table, return the file's own name."""
        announced = self._announced.get(file)
        return f"{announced[0].namespace}.{announced[0].tag}" if announced else file

    def _announce(self, announced: _Announced) -> None:
        early, self._early = self._early or set(), None
        self._announced = {name: what for name, what in announced.items() if name not in early}
        self._to_come = sum(estimate for _, estimate in self._announced.values())


def _estimate(entries: Sequence[DataEntry], server: Server) -> _Announced:
    tables = [entry for entry in entries if entry.description == "TABLE DATA"]
    sizes: dict[int, int] = {}
    with suppress(PipelineError):  # a missing estimate must not make the backup fail
        for start in range(0, len(tables), _BATCH):
            sizes |= server.estimated_sizes([entry.oid for entry in tables[start : start + _BATCH]])
    return {entry.filename: (entry, sizes.get(entry.oid, 0)) for entry in tables}
