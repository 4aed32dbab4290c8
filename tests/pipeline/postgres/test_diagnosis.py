import pytest

from pipeline.postgres.diagnosis import (
    explain_conflict,
    explain_connection,
    is_missing_database,
    lacks_session,
    may_pass,
    on_one_line,
    tells_of_full_disk,
)
from pipeline.postgres.workspace import describe_failure

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
def test_some_failures_to_connect_may_pass(said: str) -> None:
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
def test_other_failures_do_not_pass(said: str) -> None:
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


REFUSED = 'connection to server at "10.0.0.1", port 1 failed: Connection refused\n\tIs the server running on that host?'
AUTHENTICATION = 'connection to server at "10.0.0.2", port 2 failed: FATAL:  no pg_hba.conf entry'


@pytest.mark.parametrize(
    ("said", "explained"),
    [
        (
            f"connection failed: {REFUSED}",
            'Cannot connect to the server at "10.0.0.1", port 1: Connection refused. Is the server running on that host?',
        ),
        (
            f"connection failed: {AUTHENTICATION}, SSL on\n{AUTHENTICATION}, SSL off",
            'Cannot connect to the server at "10.0.0.2", port 2: FATAL: no pg_hba.conf entry, SSL on; '
            'at "10.0.0.2", port 2: FATAL: no pg_hba.conf entry, SSL off.',
        ),
        (
            f"connection failed: {AUTHENTICATION}\nMultiple connection attempts failed. All failures were:\n"
            f"- host: 'db', port: '1', hostaddr: '10.0.0.1': connection failed: {REFUSED}\n"
            f"- host: 'db', port: '2', hostaddr: '10.0.0.2': connection failed: {AUTHENTICATION}\n"
            "- host: 'other', port: '3', hostaddr: '10.0.0.3': connection timeout expired",
            'Cannot connect to the server at "10.0.0.1", port 1: Connection refused. Is the server running on that host?; '
            'at "10.0.0.2", port 2: FATAL: no pg_hba.conf entry; at "other", port 3: connection timeout expired.',
        ),
        ("connection timeout expired", "Cannot connect to the server: connection timeout expired."),
        (
            "failed to resolve host 'nowhere': [Errno -2] Name or service not known",
            "Cannot connect to the server: failed to resolve host 'nowhere': Name or service not known.",
        ),
        (
            'connection is bad: connection to server on socket "/x/.s.PGSQL.1" failed: fe_sendauth: no password supplied',
            'Cannot connect to the server on socket "/x/.s.PGSQL.1": fe_sendauth: no password supplied. Keep the password in ~/.pgpass, '
            "in the file that PGPASSFILE names, or in a password_file of pgstow.toml.",
        ),
    ],
)
def test_a_failed_connection_is_explained_without_repetition(said: str, explained: str) -> None:
    assert explain_connection(said) == explained


def test_detail_and_hint_become_sentences() -> None:
    said = "no such x\nLINE 1: SELECT x\n               ^\nDETAIL:  There is y.\nHINT:  Write y"
    assert on_one_line(said) == "no such x. Line 1: SELECT x. Detail: There is y. Hint: Write y."


def test_a_missing_database_is_recognised() -> None:
    assert is_missing_database(SERVER + '"h", port 5432 failed: FATAL:  database "nowhere" does not exist')
    assert not is_missing_database(SERVER + '"h", port 5432 failed: FATAL:  role "nobody" does not exist')


@pytest.mark.parametrize(
    ("said", "here"),
    [
        ("pg_dump: error: could not write to file: No space left on device", True),
        ("pg_dump: error: could not close data file: Disk quota exceeded", True),
        (
            'pg_dump: error: query failed: ERROR:  could not write to file "base/pgsql_tmp/1": No space left on device\n'
            "HINT:  Check free disk space.",
            False,
        ),
        (f'{SERVER}"h", port 5432 failed: FATAL:  could not write init file: No space left on device', False),
    ],
)
def test_a_full_disk_of_this_machine_is_told_from_the_servers(said: str, here: bool) -> None:
    assert tells_of_full_disk(said) is here


def test_advice_if_the_server_has_no_free_session() -> None:
    advice = "Give fewer --jobs, end other sessions, or raise the limit on connections."
    words = 'connection to server on socket "/x" failed: FATAL:  sorry, too many clients already'
    assert explain_connection(words).endswith(f"sorry, too many clients already. {advice}")
    told = describe_failure("pg_restore", 1, f"pg_restore: error: {words}\n")
    assert told == f"pg_restore failed: {' '.join(words.split())}. {advice}"
    assert lacks_session('FATAL:  too many connections for role "backup"')
    assert not lacks_session("ERROR:  there are too many clients already")
