"""A backup within its limits of disk and memory, whatever the database's size and however slow the store."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.faulty_backups import SMALL, FaultyStore, dumps
from support.pgstow import (
    assert_nothing_left,
    assert_one_sentence,
    committed_backups,
    disk_use,
    finish,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database

MACHINE = 9
MIB = 1024 * 1024


def peak_memory(process: "subprocess.Popen[str]") -> int:
    """Return the most memory that the process has used at any time, in bytes; 0 if the process has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def test_a_table_larger_than_the_limits(large_database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    """The store takes one object at a time, so pg_dump is stopped again and again."""
    large_database.execute("INSERT INTO large SELECT * FROM large; INSERT INTO large SELECT * FROM large")
    most_disk = most_memory = 0
    with start_pgstow(
        *("backup", large_database.conninfo, "--to", s3.url, "--spool-dir", spool_dir, "--quiet"),
        *("--memory", "4MiB", "--object-size", "1MiB", "--spool-limit", "32MiB", "--transfers", 1),
    ) as process:
        while process.poll() is None:
            most_disk = max(most_disk, disk_use(spool_dir))
            most_memory = max(most_memory, peak_memory(process))
            time.sleep(0.002)
        assert finish(process).exit_code == 0
    assert 8 * MIB < most_disk <= 32 * MIB, "of the dump's 96 MiB"
    assert 0 < most_memory <= 160 * MIB, "the data's 4 MiB and the program itself"
    assert_nothing_left(spool_dir, large_database, s3.bucket.url)
    assert len(committed_backups(s3.bucket.url)) == 1


def test_large_objects_of_a_few_bytes(database: Database, stuck_s3: FaultyStore, spool_dir: Path) -> None:
    """The store stalls. 4,000 files of 30 bytes are 0.1 MB, and take 16 MB of the disk."""
    database.execute("SELECT lo_from_bytea(0, repeat('x', 30)::bytea) FROM generate_series(1, 4000)")
    with start_pgstow(
        *("backup", database.conninfo, "--to", stuck_s3.url, "--spool-dir", spool_dir, "--quiet"),
        *("--memory", "128KiB", "--object-size", "64KiB", "--spool-limit", "16MiB", "--jobs", 1),
    ) as process:
        wait_until(lambda: {dump.state for dump in dumps(spool_dir)} == {"T"}, "pg_dump is stopped", patience=120)
        assert 4 * MIB < disk_use(spool_dir) <= 16 * MIB
        process.terminate()
        assert finish(process).exit_code == 128 + signal.SIGTERM
    assert_nothing_left(spool_dir, database, stuck_s3.bucket.url)


def test_more_jobs_than_pieces_fit_the_spool(database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    """24 files grow at once, and fill the spool together. Each is smaller than a piece, the data of one zstd frame."""
    for number in range(24):
        database.execute(
            f"CREATE TABLE t{number} AS SELECT repeat(md5(i::text), 31) AS a FROM generate_series(1, 3000) AS i"
        )
    result = run_pgstow(
        *("backup", database.conninfo, "--to", s3.url, "--spool-dir", spool_dir, "--quiet"),
        *("--jobs", 24, "--spool-limit", "16MiB", "--object-size", "4MiB", "--memory", "8MiB"),
    )
    assert (result.exit_code, result.stderr) == (0, "")
    assert_nothing_left(spool_dir, database, s3.bucket.url)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=6m", "pgstow-test", folder], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("only root, where it may mount, can make a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_disk_smaller_than_the_spools_limit(
    large_database: Database, stuck_s3: FaultyStore, small_disk: Path
) -> None:
    result = run_pgstow(
        *("backup", large_database.conninfo, "--to", stuck_s3.url, "--spool-dir", small_disk, "--quiet", *SMALL)
    )
    assert_one_sentence(result, MACHINE, f"The spool's disk at {small_disk}.* is full")
    assert_nothing_left(small_disk, large_database, stuck_s3.bucket.url)
    assert committed_backups(stuck_s3.bucket.url) == []


def test_a_disk_that_is_full_already(database: Database, small_disk: Path, tmp_path: Path) -> None:
    with suppress(OSError), (small_disk / "other").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    result = run_pgstow("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", small_disk, "--quiet")
    assert_one_sentence(result, MACHINE, "No space left on device|disk at .* is full")
    assert [path.name for path in small_disk.iterdir()] == ["other"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(database: Database, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o500)
        result = run_pgstow("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", folder, "--quiet")
    assert_one_sentence(result, MACHINE, "Cannot make a working folder .*Permission denied")


def test_a_full_store(sample_database: Database, small_disk: Path, spool_dir: Path) -> None:
    with suppress(OSError), (small_disk / "other").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    result = run_pgstow(
        "backup", sample_database.conninfo, "--to", small_disk / "store", "--spool-dir", spool_dir, "--quiet"
    )
    assert_one_sentence(result, 6, "No space left on device")
    assert_nothing_left(spool_dir, sample_database, small_disk / "store")
