"""The lock that allows only one backup of a database at a time, and the locks that pg_dump and pg_restore wait for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pipeline.errors import BackupRunning, ConnectionFailed, PipelineError, RestoreFailed
from pipeline.postgres.server import Server

_BACKUP = int.from_bytes(b"pgstow", "big")
"""The number of the advisory lock. Each database has its own advisory locks."""


@contextmanager
def backup_lock(server: Server, name: str) -> Iterator[None]:
    """Allow no other backup of the session's database while the block lasts. Raises BackupRunning if another backup is running.

    A standby has its own locks, so a backup of the standby and a backup of its primary may run at once. ``name`` becomes the session's
    application name, which everybody may see. If the client vanishes without closing the connection, the server ends the session and frees
    the lock after two minutes. Raises ConnectionFailed.
    """
    server.fetch(
        "SELECT pg_catalog.set_config('application_name', %s, false), pg_catalog.set_config('tcp_keepalives_idle', '60', false), "
        "pg_catalog.set_config('tcp_keepalives_interval', '10', false), pg_catalog.set_config('tcp_keepalives_count', '6', false)",
        [name],
    )
    [(alone,)] = server.fetch("SELECT pg_catalog.pg_try_advisory_lock(%s)", [_BACKUP])
    if not alone:
        raise BackupRunning(
            f"Another backup of {server.name} is running{_running(server)}: wait until it has ended, or stop it."
        )
    try:
        yield
    except ConnectionFailed:
        raise  # nobody answers
    except Exception:
        _unlock(server)
        raise
    _unlock(server)


def _unlock(server: Server) -> None:
    """Free the lock at once: the next backup may begin before the server notices that this session has ended."""
    with suppress(PipelineError):
        server.fetch("SELECT pg_catalog.pg_advisory_unlock(%s)", [_BACKUP])


@dataclass(frozen=True, slots=True)
class Blocker:
    """A session or a prepared transaction that holds or awaits a lock on a table, so that another session can't have its lock."""

    table: str
    """The table's schema and name, as in SQL."""
    process: int | None
    """The process ID on the server; None for a prepared transaction, whose session may have ended long ago."""
    role: str | None
    """None for one of the server's own processes, as on a standby."""
    application: str | None
    """The session's application name; None for one of the server's own processes, and for a prepared transaction."""
    holds: bool
    """True if the session holds the lock; False if it waits for the lock. Other sessions then queue behind it."""
    prepared: str | None = None
    """The prepared transaction's identifier, quoted as in SQL; None for a session."""

    def __str__(self) -> str:
        """Return the beginning of a sentence: who holds or awaits the lock, and on which table."""
        if self.prepared is not None:
            return f"The prepared transaction {self.prepared} of the role {self.role} holds a lock on {self.table}"
        names = (("role", self.role), ("application", self.application))
        who = [f"process {self.process} of the server", *(f"{what} {name}" for what, name in names if name)]
        return f"Another session ({', '.join(who)}) {'holds' if self.holds else 'waits for'} a lock on {self.table}"

    @property
    def remedy(self) -> str:
        """Advice for the user, as a clause that begins with a verb."""
        if self.prepared is not None:
            return (
                "end the prepared transaction in this database, if no transaction manager will end it "
                f"(COMMIT PREPARED {self.prepared} or ROLLBACK PREPARED {self.prepared})"
            )
        return "wait until that transaction has ended, or end it"


def find_blockers(server: Server) -> list[Blocker]:
    """Return all who block readers of a table in the session's database: they hold or await an ACCESS EXCLUSIVE lock.

    Holders of locks come before those who wait. Raises ConnectionFailed.
    """
    server.fetch("SELECT pg_catalog.pg_stat_clear_snapshot()")
    return [Blocker(*row) for row in server.fetch(_BLOCKERS.format(who="l.mode = 'AccessExclusiveLock'"))]


class LockWatch:
    """Looks for sessions that wait for another session's lock longer than ``timeout`` seconds; 0 for no limit.

    ``name`` is the application name of the sessions. They may wait for one another as long as they like, even if other sessions stand
    between them in a queue. With ``everywhere``, the sessions may be in any database, and otherwise only in the database of ``server``:
    another restore of the same backup has sessions of the same name.
    """

    def __init__(self, server: Server, name: str, timeout: int, *, everywhere: bool = False) -> None:
        self._server, self._name, self._timeout = server, name, timeout
        self._sessions = {"name": name, "everywhere": everywhere}
        self._since: dict[tuple[Any, ...], float] = {}
        """When a look first found each session waiting, by its process ID on the server and the begin of its statement. Sessions that no longer
        wait are left out."""

    def look(self) -> None:
        """Raise RestoreFailed, naming the blocker, if a session waits for too long. Call this every few seconds. Raises ConnectionFailed."""
        if not self._timeout:
            return
        now = time.monotonic()
        with self._server.as_login():  # another role may not see the names of the login's sessions
            waiting = self._server.fetch(_WAITING, self._sessions)
            self._since = {statement: self._since.get(statement, now) for statement in waiting}
            late = [process for (process, _), since in self._since.items() if now - since > self._timeout]
            if late:
                self._fail(late[0])

    def _fail(self, process: int) -> None:
        rows = self._server.fetch(_BLOCKERS.format(who=_BLOCKS), {"process": process})
        blockers = [blocker for blocker in (Blocker(*row) for row in rows) if blocker.application != self._name]
        trouble = str(blockers[0]) if blockers else "Another session holds a lock"
        remedy = blockers[0].remedy if blockers else "wait until that transaction has ended, or end it"
        raise RestoreFailed(
            f"{trouble}, for which the restore waited {self._timeout:,} s: {remedy}, or raise --lock-wait-timeout."
        )


def _running(server: Server) -> str:
    """Return the application name and the process of the backup that holds the lock, in parentheses; empty if the server hides them."""
    rows = server.fetch(_RUNNING, [_BACKUP >> 32, _BACKUP & 0xFFFFFFFF])
    return "".join(f" ({name}, process {process} of the server)" for name, process in rows[:1])


_HERE = "l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"

_RUNNING = f"""
SELECT a.application_name, l.pid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND {_HERE} AND l.granted AND l.classid = %s AND l.objid = %s AND l.objsubid = 1
"""  # noqa: S608 - constants

# A prepared transaction keeps its session's virtual ID until the server restarts. It also holds a lock on its own transaction ID. The query
# finds this lock first, and then the locks with the same virtual ID.
_BLOCKERS = f"""
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), l.pid, coalesce(a.usename, x.owner), a.application_name,
       l.granted, pg_catalog.quote_literal(x.gid)
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_stat_activity a USING (pid)
LEFT JOIN (
    pg_catalog.pg_locks own JOIN pg_catalog.pg_prepared_xacts x ON own.transactionid = x.transaction AND own.pid IS NULL
) ON l.pid IS NULL AND own.virtualtransaction = l.virtualtransaction
WHERE l.locktype = 'relation' AND {_HERE} AND (l.pid IS NOT NULL OR x.gid IS NOT NULL) AND {{who}}
ORDER BY l.granted DESC, l.pid
"""  # noqa: S608 - constants

_BLOCKS = """
coalesce(l.pid, 0) = ANY (pg_catalog.pg_blocking_pids(%(process)s))
AND l.relation IN (SELECT w.relation FROM pg_catalog.pg_locks w WHERE w.pid = %(process)s AND NOT w.granted)
"""

# A session that blocks another may itself wait in the queue for the lock, behind one of the own sessions. So the query follows the chain of
# other sessions to one that waits for nobody.
_WAITING = """
WITH RECURSIVE own AS (
    SELECT a.pid, a.query_start::pg_catalog.text AS began, a.wait_event_type FROM pg_catalog.pg_stat_activity a
    WHERE a.application_name = %(name)s AND (%(everywhere)s OR a.datname = pg_catalog.current_database())
), chain (process, began, other) AS (
    SELECT own.pid, own.began, blocker FROM own CROSS JOIN pg_catalog.unnest(pg_catalog.pg_blocking_pids(own.pid)) AS blocker
    WHERE own.wait_event_type = 'Lock' AND blocker NOT IN (SELECT pid FROM own)
    UNION
    SELECT process, began, blocker FROM chain CROSS JOIN pg_catalog.unnest(pg_catalog.pg_blocking_pids(other)) AS blocker
    WHERE blocker NOT IN (SELECT pid FROM own)
)
SELECT DISTINCT process, began FROM chain WHERE pg_catalog.cardinality(pg_catalog.pg_blocking_pids(other)) = 0
"""
