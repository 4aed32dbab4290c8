"""Backups where pgstow can't learn which files pg_dump has open: /proc is empty or shows other processes, or pg_dump is no child of pgstow."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.pgstow import ANOTHER_NAMESPACE, NO_PROC, assert_nothing_left, run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.programs import find_program

MIB = 1024 * 1024
CONTENT = "SELECT oid, md5(lo_get(oid)) FROM pg_largeobject_metadata ORDER BY oid"


@pytest.fixture
def large_objects(database: Database) -> Database:
    """A database with large objects of 8 MiB each, which are two pieces by default, and with small large objects."""
    database.execute(
        f"SELECT lo_from_bytea(0, decode(repeat(md5(i::text), {8 * MIB} / 16), 'hex')) FROM generate_series(1, 6) AS i"
    )
    database.execute("SELECT lo_from_bytea(0, decode(repeat('ab', i), 'hex')) FROM generate_series(0, 100) AS i")
    return database


def assert_whole(large_objects: Database, empty_target: Database, store: Path, spool_dir: Path) -> None:
    assert_nothing_left(spool_dir, large_objects, store)
    result = run_pgstow("restore", "latest", "--from", store, "--into", empty_target.conninfo, "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert empty_target.fetch(CONTENT) == large_objects.fetch(CONTENT)


@pytest.mark.parametrize("within", [ANOTHER_NAMESPACE, NO_PROC], ids=["another_namespace", "no_proc"])
def test_large_objects_come_back_whole(
    large_objects: Database, empty_target: Database, tmp_path: Path, spool_dir: Path, within: Sequence[str]
) -> None:
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"this machine lets nobody run {within[0]} {within[1]}")
    store = tmp_path / "store"
    result = run_pgstow(
        *("backup", large_objects.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", "--jobs", 2),
        within=within,
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert_whole(large_objects, empty_target, store, spool_dir)


def test_a_pg_dump_that_is_no_child_of_pgstow(
    large_objects: Database, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """pg_dump may run in a container. Then pgstow's child only waits for pg_dump, and has none of pg_dump's files open."""
    real = find_program("pg_dump", at_least_major=12).path
    path = tmp_path / "bin" / "pg_dump"
    path.parent.mkdir()
    path.write_text(
        f"""#!/bin/sh
        [ "$1" = --version ] && exec {real} --version
        setsid --fork sh -c 'ended=$0; {real} "$@" >&2; echo $? >"$ended.new"; mv "$ended.new" "$ended"' {tmp_path}/ended "$@"
        while [ ! -e {tmp_path}/ended ]; do sleep 0.05; done
        exit "$(cat {tmp_path}/ended)"
        """
    )
    path.chmod(0o755)
    store = tmp_path / "store"
    result = run_pgstow(
        *("backup", large_objects.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet"),
        *("--bin-dir", path.parent),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert_whole(large_objects, empty_target, store, spool_dir)
