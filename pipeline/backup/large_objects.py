"""Check that each large object was dumped whole. The file of a large object has no mark at its end, so the server is asked for its size."""

import re
from collections.abc import Mapping
from functools import partial

from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import DumpFailed
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc

_FILE = re.compile(r"blob_(\d+)\.dat")
"""_StartLO() in pg_backup_directory.c."""
_BATCH = 1000  # large objects for each query, which takes the server some 10 ms


class LargeObjectCheck:
    """Compares the size of each large object's file with the object's size on the server.

    The session that exported the dump's snapshot asks for the sizes while the dump goes on. ``workers.collect`` raises DumpFailed if a
    large object isn't whole.
    """

    def __init__(self, server: Server, workers: Workers) -> None:
        self._server = server
        self._asking = workers.pool(1, "large objects")
        self._sizes: dict[int, int] = {}
        self._passed = 0

    @property
    def asking(self) -> bool:
        """True while a query is under way."""
        return self._asking.pending > 0

    def passed(self, file: str, size: int) -> None:
        """Record that a whole file of the archive has passed. ``size`` is its bytes. Files other than large objects are ignored."""
        if (match := _FILE.fullmatch(file)) is None:
            return
        self._sizes[int(match[1])] = size
        self._passed += 1
        if len(self._sizes) >= _BATCH:
            self._ask()

    def finish(self, toc: Toc) -> None:
        """Ask for the remaining sizes, once all files have passed. Call :meth:`Workers.collect` until ``asking`` is False.

        If the archive has large objects, also compare their number: pg_dump dumps either all large objects or none.
        """
        self._ask()
        if any(entry.description == "BLOBS" for entry in toc.data_entries):
            self._asking.submit(self._server.count_large_objects, partial(_compare_count, self._passed))

    def _ask(self) -> None:
        sizes, self._sizes = self._sizes, {}
        if sizes:
            self._asking.submit(partial(self._server.large_object_sizes, list(sizes)), partial(_compare, sizes))


def _compare(dumped: Mapping[int, int], there: Mapping[int, int]) -> None:
    for oid, size in dumped.items():
        if there[oid] != size:
            raise DumpFailed(
                f"pg_dump ended well, but the large object {oid} is not whole: {size:,} bytes of {there[oid]:,} were dumped. Back up again."
            )


def _compare_count(dumped: int, there: int) -> None:
    if there != dumped:
        raise DumpFailed(
            f"pg_dump ended well, but dumped {dumped:,} of {counted(there, 'large object')}. Back up again."
        )
