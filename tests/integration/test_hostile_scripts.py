r"""Scripts that somebody else wrote into the store. Restores and proofs refuse psql commands such as ``\!``, which starts a program."""

from pathlib import Path

import pytest
from support.manifests import forge_script
from support.pgstow import assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.errors import BackupDamaged
from pipeline.postgres.loading import money_setting
from pipeline.postgres.throwaway import ThrowawayCluster

DAMAGED, MACHINE = 7, 9


@pytest.fixture
def store(database: Database, tmp_path: Path, spool_dir: Path) -> Path:
    """Return a store with the script of a small database."""
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 3) AS i")
    to = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    assert run_pgstow("backup", database.conninfo, "-F", "plain", *to).exit_code == 0
    return tmp_path / "store"


def test_neither_a_restore_nor_a_proof_runs_a_command(
    store: Path, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    marker = tmp_path / "ran"
    forge_script(store, lambda script: b"\\! touch %b\n%b" % (bytes(marker), script))
    where = ("--from", store, "--spool-dir", spool_dir, "-q")
    restored = run_pgstow("restore", "--into", empty_target.conninfo, *where)
    proven = run_pgstow("verify", "--level", "restore", "--no-attest", *where)
    assert not marker.exists()
    assert_one_sentence(restored, DAMAGED, r"psql's command \\!")
    assert (proven.exit_code, proven.stderr.count("psql's command \\!")) == (DAMAGED, 2)


def test_an_old_psql_is_refused(store: Path, empty_target: Database, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/psql").write_text("#!/bin/sh\necho 'psql (PostgreSQL) 15.13'\n")
    (tmp_path / "bin/psql").chmod(0o755)
    result = run_pgstow(
        "restore", "--from", store, "--into", empty_target.conninfo, "--bin-dir", tmp_path / "bin", "-q"
    )
    assert_one_sentence(
        result, MACHINE, r"psql of PostgreSQL 15\.14, 16\.10, 17\.6, 18 or newer is needed, but there is only 15\.13"
    )


def test_neither_do_roles_and_tablespaces(postgres: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    store, marker, where = tmp_path / "store", tmp_path / "ran", ("--globals-only", "--spool-dir", spool_dir, "-q")
    assert run_pgstow("backup", postgres.conninfo(), *where, "--to", store).exit_code == 0
    forge_script(store, lambda script: b"\\! touch %b\n%b" % (bytes(marker), script))
    result = run_pgstow("restore", *where, "--from", store, "--into", postgres.conninfo())
    assert_one_sentence(result, DAMAGED, r"psql's command \\!")
    read = ("--database", "@globals", "--level", "archive", "--spool-dir", spool_dir, "--no-attest", "-q")
    assert_one_sentence(run_pgstow("verify", "--from", store, *read), DAMAGED, r"globals\.sql: .* psql's command \\!")
    assert not marker.exists()


def test_the_locale_of_money_cannot_end_its_statement(stored_sample: StoredSample) -> None:
    """An exported script begins with a statement that sets the locale of money."""
    source = stored_sample.manifest.source
    assert money_setting(source.model_copy(update={"lc_monetary": "de_DE.utf8"})) == "de_DE.utf8"
    with pytest.raises(BackupDamaged, match="can't be a locale's name"):
        money_setting(source.model_copy(update={"lc_monetary": "de_DE\\'\n\\! touch x"}))
