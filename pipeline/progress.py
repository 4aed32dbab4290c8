"""How far a step is, from what is known so far, a few times a second."""

import time

from pipeline.archive_writer import ArchiveWriter
from pipeline.events import Notify, Progress
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc
from pipeline.stages.spool import Spool

_INTERVAL = 0.2  # seconds


class BackupProgress:
    """Reports a backup's progress against what the table of contents announces and the server estimates."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._estimates: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._last = 0.0

    def expect(self, toc: Toc, server: Server) -> None:
        """The table of contents is there: every file that will come, and about how large."""
        tables = [entry for entry in toc.data_entries if entry.description == "TABLE DATA"]
        sizes = server.relation_sizes([entry.oid for entry in tables])
        self._estimates = {entry.filename: sizes.get(entry.oid, 0) for entry in tables}
        self._names = {entry.filename: f"{entry.namespace}.{entry.tag}" for entry in tables}

    def report(self, writer: ArchiveWriter, spool: Spool) -> None:
        """Tell how far it is, if that is due."""
        now = time.monotonic()
        if now - self._last < _INTERVAL:
            return
        self._last = now
        growing = {file.name: file.taken for file in spool.files}
        remaining = sum(
            max(0, estimate - growing.get(name, 0))
            for name, estimate in self._estimates.items()
            if name in growing or not writer.has_seen(name)
        )
        current = tuple(self._names.get(name, name) for name in growing)[:8]
        self._notify(Progress(writer.read, writer.read + remaining, writer.stored, current))
