"""Reads the archive's table of contents during a backup."""

from collections.abc import Callable, Sequence
from functools import partial

from pipeline.concurrency import Workers
from pipeline.postgres.toc import DataEntry
from pipeline.postgres.toc_data import DataEntryReader
from pipeline.stages.spool import Piece


class Contents:
    """Reads the pieces of ``toc.dat``, each as soon as it comes. Calls ``then`` with the entries whose data have files.

    Another thread reads, because a table of contents may take seconds, and the calling thread must watch the spool. ``workers.collect``
    raises DumpFailed if the table of contents can't be read.
    """

    def __init__(self, workers: Workers, then: Callable[[Sequence[DataEntry]], None]) -> None:
        self._reading = workers.pool(1, "contents")
        self._reader = DataEntryReader()  # only the pool's thread uses it
        self._then = then
        self.entries: Sequence[DataEntry] | None = None
        """The entries, in the archive's order; None before all have been read."""

    @property
    def reading(self) -> bool:
        """True while pieces are being read."""
        return self._reading.pending > 0

    def take(self, piece: Piece) -> None:
        """Take the next piece of ``toc.dat``."""
        self._reading.submit(partial(self._reader.take, piece.data), lambda _: None)
        if piece.last:
            self._reading.submit(self._reader.finish, self._keep)

    def _keep(self, entries: Sequence[DataEntry]) -> None:
        self.entries = entries
        self._then(entries)
