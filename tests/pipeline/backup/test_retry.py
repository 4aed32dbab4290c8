"""Tests of retries. The backups run in this process, so that a test can remove the cause of an error while pgstow waits."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import psycopg
import pytest
from support.pgstow import wait_until
from support.postgres_fixtures import Database
from support.standby import Standby

from pipeline.archive.destinations import Committed
from pipeline.backup.request import BackupRequest
from pipeline.backup.retry import back_up_with_retries
from pipeline.catalog.manifest import ManifestSummary
from pipeline.cluster.globals import back_up_globals
from pipeline.cluster.request import GlobalsRequest
from pipeline.errors import (
    BackupRunning,
    ConnectionFailed,
    DumpFailed,
    DumpInterrupted,
    PipelineError,
    ServerUnavailable,
)
from pipeline.events import Event, Notice
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.locks import backup_lock
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends import AccessDenied, ObjectInfo, StorageBackend
from storage_backends.memory import MemoryBackend

NOBODY_LISTENS = "host=127.0.0.1 port=1 dbname=x"


@dataclass
class Run:
    """Backups of one database, with the notices about them."""

    request: BackupRequest
    store: StorageBackend = field(default_factory=MemoryBackend)
    waits: list[float] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def back_up(self, retries: int, meanwhile: Callable[[], None] = lambda: None) -> ManifestSummary:
        """Make a backup. ``meanwhile`` is called in each wait."""

        def sleep(seconds: float) -> None:
            self.waits.append(seconds)
            meanwhile()

        [copy] = back_up_with_retries(self.request, [self.store], self._notify, retries=retries, sleep=sleep)
        assert isinstance(copy, Committed)
        return copy.manifest

    def _notify(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.notices.append(event.text)


def run_of(conninfo: str, **options: int) -> Run:
    return Run(BackupRequest(Conninfo.parse(conninfo), **options))


def test_waits_grow_and_the_last_error_is_raised() -> None:
    run = run_of(NOBODY_LISTENS)
    with pytest.raises(ServerUnavailable, match="Connection refused"):
        run.back_up(retries=8)
    assert run.waits == [5, 10, 20, 40, 80, 160, 300, 300]
    assert "Connection refused" in run.notices[0]
    assert run.notices[0].endswith("A new backup begins in 5 s (retry 1 of 8).")


def test_backups_of_globals_are_retried_too() -> None:
    """The wait is long, so the test stops at the notice, which comes before the wait."""

    def stop_at(event: Event) -> None:
        if isinstance(event, Notice):
            raise InterruptedError(event.text)

    request = GlobalsRequest(BackupRequest(Conninfo.parse(NOBODY_LISTENS)), retries=2)
    with pytest.raises(InterruptedError, match=r"begins in 5 s \(retry 1 of 2\)"):
        back_up_globals(request, [MemoryBackend()], stop_at)


def test_without_retries_nothing_is_retried() -> None:
    run = run_of(NOBODY_LISTENS)
    with pytest.raises(ServerUnavailable):
        run.back_up(retries=0)
    assert (run.waits, run.notices) == ([], [])


def test_a_retry_succeeds_after_a_lock_is_released(sample_database: Database) -> None:
    run = run_of(sample_database.conninfo, lock_wait_timeout=1)
    with closing(psycopg.connect(sample_database.conninfo)) as holder:
        holder.execute("LOCK TABLE shop.customer")
        manifest = run.back_up(retries=2, meanwhile=holder.rollback)
    assert len(run.waits) == 1
    assert "holds a lock on shop.customer" in run.notices[0]
    assert {info.key.split("/")[3] for info in run.store.list("data/")} == {manifest.backup_id}


def test_retries_end_if_a_lock_stays(sample_database: Database) -> None:
    run = run_of(sample_database.conninfo, lock_wait_timeout=1)
    with closing(psycopg.connect(sample_database.conninfo)) as holder:
        holder.execute("LOCK TABLE shop.customer")
        with pytest.raises(DumpInterrupted, match=r"holds a lock on shop\.customer"):
            run.back_up(retries=1)
    assert list(run.store.list()) == []


def test_a_retry_waits_for_the_session_of_the_previous_attempt(sample_database: Database) -> None:
    run = run_of(sample_database.conninfo, lock_wait_timeout=1)
    with ExitStack() as left_over, closing(psycopg.connect(sample_database.conninfo)) as holder:

        def meanwhile() -> None:
            if len(run.waits) == 1:
                holder.rollback()
                server = left_over.enter_context(Server(Conninfo.parse(sample_database.conninfo)))
                left_over.enter_context(backup_lock(server, "pgstow before"))
            else:
                left_over.close()

        holder.execute("LOCK TABLE shop.customer")
        run.back_up(retries=2, meanwhile=meanwhile)
    assert "holds a lock on shop.customer" in run.notices[0]
    assert "Another backup" in run.notices[1]
    assert len(run.waits) == 2


def test_another_running_backup_is_an_error_at_the_first_attempt(sample_database: Database) -> None:
    run = run_of(sample_database.conninfo)
    with (
        Server(Conninfo.parse(sample_database.conninfo)) as server,
        backup_lock(server, "pgstow another"),
        pytest.raises(BackupRunning, match="pgstow another"),
    ):
        run.back_up(retries=3)
    assert (run.waits, run.notices) == ([], [])


def test_a_backup_is_retried_while_the_server_starts(postgres: ThrowawayCluster) -> None:
    """A standby asks for archived WAL before it accepts connections. It gets the answer once the file is removed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server may run as another user
        hold = Path(folder, "hold")
        hold.touch()
        settings = {"restore_command": f"while [ -e {hold} ]; do sleep 0.05; done; false"}
        with Standby(postgres, settings=settings, until="starting") as standby:
            run = run_of(standby.conninfo())

            def let_it_start() -> None:
                hold.unlink()
                standby.wait_until_ready()

            manifest = run.back_up(retries=1, meanwhile=let_it_start)
    assert "the database system is starting up" in run.notices[0]
    assert manifest.source.standby


def test_a_backup_is_retried_while_the_server_shuts_down() -> None:
    with ThrowawayCluster() as cluster, closing(psycopg.connect(cluster.conninfo())) as client:
        [(lines,)] = client.execute("SELECT pg_read_file('postmaster.pid')").fetchall()
        os.kill(int(lines.split()[0]), signal.SIGTERM)  # the server then waits until its clients disconnect

        def refused() -> str:
            try:
                psycopg.connect(cluster.conninfo()).close()
            except psycopg.OperationalError as exc:
                return str(exc)
            return ""

        wait_until(refused, "no more clients are let in")
        with pytest.raises(ServerUnavailable, match="the database system is shutting down"):
            Server(Conninfo.parse(cluster.conninfo()))


class Denying(MemoryBackend):
    def put(self, key: str, body: bytes | bytearray | memoryview, *, sha256: bytes) -> ObjectInfo:
        raise AccessDenied("not yours")


@pytest.fixture
def crowded(database: Database) -> Iterator[Database]:
    """Yield the database with a role that may have no sessions."""
    database.execute("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    yield replace(database, conninfo=f"{database.conninfo} user=crowded")
    database.execute("DROP ROLE crowded")


def test_a_backup_is_retried_while_no_session_is_free(database: Database, crowded: Database) -> None:
    run = run_of(crowded.conninfo)
    run.back_up(retries=1, meanwhile=lambda: database.execute("ALTER ROLE crowded CONNECTION LIMIT -1"))
    assert "too many connections for role" in run.notices[0]


def test_lasting_errors_are_not_retried(sample_database: Database) -> None:
    run = run_of(sample_database.conninfo)
    sample_database.execute("DROP ROLE IF EXISTS nobodys; CREATE ROLE nobodys LOGIN")
    cases: list[tuple[Run, type[Exception]]] = [
        (run_of(f"{sample_database.conninfo} dbname=nowhere"), ConnectionFailed),
        (run_of(f"{sample_database.conninfo} user=no_such_role"), ConnectionFailed),
        (run_of(f"{sample_database.conninfo} user=nobodys"), DumpFailed),
        (run_of(sample_database.conninfo), AccessDenied),
        (run_of(sample_database.conninfo), PipelineError),
    ]
    cases[3][0].store = Denying()
    pattern = replace(run.request.selection, tables=("no_such_table",))
    cases[4][0].request = replace(run.request, selection=pattern)
    try:
        for run, kind in cases:
            with pytest.raises(kind):
                run.back_up(retries=3)
            assert (run.waits, run.notices) == ([], []), kind
    finally:
        sample_database.execute("DROP ROLE nobodys")
