import pytest

from pipeline.postgres.diagnosis import explain_conflict, may_pass

SERVER = "connection to server at "


@pytest.mark.parametrize(
    "said",
    [
        SERVER
        + '"127.0.0.1", port 1 failed: Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?',
        SERVER
        + 'on socket "/x/.s.PGSQL.5432" failed: No such file or directory\n\tIs the server running locally and accepting …',
        SERVER + '"h", port 5432 failed: FATAL:  the database system is starting up',
        SERVER + '"h", port 5432 failed: FATAL:  the database system is shutting down',
        SERVER + '"h", port 5432 failed: FATAL:  the database system is in recovery mode',
        SERVER
        + '"h", port 5432 failed: FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent …',
        SERVER + '"h", port 5432 failed: FATAL:  sorry, too many clients already',
        'FATAL:  too many connections for role "backup"',
        "pg_dump: error: query failed: FATAL:  terminating connection due to administrator command",
        "pg_dump: detail: Error message from server: server closed the connection unexpectedly",
        "pg_dump: error: query failed: SSL SYSCALL error: EOF detected",
        "pg_dump: error: query failed: SSL error: unexpected eof while reading",
    ],
)
def test_a_server_that_is_away_for_a_while(said: str) -> None:
    assert may_pass(said)


@pytest.mark.parametrize(
    "said",
    [
        SERVER + '"h", port 5432 failed: FATAL:  password authentication failed for user "backup"',
        SERVER + '"h", port 5432 failed: FATAL:  database "nowhere" does not exist',
        SERVER + '"h", port 5432 failed: FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "backup"',
        SERVER
        + '"h", port 5432 failed: FATAL:  the database system is not accepting connections\nDETAIL:  Hot standby mode is disabled.',
        'could not translate host name "nowhere" to address: Name or service not known',
        "pg_dump: error: query failed: ERROR:  permission denied for table secret",
        "pg_dump: error: no matching tables were found",
    ],
)
def test_what_does_not_pass(said: str) -> None:
    assert not may_pass(said)
    assert explain_conflict(said) is None


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        (
            "ERROR:  canceling statement due to conflict with recovery\nDETAIL:  User query might have needed to see row versions "
            "that must be removed.\npg_dump: detail: Command was: COPY public.t (a) TO stdout;",
            " (User query might have needed to see row versions that must be removed)",
        ),
        (
            "FATAL:  terminating connection due to conflict with recovery\nDETAIL:  User was holding a relation lock for too long.\nHINT:  x",
            " (User was holding a relation lock for too long)",
        ),
        ("FATAL:  terminating connection due to conflict with recovery", ""),
    ],
)
def test_a_conflict_with_recovery_is_named_with_its_remedies(said: str, detail: str) -> None:
    explained = explain_conflict(said)
    assert explained is not None
    assert f"in conflict with recovery{detail}: " in explained
    for remedy in ("hot_standby_feedback", "max_standby_streaming_delay", "primary"):
        assert remedy in explained
