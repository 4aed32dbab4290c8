"""A script for psql out of any backup, without a server."""

import subprocess
from pathlib import Path

import pytest
from support.pgstow import PGSTOW, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster


def lines_of(script: str) -> list[str]:
    """Return the script's lines without those that differ between two runs of pg_restore."""
    return [line for line in script.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_into_psql(
    stored_sample: StoredSample, postgres: ThrowawayCluster, empty_target: Database, spool_dir: Path
) -> None:
    export = f"{PGSTOW} export --from {stored_sample.folder} --spool-dir {spool_dir} --quiet"
    psql = f"{postgres.bin_dir}/psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -d '{empty_target.conninfo}'"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{export} | {psql} >/dev/null"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)
    assert compare.definitions(empty_target.conninfo) == compare.definitions(stored_sample.source)


@pytest.mark.parametrize(
    "options", [(), ("--create",), ("--schema-only",), ("--data-only",), ("--clean", "--if-exists", "--no-owner", "-x")]
)
def test_it_is_what_stock_pg_restore_makes_of_the_archive(
    stored_sample: StoredSample, postgres: ThrowawayCluster, tmp_path: Path, spool_dir: Path, options: tuple[str, ...]
) -> None:
    store, folder = ("--from", stored_sample.folder), tmp_path / "archive"
    assert run_pgstow("restore", *store, "--to-directory", folder, "-q").exit_code == 0
    stock = subprocess.run(
        [postgres.bin_dir / "pg_restore", "--file=-", *options, folder], capture_output=True, text=True, check=True
    )
    ours = run_pgstow("export", *store, *options, "--spool-dir", spool_dir, "-q")
    assert (ours.exit_code, ours.stderr) == (0, "")
    assert lines_of(ours.stdout) == lines_of(stock.stdout)


def test_a_table_alone(stored_sample: StoredSample, spool_dir: Path) -> None:
    arguments = ("--from", stored_sample.folder, "-t", "shop.product", "--spool-dir", spool_dir, "-q")
    script = run_pgstow("export", *arguments).stdout
    assert "CREATE TABLE shop.product" in script
    assert "CREATE TABLE shop.review" not in script
    [copied] = [index for index, line in enumerate(script.splitlines()) if line.startswith("COPY ")]
    assert script.splitlines()[copied:].index("\\.") - 1 == stored_sample.table("shop.product").rows


def test_a_file_is_private_and_whole_or_not_there(stored_sample: StoredSample, tmp_path: Path, spool_dir: Path) -> None:
    arguments = ("--from", stored_sample.folder, "--file", tmp_path / "shop.sql", "--spool-dir", spool_dir, "-q")
    assert run_pgstow("export", *arguments).exit_code == 0
    assert (tmp_path / "shop.sql").stat().st_mode & 0o777 == 0o600
    (tmp_path / "shop.sql").unlink()

    damaged = stored_sample.objects_of("telemetry.reading")[1]
    stored_sample.path(damaged).unlink()
    assert_one_sentence(run_pgstow("export", *arguments), 7, damaged.key)
    assert not list(tmp_path.glob("shop.sql*"))
    nowhere = ("--from", stored_sample.folder, "--file", tmp_path / "no" / "shop.sql", "-q")
    assert_one_sentence(run_pgstow("export", *nowhere), 9, "Cannot write to .*No such file or directory")


def test_roles_and_tablespaces(postgres: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    to = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    assert run_pgstow("backup", postgres.conninfo(), "--globals-only", *to).exit_code == 0
    script = run_pgstow("export", "--from", tmp_path / "store", "--database", "@globals", "-q").stdout
    stock = subprocess.run(
        [postgres.bin_dir / "pg_dumpall", "--globals-only", "-d", postgres.conninfo()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert lines_of(script) == lines_of(stock.stdout)


def test_what_is_no_file_stays_what_it_is(stored_sample: StoredSample, tmp_path: Path) -> None:
    """pgstow renames a finished file to its name. If root runs pgstow, a rename could replace a device such as /dev/null."""
    device = tmp_path / "full"
    subprocess.run(["mknod", device, "c", "1", "7"], check=False, capture_output=True)
    if not device.exists():
        pytest.skip("root alone makes devices")
    export = ("export", "--from", stored_sample.folder, "-q", "--file")
    assert_one_sentence(run_pgstow(*export, device), 9, "No space left on device")
    assert device.is_char_device()
    assert_one_sentence(run_pgstow(*export, tmp_path), 2, "is a folder")
    if Path("/dev/stdout").is_symlink():
        with (tmp_path / "shop.sql").open("wb") as output:
            subprocess.run([PGSTOW, *map(str, export), "/dev/stdout"], stdout=output, check=True)
        assert Path("/dev/stdout").is_symlink()
        assert b"CREATE TABLE" in (tmp_path / "shop.sql").read_bytes()
