"""Reports a backup's progress, a few times a second."""

import time
from contextlib import suppress
from functools import partial

from pipeline.archive.writer import ArchiveWriter
from pipeline.concurrency import Workers
from pipeline.errors import PipelineError
from pipeline.postgres.server import Server
from pipeline.postgres.toc_format import read_toc
from pipeline.stages.spool import Spool

_INTERVAL = 0.2  # seconds

_Announced = dict[str, tuple[str, int]]
"""For each file: its table, and an estimate of the file's size in bytes."""


class BackupProgress:
    """Reports a backup's progress. The table of contents names the files to come, and the server estimates their sizes."""

    def __init__(self, workers: Workers) -> None:
        self._asking = workers.pool(1, "estimate")
        self._announced: _Announced = {}
        self._last = 0.0

    def expect(self, toc_data: bytes, server: Server) -> None:
        """Take the bytes of the table of contents, and ask the server for estimates of the files' sizes.

        Another thread asks, because the answer takes seconds for many thousands of tables, and the calling thread must watch the spool.
        """
        self._asking.submit(partial(_announce, toc_data, server), self._announced.update)

    @property
    def asking(self) -> bool:
        """True while a query runs."""
        return self._asking.pending > 0

    def report(self, writer: ArchiveWriter, spool: Spool) -> None:
        """Notify of the backup's progress, unless the last report was less than 0.2 seconds ago."""
        now = time.monotonic()
        if now - self._last < _INTERVAL:
            return
        self._last = now
        growing = {file.name: file.taken for file in spool.files}
        remaining = sum(
            max(0, estimate - growing.get(name, 0))
            for name, (_, estimate) in self._announced.items()
            if name in growing or not writer.has_seen(name)
        )
        current = tuple(self._announced[name][0] if name in self._announced else name for name in growing)[:8]
        writer.report(remaining, current)


def _announce(toc_data: bytes, server: Server) -> _Announced:
    tables = [entry for entry in read_toc(toc_data).data_entries if entry.description == "TABLE DATA"]
    sizes: dict[int, int] = {}
    with suppress(PipelineError):  # a missing estimate must not make the backup fail
        sizes = server.estimated_sizes([entry.oid for entry in tables])
    return {entry.filename: (f"{entry.namespace}.{entry.tag}", sizes.get(entry.oid, 0)) for entry in tables}
