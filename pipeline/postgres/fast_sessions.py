"""Settings that make a restore faster, and the transaction that makes the restored database durable in the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConnectionFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server

_MOST_MEMORY = 1024**3  # bytes; larger sorts gain little
_MOST_WORKERS = 1024
"""The largest value of ``max_parallel_maintenance_workers`` (``MAX_PARALLEL_WORKER_LIMIT``). A server refuses sessions with a larger one."""
_DURABLE = "SELECT pg_catalog.pg_logical_emit_message(true, 'pgstow', '')"
"""A transaction that writes to the write-ahead log, and changes no table.

Its commit waits as ``synchronous_commit`` of pgstow's session says: until the log up to this commit is on disk, and on the standbys that
the server waits for. A transaction that only takes an ID would wait for nothing (``RecordTransactionCommit`` in xact.c). Every role may
call the function, unless an administrator has revoked the right. Replication by publications leaves the message out.
"""


@contextmanager
def fast_sessions(target: Conninfo, server: Server, jobs: int) -> Iterator[Conninfo]:
    """Yield the target with settings that make a restore by ``jobs`` sessions faster. After the block, make their commits durable.

    ``server`` is a session on the target with the settings of the user. If the block fails, the commits aren't made durable.

    - ``synchronous_commit`` is off, if the role may make the commits durable afterwards.
    - ``maintenance_work_mem`` is such that all sessions together have as much as ``shared_buffers``, but each at most 1 GiB.
    - ``max_parallel_maintenance_workers`` is ``jobs``, but at most 1024.

    A setting of the user's connection string or environment stays, and the last two are never lowered. If a pooler refuses the settings, the
    target stays as it is. Raises ConnectionFailed.
    """
    settings = _settings(server, jobs)
    fast = target
    for name, value in settings.items():
        fast = fast.with_setting(name, value)
    if not settings or not _is_accepted(fast):
        yield target
        return
    yield fast
    if "synchronous_commit" in settings:
        server.fetch(_DURABLE)


def _settings(server: Server, jobs: int) -> dict[str, str]:
    [(commit, memory, shared, workers)] = server.fetch(
        "SELECT pg_catalog.current_setting('synchronous_commit'), "
        "pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem')), "
        "pg_catalog.pg_size_bytes(pg_catalog.current_setting('shared_buffers')), "
        "pg_catalog.current_setting('max_parallel_maintenance_workers')::pg_catalog.int4"
    )
    found = dict[str, str]()
    if commit != "off" and server.fetch_if_allowed(_DURABLE) is not None:
        found["synchronous_commit"] = "off"
    if (enough := min(shared // jobs, _MOST_MEMORY)) > memory:
        found["maintenance_work_mem"] = f"{enough // 1024}kB"
    if (most := min(jobs, _MOST_WORKERS)) > workers:
        found["max_parallel_maintenance_workers"] = str(most)
    chosen = {name for (name,) in server.fetch("SELECT name FROM pg_catalog.pg_settings WHERE source = 'client'")}
    return {name: value for name, value in found.items() if name not in chosen}


def _is_accepted(target: Conninfo) -> bool:
    """True if a session with the target's settings can begin. Some poolers refuse settings that they don't know."""
    try:
        Server(target).close()
    except ConnectionFailed:
        return False
    return True
