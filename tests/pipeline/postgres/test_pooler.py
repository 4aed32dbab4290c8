"""A real PgBouncer between pgstow and the server."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import run_pgstow, wait_until
from support.ports import free_port
from support.postgres_fixtures import Database

from pipeline.backup.request import BackupRequest
from pipeline.check.finding import Severity
from pipeline.check.server import examine_server
from pipeline.errors import ConnectionFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.fast_sessions import fast_sessions
from pipeline.postgres.pooler import shares_sessions
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")


@pytest.fixture
def pooled(postgres_by_tcp: ThrowawayCluster, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """``pooled(mode, **settings)`` starts a PgBouncer in this mode, and returns a connection string that leads through it."""
    assert PGBOUNCER, "tools/system-packages installs PgBouncer"
    program, started = PGBOUNCER, ExitStack()
    by_tcp = make_conninfo(postgres_by_tcp.conninfo(), host="127.0.0.1", dbname=None)

    def start(mode: str, **settings: object) -> str:
        port, path = free_port(), tmp_path / f"{mode}.ini"
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "pool_mode": mode,
        }
        written = "".join(f"{name} = {value}\n" for name, value in (lines | settings).items())
        path.write_text(f"[databases]\n* = {by_tcp}\n[pgbouncer]\n{written}")
        user = ["-u", "nobody"] if os.geteuid() == 0 else []  # PgBouncer refuses to run as root
        process = started.enter_context(subprocess.Popen([program, "-q", *user, path]))
        started.callback(process.terminate)
        conninfo = make_conninfo(host="127.0.0.1", port=port, user="postgres", dbname="postgres")
        wait_until(lambda: _answers(conninfo), "PgBouncer answers")
        return conninfo

    with started:
        yield start


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True


def shares(conninfo: str) -> bool:
    source = Conninfo.parse(conninfo)
    with Server(source) as server:
        return shares_sessions(server, source)


def test_a_pooler_in_transaction_mode_shares_sessions(pooled: Callable[..., str]) -> None:
    request = BackupRequest(Conninfo.parse(pooled("transaction")))
    with Server(request.source) as server:
        found = {finding.subject: finding for finding in examine_server(server, request)}
    assert found["pooler"].outcome is Severity.PROBLEM


@pytest.mark.parametrize("processes", [2, 3])
def test_a_pooler_that_uses_its_processes_in_turn_is_found(pooled: Callable[..., str], processes: int) -> None:
    conninfo = pooled("transaction", server_round_robin=1, min_pool_size=processes, default_pool_size=processes)
    others = [psycopg.connect(conninfo) for _ in range(processes)]
    for other in others:
        other.execute("SELECT")
    for other in others:
        other.close()
    assert shares(conninfo)


def test_sessions_with_their_own_processes_are_not_shared(pooled: Callable[..., str], database: Database) -> None:
    assert not shares(database.conninfo)
    assert not shares(pooled("session"))


def test_pg_dump_gets_no_settings_through_a_pooler(
    pooled: Callable[..., str], database: Database, postgres: ThrowawayCluster, tmp_path: Path
) -> None:
    """PgBouncer refuses a session with a setting that it doesn't know."""
    pg_dump, calls = tmp_path / "bin" / "pg_dump", tmp_path / "calls"
    pg_dump.parent.mkdir()
    pg_dump.write_text(f'#!/bin/sh\necho "$@" >>{calls}\nexec {postgres.bin_dir}/pg_dump "$@"\n')
    pg_dump.chmod(0o755)
    for conninfo, direct in ((database.conninfo, True), (pooled("session"), False)):
        with Server(Conninfo.parse(conninfo)) as server:
            assert server.is_direct() == direct
        calls.unlink(missing_ok=True)
        made = run_pgstow("backup", conninfo, "--to", tmp_path / "store", "--create-store", "--bin-dir", pg_dump.parent)
        assert made.exit_code == 0, made.stderr
        assert ("jit=off" in calls.read_text()) == direct


def test_a_restore_through_a_pooler_that_refuses_settings_keeps_the_servers(pooled: Callable[..., str]) -> None:
    target = Conninfo.parse(pooled("session"))
    with pytest.raises(ConnectionFailed, match="unsupported startup parameter"):
        Server(target.with_setting("synchronous_commit", "off"))
    with Server(target) as server, fast_sessions(target, server, jobs=4) as session:
        assert session == target
