"""Checks that each large object was dumped whole. A large object's file has no end mark, so pgstow asks the server for the object's size."""

import re
from collections.abc import Mapping
from functools import partial

from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import DumpFailed
from pipeline.postgres.server import Server

_FILE = re.compile(r"blob_(\d+)\.dat")
"""_StartLO() in pg_backup_directory.c."""
_BATCH = 1000  # large objects in each query, which takes the server about 10 ms


class LargeObjectCheck:
    """Compares the size of each large object's file with the object's size on the server.

    The session that exported the dump's snapshot asks for the sizes during the dump. ``workers.collect`` raises DumpFailed if a
    large object isn't whole.
    """

    def __init__(self, server: Server, workers: Workers) -> None:
        self._server = server
        self._asking = workers.pool(1, "large objects")
        self._sizes: dict[int, int] = {}
        self._passed = 0

    @property
    def asking(self) -> bool:
        """True while a query runs."""
        return self._asking.pending > 0

    def passed(self, file: str, size: int) -> None:
        """Record that a whole file of the archive has passed. ``size`` is the file's size in bytes. Only files of large objects count."""
        if (match := _FILE.fullmatch(file)) is None:
            return
        self._sizes[int(match[1])] = size
        self._passed += 1
        if len(self._sizes) >= _BATCH:
            self._ask()

    def finish(self, *, any_dumped: bool) -> None:
        """Ask for the remaining sizes, once all files have passed. Then call :meth:`Workers.collect` until ``asking`` is False.

        If the archive has large objects, also compare their number with the server's: pg_dump dumps either all large objects or none.
        """
        self._ask()
        if any_dumped:
            self._asking.submit(self._server.count_large_objects, partial(_compare_count, self._passed))

    def _ask(self) -> None:
        sizes, self._sizes = self._sizes, {}
        if sizes:
            self._asking.submit(partial(self._server.large_object_sizes, list(sizes)), partial(_compare, sizes))


def _compare(dumped: Mapping[int, int], on_server: Mapping[int, int]) -> None:
    for oid, size in dumped.items():
        if on_server[oid] != size:
            raise DumpFailed(
                f"pg_dump reported success but dumped {size:,} bytes of the large object {oid}, which has {on_server[oid]:,} bytes. "
                "Back up again."
            )


def _compare_count(dumped: int, on_server: int) -> None:
    if on_server != dumped:
        raise DumpFailed(
            f"pg_dump reported success but dumped {dumped:,} of {counted(on_server, 'large object')}. Back up again."
        )
