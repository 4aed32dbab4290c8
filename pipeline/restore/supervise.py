"""Supervises a running pg_restore or psql, and the feed from which it reads, until both have ended."""

import time
from contextlib import nullcontext

from pipeline.concurrency import Workers
from pipeline.errors import RestoreFailed
from pipeline.events import Notify, Progress
from pipeline.postgres.pg_restore import PgRestore
from pipeline.postgres.psql import Psql
from pipeline.postgres.server import Server
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed

_TICK = 0.05  # seconds between looks at pg_restore
_INTERVAL = 0.2  # seconds between reports of progress
_REPORT_TIMEOUT = 10.0  # seconds for a thread to report that it has fed all files, after pg_restore has read them
_LOOK_INTERVAL = 2.0  # seconds between looks at the server, and for a pipe that pg_restore opened out of turn


_AFTER_THE_DATA = ("indexes, constraints and so on",)


def supervise(
    restoration: PgRestore | Psql,
    feed: Feed,
    reader: ObjectReader,
    server: Server | None,
    total: int,
    workers: Workers,
    notify: Notify,
) -> None:
    """Wait until pg_restore or psql has ended. Stop it at once if its input can't be fetched or is damaged.

    ``server`` is pgstow's session on the same server; None if the program restores into no server. If the session ends, stop the program
    too: a program that waits for input doesn't notice that the server is gone. ``total`` is the number of bytes to feed, for the reports of
    progress.

    Raises RestoreFailed if the program fails or hasn't read its input to the end, BackupDamaged, StorageError, or ConnectionFailed if the
    session has ended.
    """
    reported = 0.0
    looked = time.monotonic()
    try:
        with server.blamed() if server is not None else nullcontext():
            while not restoration.has_ended():
                workers.collect(timeout=_TICK)
                if time.monotonic() - looked > _LOOK_INTERVAL:
                    looked = time.monotonic()
                    if server is not None:
                        server.check_alive()
                    feed.serve_out_of_order()
                if time.monotonic() - reported > _INTERVAL:
                    reported = time.monotonic()
                    current = tuple(feed.current) or (_AFTER_THE_DATA if feed.fed >= total else ())
                    notify(Progress(feed.fed, max(total, feed.fed), reader.fetched, current))
        if server is not None:
            server.check_alive()  # with --keep-going, the program reports success even if the server is gone
    finally:
        restoration.stop()
        feed.close()
    ended = time.monotonic()
    while feed.unfinished and time.monotonic() - ended < _REPORT_TIMEOUT:
        workers.collect(timeout=_TICK)
    if feed.unfinished:
        raise RestoreFailed(
            f"pg_restore reported success but did not read {feed.unfinished} of the archive's files to their end."
        )
