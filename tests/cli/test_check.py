import json
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def test_all_is_well(database: Database, store: Path) -> None:
    result = run_pgstow("check", database.conninfo, "--to", store)
    assert result.exit_code == 0, result
    *lines, verdict = result.stdout.splitlines()
    assert verdict == "Ready to back up."
    assert any(line.startswith("✓ privileges: ") for line in lines)
    assert any(line.startswith("· protection: ") for line in lines)
    assert "Trying the store" in result.stderr


def test_a_problem_comes_with_its_remedy_and_the_exit_code(database: Database, store: Path) -> None:
    """A person can copy the proposed SQL: it writes control characters in names as escapes."""
    database.execute('CREATE ROLE lacking LOGIN; CREATE TABLE "a\nb" (); CREATE TABLE "\x1b[8m\\""c" ()')
    try:
        result = run_pgstow("check", make_conninfo(database.conninfo, user="lacking"), "--to", store, "--quiet")
        assert result.exit_code == 10
        assert result.stderr == ""
        problem, remedy, *statement, verdict = result.stdout.splitlines()
        assert problem.startswith('✗ privileges: lacking lacks SELECT on 2 tables (public."␛[8m\\""c", public."a␤b")')
        assert remedy.startswith("    → As a superuser, GRANT pg_read_all_data TO lacking")
        assert verdict == "Not ready to back up: 1 problem."
        tables = r'public.U&"\001b[8m\\""c", public.U&"a\000ab"'
        assert statement == [f"        GRANT SELECT ON TABLE {tables} TO lacking;"]
        database.execute("\n".join(statement))

        again = run_pgstow("check", make_conninfo(database.conninfo, user="lacking"), "--to", store, "--quiet")
        assert (again.exit_code, again.stdout) == (0, "Ready to back up.\n")
    finally:
        database.execute("DROP OWNED BY lacking CASCADE; DROP ROLE lacking")


def test_a_server_whose_clock_is_ahead(database: Database, store: Path) -> None:
    """pgstow begins no backup, since other commands would reject a backup from the future."""
    an_hour_ago = ("faketime", "-f", "-1h")
    result = run_pgstow("check", database.conninfo, "--to", store, within=an_hour_ago)
    assert result.exit_code == 10, result
    assert "✗ clock: The database server's clock says " in result.stdout
    result = run_pgstow("backup", database.conninfo, "--to", store, within=an_hour_ago)
    assert result.exit_code == 4, result
    assert "The database server's clock says " in result.stderr
    assert not [path for path in store.rglob("*") if path.is_file()]


def test_json_has_every_finding(database: Database, store: Path) -> None:
    database.execute("CREATE TABLE public.wanted (); CREATE TABLE other ()")
    result = run_pgstow("check", database.conninfo, "--to", store, "-t", "wanted", "-j", "1", "--json")
    document = json.loads(result.stdout)
    assert document["ready"] is True
    sentences = {finding["subject"]: finding["sentence"] for finding in document["findings"]}
    assert "1 table and 0 sequences" in sentences["privileges"]
    assert sentences["sessions"].startswith("2 sessions")
    assert result.stderr == ""


def test_an_unreachable_server_is_a_finding(store: Path) -> None:
    result = run_pgstow("check", "host=127.0.0.1 port=1", "--to", store, "--json")
    assert result.exit_code == 10
    findings = json.loads(result.stdout)["findings"]
    assert [f["subject"] for f in findings if f["outcome"] == "problem"] == ["connection"]
    assert {"spool", "store"} <= {f["subject"] for f in findings}


def test_a_password_is_never_shown(store: Path) -> None:
    result = run_pgstow("check", "postgresql://me:hunter2@127.0.0.1:1/db", "--to", store)
    assert result.exit_code == 10
    assert "hunter2" not in result.stdout + result.stderr


def test_more_sessions_than_the_role_may_have(database: Database, store: Path) -> None:
    database.execute("CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    try:
        few = make_conninfo(database.conninfo, user="few")
        with psycopg.connect(few):
            result = run_pgstow("check", few, "--to", store, "--quiet", "-j", "1")
        assert result.exit_code == 10
        assert "✗ sessions: 1 job needs 2 sessions" in result.stdout
    finally:
        database.execute("DROP ROLE few")
