"""--keep-going: pg_restore continues after errors. pgstow reports each error, and fails unless --allow-error allows all of them."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.pgstow import Result, run_pgstow
from support.postgres_fixtures import Database

from pipeline.errors import RestoreFailed
from pipeline.postgres.pg_restore import IgnoredError, parse_errors
from pipeline.postgres.throwaway import ThrowawayCluster

OBJECTS = """
CREATE ROLE passing;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE a AS SELECT generate_series(1, 700) AS i;
CREATE TABLE b AS SELECT generate_series(1, 30) AS i;
CREATE TABLE c (i integer, m mood); INSERT INTO c SELECT i, 'good' FROM generate_series(1, 20000) AS i;
ALTER TABLE a OWNER TO passing; ALTER TABLE b OWNER TO passing;
GRANT SELECT ON c TO passing;
"""
LOST = """
CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_catalog.pg_terminate_backend(pid, 60000) FROM pg_catalog.pg_stat_activity
    WHERE datname = pg_catalog.current_database() AND pid <> pg_catalog.pg_backend_pid();
    PERFORM pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid());
    RETURN new;
END $$;
CREATE TRIGGER lost BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION lose();
TRUNCATE a, b, c;
"""
"""Makes the server end all sessions in the target during the restore, pgstow's own session first."""
NO_ROLE = 'role "passing" does not exist'


@dataclass(frozen=True)
class Orphaned:
    """A backup that names a role that no longer exists."""

    store: Path
    spool_dir: Path

    def restore(self, target: str, *options: object) -> Result:
        arguments = ("--from", self.store, "--into", target, "--spool-dir", self.spool_dir, "--json")
        return run_pgstow("restore", *arguments, *options)


@pytest.fixture
def orphaned(database: Database, tmp_path: Path, spool_dir: Path) -> Orphaned:
    database.execute(OBJECTS)
    try:
        made = run_pgstow("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
        assert made.exit_code == 0, made
    finally:
        database.execute("REASSIGN OWNED BY passing TO CURRENT_USER; DROP OWNED BY passing; DROP ROLE passing")
    return Orphaned(tmp_path / "store", spool_dir)


def rows(database: Database) -> dict[str, int]:
    return {name: database.fetch(f"SELECT count(*) FROM {name}")[0][0] for name in "abc"}


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_that_are_allowed_by_name_are_told_and_no_failure(
    orphaned: Orphaned, empty_target: Database, jobs: int
) -> None:
    result = orphaned.restore(empty_target.conninfo, "--keep-going", "--allow-error", NO_ROLE, "--jobs", jobs)
    assert result.exit_code == 0, result
    assert json.loads(result.stdout)["allowed_errors"] == 3
    assert len(result.stderr_lines) == 3
    assert all(re.match(rf"pgstow: Allowed: .*{NO_ROLE} Command was: ", line) for line in result.stderr_lines)
    assert any("ALTER TABLE public.a OWNER TO passing" in line for line in result.stderr_lines)
    assert rows(empty_target) == {"a": 700, "b": 30, "c": 20000}


@pytest.mark.parametrize(
    ("allowed", "not_allowed"),
    [((), 4), (("nothing like it",), 4), ((NO_ROLE,), 1), (("already exists",), 3), (("OWNER TO passing",), 4)],
)
def test_any_other_error_is_a_failure_and_what_was_restored_is_kept(
    orphaned: Orphaned, empty_target: Database, allowed: tuple[str, ...], not_allowed: int
) -> None:
    """The last pattern matches only the statement. pgstow ignores statements, since anybody may have written them, and matches only errors."""
    empty_target.execute("CREATE TYPE mood AS ENUM ('good', 'bad')")
    options = [word for pattern in allowed for word in ("--allow-error", pattern)]
    result = orphaned.restore(empty_target.conninfo, "--keep-going", "--allow-nonempty", *options)
    assert result.exit_code == 5, result
    *told, last = result.stderr_lines
    assert sum(line.startswith("pgstow: Not allowed: ") for line in told) == not_allowed
    assert sum(line.startswith("pgstow: Allowed: ") for line in told) == 4 - not_allowed
    assert f"continued after 4 errors, of which --allow-error allows {4 - not_allowed}." in last
    assert f"{empty_target.name} may hold a part" in last
    assert result.stdout == ""
    assert rows(empty_target) == {"a": 700, "b": 30, "c": 20000}


def test_without_it_the_first_error_ends_it(orphaned: Orphaned, empty_target: Database) -> None:
    result = orphaned.restore(empty_target.conninfo)
    assert result.exit_code == 5
    assert len(result.stderr_lines) == 1
    assert empty_target.fetch("SELECT to_regclass('c')") == [(None,)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_table_that_is_not_made_is_missed_although_the_error_is_allowed(
    orphaned: Orphaned, empty_target: Database, jobs: int
) -> None:
    """pgstow doesn't wait for pg_restore to read the data of the missing table, and doesn't count the data as restored."""
    options = ("--keep-going", "--allow-error", "does not exist", "--jobs", jobs)
    result = orphaned.restore(empty_target.conninfo, *options, "-t", "a", "-t", "c")
    assert result.exit_code == 5, result
    assert re.search(r"has no table public\.c\.", result.stderr_lines[-1])
    assert any('type "public.mood" does not exist' in line for line in result.stderr_lines)
    assert empty_target.fetch("SELECT count(*) FROM a") == [(700,)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_rows_that_are_refused_are_missed_although_the_error_is_allowed(
    orphaned: Orphaned, empty_target: Database, jobs: int
) -> None:
    """Even with --keep-going, the restore fails if the server goes away."""
    assert orphaned.restore(empty_target.conninfo, "--schema-only", "-x", "-O").exit_code == 0
    empty_target.execute("ALTER TABLE c ADD CHECK (i < 10000)")
    options = ("--keep-going", "--allow-error", "check constraint", "--jobs", jobs, "--data-only")
    result = orphaned.restore(empty_target.conninfo, *options)
    assert result.exit_code == 5, result
    assert re.search(r"public\.c has 0 rows, but the backup has 20000", result.stderr_lines[-1])
    assert empty_target.fetch("SELECT count(*) FROM a") == [(700,)]

    empty_target.execute(LOST)
    result = orphaned.restore(empty_target.conninfo, "--keep-going", "--jobs", jobs, "--data-only")
    assert result.exit_code == 3, result
    assert "The server went away: " in result.stderr_lines[-1]


def test_a_new_database_is_kept_with_what_could_be_restored(orphaned: Orphaned, postgres: ThrowawayCluster) -> None:
    server, copy = Database("postgres", postgres.conninfo()), Database("kept", postgres.conninfo("kept"))
    try:
        result = orphaned.restore(copy.conninfo, "--create", "--keep-going")
        assert result.exit_code == 5
        assert "kept may hold a part of the backup now" in result.stderr_lines[-1]
        assert rows(copy) == {"a": 700, "b": 30, "c": 20000}
        server.execute("DROP DATABASE kept")
        assert orphaned.restore(copy.conninfo, "--create").exit_code == 5
        assert server.fetch("SELECT FROM pg_database WHERE datname = 'kept'") == []
    finally:
        server.execute("DROP DATABASE IF EXISTS kept")


def test_what_a_statement_says_is_no_error_of_its_own() -> None:
    said = (
        "pg_restore: while PROCESSING TOC:\n"
        "pg_restore: from TOC entry 216; 1259 16392 TABLE t nobody\n"
        'pg_restore: error: could not execute query: ERROR:  syntax error at or near "x"\n'
        "LINE 2: x\n        ^\nHINT:  Mend it.\n"
        "Command was: CREATE FUNCTION f()\n error: x\nCommand was: other;\n\n\n"
        'pg_restore: error: COPY failed for table "t": ERROR:  invalid\nCONTEXT:  COPY t, line 1\n'
        "pg_restore: warning: errors ignored on restore: 2"
    )
    assert parse_errors(said) == [
        IgnoredError('could not execute query: ERROR: syntax error at or near "x"', "CREATE FUNCTION f()", "Mend it."),
        IgnoredError('COPY failed for table "t": ERROR: invalid'),
    ]


@pytest.mark.parametrize(
    "said",
    [
        "pg_restore: pg_restore: error: error: allowed\nnot allowed\n",
        "pg_restore: error: pg_restore: error: allowed\nnot allowed\n",
        "pg_restore: error: allowed\npg_restore: nothing known\n",
    ],
)
def test_jobs_that_speak_at_once_hide_no_error(said: str) -> None:
    with pytest.raises(RestoreFailed, match=r"can't be told apart.*--jobs 1"):
        parse_errors(said)
