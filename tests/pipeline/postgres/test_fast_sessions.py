"""Sessions that commit asynchronously, and the transaction that makes their work durable. The servers are real."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import wait_until
from support.postgres_fixtures import Database

from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.fast_sessions import fast_sessions
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster

MAJORS = (14, 18)
SETTINGS = {
    "synchronous_commit": "on",
    "wal_writer_delay": "10s",  # the server itself must not make the log durable before the test has looked
    "wal_writer_flush_after": "1GB",
    "autovacuum": "off",
    "shared_buffers": "192MB",
}


@pytest.fixture(scope="module", params=MAJORS)
def durable(programs: Callable[[int], Path], request: pytest.FixtureRequest) -> Iterator[Database]:
    """The first database of a server whose commits wait until they are durable."""
    with ThrowawayCluster(search=[programs(request.param)], settings=SETTINGS) as cluster:
        assert cluster.major == request.param
        yield Database("postgres", cluster.conninfo())


@pytest.fixture
def login(durable: Database) -> Iterator[str]:
    """The connection string of a role without special rights, which owns the schema ``own``."""
    durable.execute("CREATE ROLE plain LOGIN; CREATE SCHEMA own AUTHORIZATION plain")
    yield make_conninfo(durable.conninfo, user="plain")
    durable.execute("DROP SCHEMA own CASCADE; DROP OWNED BY plain; DROP ROLE plain")


def change(target: Conninfo) -> None:
    """Commit a transaction in a session of its own."""
    with closing(psycopg.connect(target.for_psycopg(), autocommit=True)) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS own.t (i int)")
        connection.execute("INSERT INTO own.t SELECT generate_series(1, 1000)")


def position(database: Database, which: str) -> int:
    """Return the end of the write-ahead log that is written (``insert``) or durable (``flush``)."""
    [(position,)] = database.fetch(f"SELECT pg_current_wal_{which}_lsn() - '0/0'::pg_lsn")
    return int(position)


def settings_of(target: Conninfo) -> dict[str, str]:
    with Server(target) as server:
        names = ("synchronous_commit", "maintenance_work_mem", "max_parallel_maintenance_workers")
        return {name: server.fetch(f"SHOW {name}")[0][0] for name in names}


def fast_settings(conninfo: str, jobs: int) -> dict[str, str]:
    target = Conninfo.parse(conninfo)
    with Server(target) as server, fast_sessions(target, server, jobs) as fast:
        return settings_of(fast)


def test_commits_do_not_wait_but_all_is_durable_in_the_end(durable: Database, login: str) -> None:
    target = Conninfo.parse(login)
    with Server(target) as server:
        with fast_sessions(target, server, 2) as fast:
            change(fast)
            written = position(durable, "insert")
            assert position(durable, "flush") < written
        assert position(durable, "flush") >= written


def test_the_last_transaction_waits_for_the_standby_that_the_server_waits_for(durable: Database, login: str) -> None:
    target, may_end, ended = Conninfo.parse(login), threading.Event(), threading.Event()

    def restore() -> None:
        with Server(target) as server, fast_sessions(target, server, 2) as fast:
            inside.set()
            may_end.wait()
            change(fast)
        ended.set()

    inside = threading.Event()
    thread = threading.Thread(target=restore)
    thread.start()
    inside.wait()
    with ExitStack() as stack:
        stack.callback(thread.join)
        stack.callback(set_standby, durable, "")
        stack.callback(may_end.set)
        set_standby(durable, "nobody")
        may_end.set()
        waiting = "SELECT query FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        wait_until(lambda: durable.fetch(waiting) != [], "a transaction waits for the standby")
        assert "pg_logical_emit_message" in durable.fetch(waiting)[0][0] or durable.fetch(waiting) == [("COMMIT",)]
        assert durable.fetch("SELECT count(*) FROM own.t") == [(1000,)]
        assert not ended.is_set()
    assert ended.is_set()


def set_standby(database: Database, name: str) -> None:
    """Have each commit wait for the standby ``name``; for none if it is empty."""
    with closing(psycopg.connect(database.conninfo, autocommit=True)) as connection:
        connection.execute("SET synchronous_commit = local")
        connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        connection.execute("SELECT pg_reload_conf()")
    wait_until(lambda: database.fetch("SHOW synchronous_standby_names") == [(name,)], "the server knows the setting")


@pytest.mark.parametrize(
    ("jobs", "memory", "workers"),
    [(1, "192MB", "2"), (2, "96MB", "2"), (3, "64MB", "3"), (8, "64MB", "8")],
)
def test_index_builds_share_memory_as_large_as_the_servers_buffers(
    durable: Database, jobs: int, memory: str, workers: str
) -> None:
    assert fast_settings(durable.conninfo, jobs) == {
        "synchronous_commit": "off",
        "maintenance_work_mem": memory,
        "max_parallel_maintenance_workers": workers,
    }


def test_what_the_user_sets_stays(durable: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = make_conninfo(durable.conninfo, options="-c synchronous_commit=local -c maintenance_work_mem=1MB")
    assert fast_settings(chosen, 4) == {
        "synchronous_commit": "local",
        "maintenance_work_mem": "1MB",
        "max_parallel_maintenance_workers": "4",
    }
    monkeypatch.setenv("PGOPTIONS", "-c max_parallel_maintenance_workers=0 -c extra_float_digits=0")
    assert fast_settings(durable.conninfo, 4) == {
        "synchronous_commit": "off",
        "maintenance_work_mem": "64MB",
        "max_parallel_maintenance_workers": "0",
    }


def test_commits_wait_if_the_role_may_not_write_the_last_transaction(durable: Database, login: str) -> None:
    functions = "SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'pg_logical_emit_message'"
    named = ", ".join(name for (name,) in durable.fetch(functions))
    durable.execute(f"REVOKE EXECUTE ON FUNCTION {named} FROM PUBLIC")
    try:
        assert fast_settings(login, 2)["synchronous_commit"] == "on"
    finally:
        durable.execute(f"GRANT EXECUTE ON FUNCTION {named} TO PUBLIC")


def test_more_jobs_than_the_server_allows_workers(durable: Database) -> None:
    """A setting that the server refuses would take the other settings away, too."""
    settings = fast_settings(durable.conninfo, 2000)
    assert (settings["synchronous_commit"], settings["max_parallel_maintenance_workers"]) == ("off", "1024")
