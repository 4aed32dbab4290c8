"""A restore's sessions commit asynchronously, and pgstow reports success only after all data is durable."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database

from pipeline.catalog.find import BackupSelector
from pipeline.config import Limits
from pipeline.errors import RestoreFailed
from pipeline.events import Notice, Started
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.restore.database import restore
from pipeline.restore.request import RestoreRequest
from storage_backends.local import LocalBackend

SETTINGS = {
    "synchronous_commit": "on",
    "wal_writer_delay": "10s",  # the server itself must not make the log durable before the test has looked
    "wal_writer_flush_after": "1GB",
    "autovacuum": "off",
    "wal_level": "minimal",  # nor write to the log by itself
    "max_wal_senders": "0",
}
FILL = """
CREATE TABLE t (i int PRIMARY KEY);
INSERT INTO t SELECT generate_series(1, 1000);
CREATE MATERIALIZED VIEW seen AS SELECT setting FROM pg_catalog.pg_settings WHERE name = 'synchronous_commit';
"""
"""A restore fills the materialized view, which then shows the setting in the restore's own session."""


@pytest.fixture(scope="module")
def durable() -> Iterator[ThrowawayCluster]:
    """A server whose commits wait until they are durable. Its database ``source`` has the materialized view."""
    with ThrowawayCluster(settings=SETTINGS) as cluster:
        Database("", cluster.conninfo()).execute("CREATE DATABASE source")
        Database("", cluster.conninfo("source")).execute(FILL)
        yield cluster


@pytest.fixture
def target(durable: ThrowawayCluster) -> Iterator[Database]:
    """An empty database on that server."""
    server = Database("", durable.conninfo())
    server.execute("CREATE DATABASE target")
    yield Database("target", durable.conninfo("target"))
    server.execute("DROP DATABASE target WITH (FORCE)")


def back_up(cluster: ThrowawayCluster, store: Path, *options: object) -> None:
    assert run_pgstow("backup", cluster.conninfo("source"), "--to", store, "-q", *options).exit_code == 0


def behind(database: Database) -> int:
    """Return the bytes of the write-ahead log that aren't durable yet."""
    [(count,)] = database.fetch("SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()")
    return int(count)


@pytest.mark.parametrize(("format_", "jobs"), [("directory", 1), ("directory", 2), ("custom", 1), ("plain", 1)])
def test_all_is_durable_before_the_rows_are_counted(
    durable: ThrowawayCluster, target: Database, tmp_path: Path, spool_dir: Path, format_: str, jobs: int
) -> None:
    back_up(durable, tmp_path, "--format", format_, "--spool-dir", spool_dir)
    found = list[int]()

    def notify(event: object) -> None:
        if event == Started("Counting rows"):
            found.append(behind(target))

    limits = Limits(jobs=jobs, spool_parent=spool_dir)
    request = RestoreRequest(BackupSelector(), Conninfo.parse(target.conninfo), limits=limits)
    restore(request, LocalBackend(tmp_path), notify)
    assert found == [0]
    assert target.fetch("SELECT * FROM seen") == [("off",)]


def test_a_restore_that_goes_on_after_errors_is_durable_before_it_reports_them(
    durable: ThrowawayCluster, target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    back_up(durable, tmp_path, "--spool-dir", spool_dir)
    target.execute("CREATE TABLE seen ()")
    found = set[int]()

    def notify(event: object) -> None:
        if isinstance(event, Notice) and event.text.startswith("Not allowed"):
            found.add(behind(target))

    request = RestoreRequest(
        BackupSelector(),
        Conninfo.parse(target.conninfo),
        options=RestoreOptions(keep_going=True),
        allow_nonempty=True,
        limits=Limits(jobs=2, spool_parent=spool_dir),
    )
    with pytest.raises(RestoreFailed):
        restore(request, LocalBackend(tmp_path), notify)
    assert found == {0}


def test_the_servers_settings_stay_on_request(
    durable: ThrowawayCluster, target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    back_up(durable, tmp_path, "--spool-dir", spool_dir)
    into = ("--into", target.conninfo, "--server-settings")
    restored = run_pgstow("restore", "--from", tmp_path, *into, "--spool-dir", spool_dir, "-q")
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert target.fetch("SELECT * FROM seen") == [("on",)]


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_a_whole_server(durable: ThrowawayCluster, tmp_path: Path, spool_dir: Path, format_: str) -> None:
    all_databases = ("--all-databases", "--spool-dir", spool_dir, "-q")
    made = run_pgstow("backup", durable.conninfo(), "--to", tmp_path, "--format", format_, *all_databases)
    assert made.exit_code == 0
    for options, setting in (((), "off"), (("--server-settings",), "on")):
        with ThrowawayCluster(settings=SETTINGS) as other:
            onto = ("--into", other.conninfo(), *options)
            restored = run_pgstow("restore", "--from", tmp_path, *onto, *all_databases)
            assert (restored.exit_code, restored.stderr) == (0, "")
            assert Database("", other.conninfo("source")).fetch("SELECT * FROM seen") == [(setting,)]


@pytest.mark.parametrize(("options", "setting"), [((), "off"), (("--server-settings",), "on")])
def test_a_proof_on_a_scratch_server(
    durable: ThrowawayCluster, tmp_path: Path, spool_dir: Path, options: tuple[str, ...], setting: str
) -> None:
    back_up(durable, tmp_path, "--spool-dir", spool_dir)
    asserted = ("--assert", f"SELECT setting = '{setting}' FROM seen")
    proof = ("--level", "restore", "--scratch", durable.conninfo())
    proved = run_pgstow("verify", "--from", tmp_path, *proof, *asserted, *options, "--spool-dir", spool_dir, "-q")
    assert proved.exit_code == 0, proved.stdout + proved.stderr


def test_a_committed_restore_that_cannot_be_made_durable_is_told(
    durable: ThrowawayCluster, target: Database, tmp_path: Path
) -> None:
    """The single transaction is committed before the last one fails. So the error must not say that nothing came."""
    store, programs = tmp_path / "store", tmp_path / "bin"
    store.mkdir()
    back_up(durable, store)
    programs.mkdir()
    rename = (
        "DO $$ DECLARE f regprocedure; BEGIN FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' "
        "LOOP EXECUTE format('ALTER FUNCTION %s RENAME TO gone', f); END LOOP; END $$"
    )
    script = programs / "pg_restore"
    script.write_text(
        f'#!/bin/sh\n{durable.bin_dir}/pg_restore "$@" || exit\n[ "$1" = --version ] && exit\n'
        f"exec {durable.bin_dir}/psql -qv ON_ERROR_STOP=1 '{target.conninfo}' <<'SQL'\n{rename};\nSQL\n"
    )
    script.chmod(0o755)
    where = ("--from", store, "--into", target.conninfo, "--bin-dir", programs, "-q")
    restored = run_pgstow("restore", *where, "--single-transaction")
    assert restored.exit_code != 0
    assert "may hold a part of the backup now" in restored.stderr
    assert target.fetch("SELECT count(*) FROM t") == [(1000,)]
