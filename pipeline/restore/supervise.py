"""Supervise running programs, and the feed from which they read, until all have ended."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from pipeline.concurrency import Workers
from pipeline.errors import RestoreFailed
from pipeline.events import Notify, Progress
from pipeline.postgres.locks import LockWatch
from pipeline.postgres.pg_restore import PgRestore
from pipeline.postgres.psql import Psql
from pipeline.postgres.server import Server
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed

_TICK = 0.05  # seconds between looks at the programs
_INTERVAL = 0.2  # seconds between reports of progress
_REPORT_TIMEOUT = 10.0  # seconds for a thread to report that it has fed all files, after the program has read them
_LOOK_INTERVAL = 2.0  # seconds between looks at the server

_DEFINITIONS = "definitions"
_AFTER_THE_DATA = "indexes, constraints and the like"


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched while programs run, and who is told of their progress."""

    server: Server | None
    """pgstow's own session on the server; None if the programs restore into no server."""
    reader: ObjectReader
    total: int
    """Bytes to feed in all."""
    workers: Workers
    notify: Notify
    locks: LockWatch | None = None
    """Looks for locks for which the programs wait too long; None for no limit."""


def supervise(programs: Sequence[PgRestore | Psql], feed: Feed, watch: Watch, *, done: int = 0) -> None:
    """Wait until all programs have ended. Stop them at once if one fails, or if their input can't be fetched or is damaged.

    Also stop them if pgstow's own session on the server has ended: a program that waits for input doesn't notice that the server is gone.
    ``done`` is the bytes that were fed before.

    Raises RestoreFailed if a program fails, hasn't read its input to the end, or waits too long for a lock. Also raises BackupDamaged,
    StorageError, or ConnectionFailed if the session has ended.
    """
    server, workers = watch.server, watch.workers
    reported = 0.0
    looked = time.monotonic()
    try:
        with server.blamed() if server is not None else nullcontext():
            running = list(programs)
            while running := [program for program in running if not program.has_ended()]:
                workers.collect(timeout=_TICK)
                if server is not None and time.monotonic() - looked > _LOOK_INTERVAL:
                    looked = time.monotonic()
                    server.check_alive()
                    if watch.locks is not None:
                        watch.locks.look()
                if time.monotonic() - reported > _INTERVAL:
                    reported = time.monotonic()
                    fed = done + feed.fed
                    current = tuple(feed.current)
                    if not current:
                        current = (_AFTER_THE_DATA if fed >= watch.total else _DEFINITIONS,)
                    watch.notify(Progress(fed, max(watch.total, fed), watch.reader.fetched, current))
        if server is not None:
            server.check_alive()  # a program that goes on after errors ends with success even if the server is gone
    finally:
        for program in programs:
            program.stop()
        feed.close()
    ended = time.monotonic()
    while feed.unfinished and time.monotonic() - ended < _REPORT_TIMEOUT:
        workers.collect(timeout=_TICK)
    if feed.unfinished:
        raise RestoreFailed("pg_restore ended with success, but did not read all of the archive's data.")
