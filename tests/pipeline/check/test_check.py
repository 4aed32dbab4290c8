from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.findings import by_subject, problems
from support.postgres_fixtures import Database

from pipeline.backup.request import BackupRequest
from pipeline.check.check import check
from pipeline.check.finding import Finding, Severity
from pipeline.config import Limits
from pipeline.errors import InvalidRequest
from pipeline.postgres.conninfo import Conninfo
from pipeline.selection import Selection
from storage_backends import StorageBackend
from storage_backends.memory import MemoryBackend

ROLE, QUOTED = 'night "backup"', '"night ""backup"""'


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """Yield the connection string of a role that may only connect."""
    database.execute(f"CREATE ROLE {QUOTED} LOGIN")
    yield make_conninfo(database.conninfo, user=ROLE)
    database.execute(f"DROP OWNED BY {QUOTED} CASCADE; DROP ROLE {QUOTED}")


def examine(
    conninfo: str, *, store: StorageBackend | None = None, selection: Selection | None = None, **limits: int
) -> list[Finding]:
    request = BackupRequest(
        Conninfo.parse(conninfo), selection=selection or Selection(), limits=Limits(jobs=2, **limits)
    )
    return check(request, store or MemoryBackend(), lambda event: None)


def test_a_superuser_may_dump_the_sample(sample_database: Database) -> None:
    found = by_subject(examine(sample_database.conninfo))
    assert not problems(found.values())
    assert "would dump" in found["dump"].sentence
    assert "large objects" in found["dump"].sentence
    assert "28 tables and 4 sequences" in found["privileges"].sentence


@pytest.mark.parametrize(
    ("made", "subject", "named"),
    [
        ('CREATE TABLE "it\'s ""odd"" é" (i int)', "privileges", '1 table (public."it\'s ""odd"" é")'),
        ("CREATE TABLE p (i int) PARTITION BY LIST (i)", "privileges", "1 table (public.p)"),
        ("CREATE SEQUENCE s", "privileges", "1 sequence (public.s)"),
        (
            'CREATE SCHEMA "Hidden"; CREATE TABLE "Hidden".t (); GRANT SELECT ON "Hidden".t TO PUBLIC',
            "privileges",
            'USAGE on 1 schema ("Hidden"): pg_dump',
        ),
        ("CREATE TABLE t (i serial)", "privileges", "1 table (public.t); SELECT on 1 sequence (public.t_i_seq)"),
        ("SELECT lo_create(4711)", "large objects", "1 large object (4711)"),
        (
            "SELECT lo_create(o::oid) FROM generate_series(1001, 1030) AS o",
            "large objects",
            "30 large objects (1001, ",
        ),
        (
            "CREATE TABLE r (i int); GRANT SELECT ON r TO PUBLIC; ALTER TABLE r ENABLE ROW LEVEL SECURITY",
            "row-level security",
            "1 table (public.r)",
        ),
    ],
)
def test_missing_privileges_are_named_and_the_statements_grant_them(
    database: Database, role: str, made: str, subject: str, named: str
) -> None:
    assert not problems(examine(role)), "an empty database has no problems"
    database.execute(made)

    found = problems(examine(role))
    assert list(found) == [subject]
    assert named in found[subject].sentence

    for statement in found[subject].sql:
        database.execute(statement)
    after = examine(role)
    assert not problems(after)
    assert "dump" in by_subject(after), "pg_dump was started"


def test_the_statements_grant_all_privileges_on_a_database(sample_database: Database) -> None:
    sample_database.execute("CREATE ROLE reader LOGIN")
    try:
        conninfo = make_conninfo(sample_database.conninfo, user="reader")
        found = problems(examine(conninfo))
        assert set(found) == {"privileges", "large objects", "row-level security"}
        assert "pg_read_all_data" in (found["privileges"].remedy or "")
        assert "28 tables (" in found["privileges"].sentence
        assert "and 8 more" in found["privileges"].sentence
        for finding in found.values():
            for statement in finding.sql:
                sample_database.execute(statement)
        assert not problems(examine(conninfo))
    finally:
        sample_database.execute("DROP OWNED BY reader CASCADE; DROP ROLE reader")


def test_pg_read_all_data_is_enough_without_large_objects(database: Database, role: str) -> None:
    database.execute("CREATE SCHEMA s; CREATE TABLE s.t (i serial)")
    database.execute(f"GRANT pg_read_all_data TO {QUOTED}")
    assert not problems(examine(role))


@pytest.mark.parametrize(
    "selection",
    [
        Selection(tables=("mine",)),
        Selection(tables=("public.m*",), exclude_tables=("*.mine2",), schemas=("theirs",)),
        Selection(schemas=("public",), exclude_tables=("mine2",)),
        Selection(exclude_schemas=("the?rs",), exclude_tables=("mine2",)),
    ],
)
def test_tables_outside_the_selection_need_not_be_readable(database: Database, role: str, selection: Selection) -> None:
    database.execute(
        "CREATE TABLE mine (i serial); CREATE TABLE mine2 (i int GENERATED ALWAYS AS IDENTITY);"
        "CREATE SCHEMA theirs; CREATE TABLE theirs.mine (); GRANT SELECT ON mine, mine_i_seq TO PUBLIC"
    )
    found = by_subject(examine(role, selection=selection))
    assert not problems(found.values())
    assert "1 table and 1 sequence" in found["privileges"].sentence


def test_row_security_matters_only_for_dumped_rows(database: Database, role: str) -> None:
    database.execute("CREATE TABLE r (); GRANT SELECT ON r TO PUBLIC; ALTER TABLE r ENABLE ROW LEVEL SECURITY")
    assert "row-level security" in problems(examine(role))
    assert not problems(examine(role, selection=Selection(exclude_table_data=("r",))))


def test_pg_dump_reports_a_pattern_that_matches_nothing(database: Database) -> None:
    assert "no matching tables" in problems(examine(database.conninfo, selection=Selection(("no",))))["dump"].sentence


def test_an_invalid_pattern_is_raised(database: Database) -> None:
    with pytest.raises(InvalidRequest):
        examine(database.conninfo, selection=Selection(tables=('"',)))


def test_a_locked_table_is_a_warning_and_check_does_not_wait(database: Database) -> None:
    database.execute("CREATE TABLE busy ()")
    with closing(psycopg.connect(database.conninfo)) as other:
        other.execute("LOCK TABLE busy")
        process = other.info.backend_pid
        found = by_subject(examine(database.conninfo))
    assert found["locks"].outcome is Severity.WARNING
    assert f"process {process} of the server, role postgres) holds a lock on public.busy" in found["locks"].sentence
    assert "dump" not in found


def test_the_store_is_examined_even_if_the_server_is_unreachable() -> None:
    found = by_subject(examine("host=127.0.0.1 port=1 dbname=x"))
    assert list(problems(found.values())) == ["connection"]
    assert found["create-only"].outcome is Severity.OK
    assert found["spool"].outcome is Severity.OK


def test_the_connection_limits_of_role_and_database_count(database: Database, role: str) -> None:
    database.execute(f"ALTER ROLE {QUOTED} CONNECTION LIMIT 3")
    assert "role's" in problems(examine(role))["sessions"].sentence
    database.execute(f"ALTER ROLE {QUOTED} CONNECTION LIMIT -1")
    database.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 3")
    assert "database's" in problems(examine(role))["sessions"].sentence
    assert not problems(examine(database.conninfo)), "neither limit applies to a superuser"
