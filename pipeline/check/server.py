"""Examines the server, and the programs for it. The ``judge_`` functions take only facts, so that tests of them need no server."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from pipeline.backup.request import BackupRequest
from pipeline.backup.source import check_server_clock, find_dumper
from pipeline.check.finding import Finding, Severity, said
from pipeline.check.privileges import examine_privileges
from pipeline.counting import counted
from pipeline.errors import ConnectionFailed, DumpFailed, ProgramMissing
from pipeline.postgres.pooler import shares_sessions
from pipeline.postgres.programs import OLDEST_MAJOR, find_program, speaks_to
from pipeline.postgres.server import Server
from pipeline.postgres.server_state import ServerState, SessionLimit, read_server_state
from pipeline.postgres.unlogged import describe_left_out, unlogged_left_out

_RAISE = {
    "server": "the server's max_connections",
    "role": "the role's limit (ALTER ROLE … CONNECTION LIMIT)",
    "database": "the database's limit (ALTER DATABASE … CONNECTION LIMIT)",
}


_OPTIONAL = frozenset({"disable", "allow", "prefer"})
"""Values of sslmode that allow a connection without encryption."""


def examine_server(server: Server, request: BackupRequest) -> Iterator[Finding]:
    """Yield findings on the server, its sessions and rights, and the programs for the requested backup.

    Raises ConnectionFailed, or InvalidRequest if a pattern is invalid, or if pg_dump or the server can't do what an option asks for.
    """
    if server.major < OLDEST_MAJOR:
        yield Finding(
            "version",
            Severity.PROBLEM,
            f"The server has PostgreSQL {server.version}, but pgstow needs {OLDEST_MAJOR} or newer.",
            "Upgrade the server, or dump it with older tools.",
        )
        return
    condition = read_server_state(server)
    yield judge_connection(server, condition, request.source.sslmode)
    yield from examine_pooler(server, request)
    yield find_programs(server, request)
    yield judge_sessions(condition.sessions, request.limits.jobs)
    yield from judge_clock(condition.clock)
    yield from judge_interruptions(condition)
    yield from judge_unlogged(unlogged_left_out(server, request.selection))
    yield from examine_privileges(server, condition, request.selection)


def judge_connection(server: Server, condition: ServerState, sslmode: str = "verify-full") -> Finding:
    """Return a finding on the connection: who is connected to which server, and whether others can listen."""
    connected = f"Connected to {server.name} (PostgreSQL {server.version}) on {server.host} port {server.port} as {condition.role}"
    if condition.encryption and sslmode in _OPTIONAL and not condition.same_machine:
        return Finding(
            "connection",
            Severity.WARNING,
            f"{connected}, encrypted by {condition.encryption}, but sslmode={sslmode} also connects without encryption: "
            "an attacker on the network can turn encryption off and listen.",
            "Connect with sslmode=verify-full, and the server's certificate authority as sslrootcert.",
        )
    if condition.encryption:
        return Finding("connection", Severity.OK, f"{connected}, encrypted by {condition.encryption}.")
    if condition.same_machine:
        return Finding("connection", Severity.OK, f"{connected}, on the same machine.")
    return Finding(
        "connection",
        Severity.WARNING,
        f"{connected}, without encryption: all data crosses the network in the clear.",
        "Turn on the server's ssl, and connect with sslmode=verify-full.",
    )


def examine_pooler(server: Server, request: BackupRequest) -> Iterator[Finding]:
    """Yield a problem if the connection goes through a pooler in transaction mode."""
    with suppress(ConnectionFailed):  # if the server refuses a second session, the finding on sessions reports it
        if shares_sessions(server, request.source):
            yield Finding(
                "pooler",
                Severity.PROBLEM,
                "The connection goes through a pooler in transaction mode, so a session loses its settings, locks and snapshots.",
                "Connect to the server itself, or to a pool in session mode.",
            )


def find_programs(server: Server, request: BackupRequest) -> Finding:
    """Return a finding on the versions of pg_dump and pg_restore that are installed for this server.

    Raises InvalidRequest if pg_dump or the server can't do what an option asks for, or ConnectionFailed.
    """
    try:
        dump = find_dumper("pg_dump", server, request)
        restore = find_program("pg_restore", at_least_major=server.major, search=request.programs)
    except ProgramMissing as exc:
        return Finding("programs", Severity.PROBLEM, said(exc))
    if not speaks_to(restore.major, server.major):
        return Finding(
            "programs",
            Severity.WARNING,
            f"pg_dump {dump.version} fits the server, but pg_restore {restore.version} can't restore into a server older than 17. So this "
            "machine's backups can be restored only into PostgreSQL 17 and newer.",
            f"Install the programs of PostgreSQL {server.major} (Debian's package: postgresql-client-{server.major}).",
        )
    return Finding(
        "programs",
        Severity.OK,
        f"pg_dump {dump.version} and pg_restore {restore.version} in {dump.path.parent} fit the server.",
    )


def judge_sessions(limits: Sequence[SessionLimit], jobs: int) -> Finding:
    """Return a finding on the free sessions. A backup needs pgstow's session, pg_dump's session, and with several jobs one more for each."""
    needed = 2 if jobs == 1 else jobs + 2
    tightest = min(limits, key=lambda limit: limit.most - limit.used)
    free = tightest.most - tightest.used + 1  # this session ends before the backup begins
    if free >= needed:
        return Finding("sessions", Severity.OK, f"{counted(needed, 'session')} will be needed, and {free:,} are free.")
    fewer = f"Use --jobs {max(1, free - 2)}" if jobs > 1 and free > 1 else "Wait until other sessions have ended"
    return Finding(
        "sessions",
        Severity.PROBLEM,
        f"{counted(jobs, 'job')} {'needs' if jobs == 1 else 'need'} {counted(needed, 'session')}, but only {max(0, free):,} of the "
        f"{tightest.of}'s {counted(tightest.most, 'session')} are free.",
        f"{fewer}, or raise {_RAISE[tightest.of]}.",
    )


def judge_clock(clock: float) -> Iterator[Finding]:
    """Yield a problem if the server's clock is so far ahead that pgstow would refuse a backup. ``clock`` is seconds since 1970-01-01 UTC."""
    try:
        check_server_clock(datetime.fromtimestamp(clock, UTC))
    except DumpFailed as exc:
        yield Finding("clock", Severity.PROBLEM, said(exc), "Let both clocks be set by NTP (timedatectl set-ntp true).")


def judge_interruptions(condition: ServerState) -> Iterator[Finding]:
    """Yield warnings on settings that would end a long dump. Timeouts aren't among them: pg_dump and pgstow turn timeouts off."""
    if condition.standby and not condition.standby_feedback and condition.standby_delay >= 0:
        yield Finding(
            "standby",
            Severity.WARNING,
            f"The server is a standby. If a query delays replay for more than {condition.standby_delay / 1000:,.0f} s, the server cancels it, "
            "so a longer dump may fail with a conflict with recovery.",
            "On the standby, set hot_standby_feedback = on or max_standby_streaming_delay = -1; or back up from the primary.",
        )
    if condition.snapshot_threshold >= 0:
        yield Finding(
            "old snapshots",
            Severity.WARNING,
            f"old_snapshot_threshold is {counted(condition.snapshot_threshold, 'minute')}: a longer dump fails.",
            "Set old_snapshot_threshold = -1, its default, and restart the server.",
        )


def judge_unlogged(left_out: Sequence[str]) -> Iterator[Finding]:
    """Yield a warning if ``left_out`` names unlogged tables or sequences, whose content a standby doesn't have."""
    if left_out:
        remedy = "Back up from the primary, or keep their rows by ALTER TABLE … SET LOGGED."
        yield Finding("unlogged tables", Severity.WARNING, describe_left_out(left_out), remedy)
