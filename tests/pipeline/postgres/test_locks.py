from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import wait_until
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.backup.request import BackupRequest
from pipeline.check.server import examine_server
from pipeline.errors import BackupRunning, RestoreFailed, ServerUnavailable
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.locks import LockWatch, backup_lock, find_blockers
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.selection import Selection


def connect(database: Database) -> Server:
    return Server(Conninfo.parse(database.conninfo))


def test_the_second_backup_is_refused_and_names_the_first(database: Database) -> None:
    with connect(database) as one, connect(database) as other, backup_lock(one, "pgstow one"):
        [(process,)] = one.fetch("SELECT pg_backend_pid()")
        with (
            pytest.raises(BackupRunning, match=rf"of {database.name} is running \(pgstow one, process {process} of"),
            backup_lock(other, "pgstow other"),
        ):
            pass


def test_the_lock_outlives_the_snapshot_and_ends_with_the_block(database: Database) -> None:
    with connect(database) as one, connect(database) as other:
        with backup_lock(one, "pgstow one"):
            one.export_snapshot()
            one.release_snapshot()
            with pytest.raises(BackupRunning), backup_lock(other, "pgstow other"):
                pass
        with backup_lock(other, "pgstow other"):
            pass


def test_backups_of_two_databases_may_run_at_once(make_database: DatabaseMaker) -> None:
    with (
        connect(make_database()) as one,
        connect(make_database()) as other,
        backup_lock(one, "pgstow one"),
        backup_lock(other, "pgstow other"),
    ):
        pass


def test_releasing_the_lock_of_an_ended_session_raises_nothing(database: Database) -> None:
    with connect(database) as server, backup_lock(server, "pgstow one"):
        server.export_snapshot()
        database.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgstow one'")
        server.release_snapshot()
        with pytest.raises(ServerUnavailable):
            server.fetch("SELECT 1")


def test_a_prepared_transaction_is_named_with_the_statements_that_end_it(postgres_by_tcp: ThrowawayCluster) -> None:
    """The transaction's session has ended long ago, so there is no process."""
    database = Database("postgres", postgres_by_tcp.conninfo())
    database.execute("CREATE TABLE kept (); CREATE TABLE other ()")
    with closing(psycopg.connect(database.conninfo)) as session:
        session.execute("LOCK TABLE kept; PREPARE TRANSACTION 'it''s odd'")
    request = BackupRequest(Conninfo.parse(database.conninfo))
    with connect(database) as server:
        [blocker] = find_blockers(server)
        found = {finding.subject: finding for finding in examine_server(server, request)}
        others = Selection(tables=("other",))
        assert "locks" not in {
            finding.subject for finding in examine_server(server, replace(request, selection=others))
        }
    words = "The prepared transaction 'it''s odd' of the role postgres holds a lock on public.kept"
    assert str(blocker) == words
    assert found["locks"].sentence == f"{words}: pg_dump would wait."
    assert "(COMMIT PREPARED 'it''s odd' or ROLLBACK PREPARED 'it''s odd')" in (found["locks"].remedy or "")
    database.execute("ROLLBACK PREPARED 'it''s odd'")
    with connect(database) as server:
        assert find_blockers(server) == []


def test_the_server_ends_the_session_of_a_vanished_client_after_two_minutes(postgres_by_tcp: ThrowawayCluster) -> None:
    by_tcp = make_conninfo(postgres_by_tcp.conninfo(), host="127.0.0.1")
    with Server(Conninfo.parse(by_tcp)) as server, backup_lock(server, "pgstow one"):
        settings = [server.fetch(f"SHOW tcp_keepalives_{name}")[0][0] for name in ("idle", "interval", "count")]
    assert settings == ["60", "10", "6"]


def test_holders_of_locks_come_before_those_who_wait(database: Database) -> None:
    database.execute('CREATE TABLE "Some Table" (i int)')
    with (
        connect(database) as server,
        closing(psycopg.connect(database.conninfo, application_name="migration")) as holder,
        closing(psycopg.connect(database.conninfo)) as waiter,
    ):
        server.export_snapshot()
        assert find_blockers(server) == []
        holder.execute('LOCK TABLE "Some Table"')
        waiter.pgconn.send_query(b'DROP TABLE "Some Table"')
        wait_until(lambda: len(find_blockers(server)) == 2, "the other waits")
        processes = [holder.info.backend_pid, waiter.info.backend_pid]
        assert [str(blocker) for blocker in find_blockers(server)] == [
            f"Another session (process {processes[0]} of the server, role postgres, application migration) holds a lock "
            'on public."Some Table"',
            f'Another session (process {processes[1]} of the server, role postgres) waits for a lock on public."Some Table"',
        ]


@contextmanager
def waiting(database: Database, holder: str) -> Iterator[Server]:
    """Yield a session, while another session with the name ``pgstow one`` waits for a lock that a session with the name ``holder`` holds."""
    database.execute("CREATE TABLE t (i int)")
    with (
        connect(database) as server,
        closing(psycopg.connect(database.conninfo, application_name=holder)) as reader,
        closing(psycopg.connect(database.conninfo, application_name="pgstow one")) as waiter,
    ):
        reader.execute("SELECT FROM t")  # the transaction keeps its lock
        waiter.pgconn.send_query(b"DROP TABLE t")
        wait_until(lambda: server.fetch("SELECT FROM pg_catalog.pg_locks WHERE NOT granted"), "the session waits")
        yield server


def test_a_session_that_waits_too_long_for_another_sessions_lock(database: Database) -> None:
    with waiting(database, "reports") as server:
        LockWatch(server, "pgstow one", 0).look()
        LockWatch(server, "pgstow two", 1).look()
        watch = LockWatch(server, "pgstow one", 1)
        watch.look()

        def look() -> bool:
            try:
                watch.look()
            except RestoreFailed as exc:
                errors.append(str(exc))
            return bool(errors)

        errors = list[str]()
        wait_until(look, "the session has waited for a second")
        [(process,)] = server.fetch("SELECT pid FROM pg_catalog.pg_stat_activity WHERE application_name = 'reports'")
    assert errors == [
        f"Another session (process {process} of the server, role postgres, application reports) holds a lock on public.t, for which the "
        "restore waited 1 s: wait until that transaction has ended, or end it, or raise --lock-wait-timeout."
    ]


def test_sessions_of_one_restore_may_wait_for_one_another(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with waiting(database, "pgstow one") as server:
        watch = LockWatch(server, "pgstow one", 1)
        watch.look()
        monkeypatch.setattr("time.monotonic", lambda: 10**9)
        watch.look()


def test_a_stranger_in_the_queue_may_wait_for_the_restore_itself(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sessions may have the lock at once, but the second queues behind a stranger, who waits for the first."""
    with (
        waiting(database, "pgstow two") as server,
        closing(psycopg.connect(database.conninfo, application_name="pgstow two")) as second,
    ):
        second.pgconn.send_query(b"SELECT FROM t")
        wait_until(
            lambda: len(server.fetch("SELECT FROM pg_catalog.pg_locks WHERE NOT granted")) == 2, "the second waits"
        )
        clock = iter(range(0, 10**9, 10**6))
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        watch = LockWatch(server, "pgstow two", 1)
        watch.look()
        watch.look()
        stranger = LockWatch(server, "pgstow one", 1)
        stranger.look()
        with pytest.raises(RestoreFailed, match="application pgstow two"):
            stranger.look()


def test_sessions_of_another_restore_of_the_same_backup(
    database: Database, make_database: DatabaseMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with waiting(database, "reports"), connect(make_database()) as elsewhere:
        clock = iter(range(0, 10**9, 10**6))
        monkeypatch.setattr("time.monotonic", lambda: next(clock))
        watch = LockWatch(elsewhere, "pgstow one", 1)
        watch.look()
        watch.look()
        cluster = LockWatch(elsewhere, "pgstow one", 1, everywhere=True)
        cluster.look()
        with pytest.raises(RestoreFailed, match="Another session holds a lock, for which"):
            cluster.look()


def test_each_statement_may_wait(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    database.execute("CREATE TABLE one (); CREATE TABLE two ()")
    clock = iter(range(0, 10**9, 10**6))
    with (
        connect(database) as server,
        closing(psycopg.connect(database.conninfo)) as first,
        closing(psycopg.connect(database.conninfo)) as second,
        closing(psycopg.connect(database.conninfo, application_name="pgstow", autocommit=True)) as waiter,
    ):
        watch = LockWatch(server, "pgstow", 1)

        def look_while_it_waits(name: str) -> None:
            waiter.pgconn.send_query(f"DROP TABLE {name}".encode())
            waits = f"SELECT FROM pg_catalog.pg_locks WHERE NOT granted AND relation = 'public.{name}'::regclass"
            wait_until(lambda: server.fetch(waits), "the session waits")
            with monkeypatch.context() as patched:
                patched.setattr("time.monotonic", lambda: next(clock))
                watch.look()

        first.execute("SELECT FROM one")
        second.execute("SELECT FROM two")
        look_while_it_waits("one")
        first.close()
        while waiter.pgconn.get_result():
            pass
        look_while_it_waits("two")
