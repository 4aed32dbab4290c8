import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres_fixtures import Database

from pipeline.backup.request import BackupRequest
from pipeline.check.finding import Severity
from pipeline.check.secrets import examine_secrets
from pipeline.check.server import examine_server, find_programs, judge_connection, judge_interruptions, judge_sessions
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server
from pipeline.postgres.server_state import ServerState, SessionLimit, read_server_state


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    with Server(Conninfo.parse(database.conninfo)) as server:
        yield server


@pytest.fixture
def condition(server: Server) -> ServerState:
    return read_server_state(server)


def test_a_server_that_is_too_old_is_a_problem(server: Server) -> None:
    server.major, server.version = 11, "11.22"
    request = BackupRequest(Conninfo({}))
    [finding] = examine_server(server, request)
    assert finding.outcome is Severity.PROBLEM
    assert "needs 12 or newer" in finding.sentence


def test_a_missing_program_is_a_problem(server: Server, tmp_path: Path) -> None:
    finding = find_programs(server, BackupRequest(Conninfo({}), programs=[tmp_path]))
    assert finding.outcome is Severity.PROBLEM
    assert "pg_dump" in finding.sentence


def test_a_pg_restore_for_only_newer_servers_is_a_warning(server: Server, tmp_path: Path) -> None:
    for name in ("pg_dump", "pg_restore"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) 17.2'\n")
        (tmp_path / name).chmod(0o755)
    finding = find_programs(server, BackupRequest(Conninfo({}), programs=[tmp_path]))
    assert finding.outcome is (Severity.WARNING if server.major < 17 else Severity.OK)
    server.major = 17
    assert find_programs(server, BackupRequest(Conninfo({}), programs=[tmp_path])).outcome is Severity.OK


def test_a_connection_without_encryption_is_a_warning(server: Server, condition: ServerState) -> None:
    def outcome(**facts: object) -> Severity:
        return judge_connection(server, dataclasses.replace(condition, **facts)).outcome  # type: ignore[arg-type]

    assert outcome() is Severity.OK, "the connection is by a socket"
    assert outcome(same_machine=False) is Severity.WARNING
    assert outcome(same_machine=False, encryption="TLSv1.3") is Severity.OK
    encrypted = dataclasses.replace(condition, same_machine=False, encryption="TLSv1.3")
    for sslmode in ("disable", "allow", "prefer"):
        finding = judge_connection(server, encrypted, sslmode)
        assert (finding.outcome, f"sslmode={sslmode}" in finding.sentence) == (Severity.WARNING, True)
    assert judge_connection(server, encrypted, "require").outcome is Severity.OK
    assert outcome(encryption="TLSv1.3") is Severity.OK, "the server is on this machine, so sslmode doesn't matter"


def test_the_sslmode_is_read_as_libpq_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert Conninfo.parse("host=x").sslmode == "prefer"
    assert Conninfo.parse("host=x sslmode=verify-full").sslmode == "verify-full"
    monkeypatch.setenv("PGSSLMODE", "require")
    assert Conninfo.parse("host=x").sslmode == "require"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o604, 0o622])
def test_a_password_file_that_others_can_read_is_a_warning(
    tmp_path: Path, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "password"
    path.touch()
    path.chmod(mode)
    requests = [
        BackupRequest(Conninfo.parse("host=x password=x"), password_file=path),
        BackupRequest(Conninfo.parse(f"host=x passfile={path}")),
    ]
    for request in requests:
        found = [finding.outcome for finding in examine_secrets(request)]
        assert found == ([Severity.WARNING] if mode & 0o077 else [])
    monkeypatch.setenv("PGPASSFILE", str(path))
    assert bool(list(examine_secrets(BackupRequest(Conninfo.parse("host=x"))))) == bool(mode & 0o077)
    assert not list(examine_secrets(BackupRequest(Conninfo.parse("host=x passfile=/nonexistent"))))


def test_settings_that_end_a_long_dump_are_warnings(condition: ServerState) -> None:
    def subjects(**facts: object) -> list[str]:
        changed = dataclasses.replace(condition, **facts)  # type: ignore[arg-type]
        return [finding.subject for finding in judge_interruptions(changed)]

    assert subjects() == []
    assert subjects(standby=True) == ["standby"]
    assert subjects(standby=True, standby_feedback=True) == []
    assert subjects(standby=True, standby_delay=-1) == []
    assert subjects(snapshot_threshold=60) == ["old snapshots"]


@pytest.mark.parametrize(
    ("jobs", "free", "outcome"),
    [(1, 2, Severity.OK), (1, 1, Severity.PROBLEM), (4, 6, Severity.OK), (4, 5, Severity.PROBLEM)],
)
def test_too_few_free_sessions_are_a_problem(jobs: int, free: int, outcome: Severity) -> None:
    limits = [SessionLimit("server", 100, 3), SessionLimit("role", 10, 10 - free + 1)]
    assert judge_sessions(limits, jobs).outcome is outcome


def test_too_few_free_sessions_suggest_fewer_jobs() -> None:
    finding = judge_sessions([SessionLimit("role", 5, 1)], jobs=8)
    assert "--jobs 3" in (finding.remedy or "")
