"""What the programs that pgstow starts find in their environment: what they need, and no secret."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.programs import find_program

PROGRAMS = ("pg_dump", "pg_restore", "psql", "initdb", "postgres")
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-s3",
    "AWS_SESSION_TOKEN": "secret-of-s3-session",
    "GOOGLE_APPLICATION_CREDENTIALS": "/secret/of/gcs.json",
    "PGSTOW_CONFIG": "/secret/pgstow.toml",
    "SMTP_PASSWORD": "secret-of-somebody",
    "LC_SECRET_1": "secret-of-a-locale",
}
OF_PRINTING = {
    "PG_COLOR": "always",
    "PG_COLORS": "error=01;35",
    "PGCLIENTENCODING": "LATIN1",
    "PSQLRC": "/unwanted/psqlrc",
    "PSQL_PAGER": "unwanted",
    "PAGER": "unwanted",
    "LANGUAGE": "de_DE:de",
    "LC_ALL": "de_DE.UTF-8",
    "TERM": "xterm-unwanted",
    "COLUMNS": "40",
}
"""Variables that change the output of programs. pgstow reads this output, so no program gets them."""
WANTED = {"PGAPPNAME": "wanted", "TZ": "Asia/Tokyo"}
OF_ANOTHER_SERVER = {
    "PGHOSTADDR": "127.0.0.9",
    "PGREQUIREPEER": "somebody",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGCHANNELBINDING": "require",
    "PGTARGETSESSIONATTRS": "standby",
    "PGGSSENCMODE": "require",
    "PGSERVICE": "missing",
    "PGOPTIONS": "-c nonsense=1",
}


@pytest.fixture
def tattlers() -> Iterator[Path]:
    """A folder with PostgreSQL's programs, each of which first writes its environment into a file beside it."""
    real = find_program("initdb", at_least_major=12).path.resolve().parent
    with tempfile.TemporaryDirectory(prefix="pgstow-tests-") as name:  # a folder of pytest's is closed to other users
        folder = Path(name)
        folder.chmod(0o777)
        for program_name in PROGRAMS:
            program = folder / program_name
            program.write_text(
                f'#!/bin/sh\n[ "$1" = --version ] || [ "$1" = -V ] || env >>{folder}/{program_name}.env\n'
                f'exec {real}/{program_name} "$@"\n'
            )
            program.chmod(0o755)
        yield folder


def test_no_program_gets_a_secret(database: Database, tattlers: Path, tmp_path: Path, spool_dir: Path) -> None:
    database.execute(
        "CREATE TABLE 名前 AS SELECT 1 AS a; CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
    )
    env = {**SECRETS, **WANTED, **OF_PRINTING, "PGPASSWORD": "secret-of-a-server"}
    common = ("--spool-dir", spool_dir, "--bin-dir", tattlers, "-q")
    for format_ in ("directory", "plain"):
        store = tmp_path / format_
        source = f"{database.conninfo} client_encoding=LATIN1"
        made = run_pgstow("backup", source, "--to", store, "-F", format_, *common, env=env)
        assert made.exit_code == 0, made
        proven = run_pgstow("verify", "--from", store, "--level", "restore", *common, env=env | OF_ANOTHER_SERVER)
        assert proven.exit_code == 0, proven
    for name in PROGRAMS:
        found = (tattlers / f"{name}.env").read_text()
        assert "PATH=" in found
        assert "TZ=Asia/Tokyo" in found
        assert not [line for line in found.splitlines() if any(secret in line for secret in SECRETS.values())], name
        assert not [line for line in found.splitlines() if line.partition("=")[0] in OF_PRINTING], name
        assert "LC_MESSAGES=C\n" in found
        # Only pg_dump connects to the given server. The others use pgstow's own server, and get no password or setting of another server.
        assert ("PGAPPNAME=wanted" in found) == (name == "pg_dump"), name
        assert ("secret-of-a-server" in found) == (name == "pg_dump"), name
