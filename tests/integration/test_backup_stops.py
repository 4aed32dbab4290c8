"""A backup that is stopped or killed at any moment: nothing half-done looks whole, and nothing is left running."""

import json
import math
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.faulty_backups import SMALL, FaultyStore, dumps, wait_for_backpressure
from support.faulty_http import Fault
from support.pgstow import (
    PATIENCE,
    PGSTOW,
    assert_nothing_left,
    assert_one_sentence,
    committed_backups,
    finish,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database

STOPPED = r"Stopped by SIG\w+; an unfinished backup is never committed; pgstow gc removes its objects\."

Moment = Callable[[FaultyStore, Path], None]


def at_once(s3: FaultyStore, spool_dir: Path) -> None:
    """Wait until pgstow has put something into the spool folder, which it could leave behind."""
    wait_until(lambda: list(spool_dir.iterdir()), "pgstow has begun")


def while_dumping(s3: FaultyStore, spool_dir: Path) -> None:
    """Wait until pg_dump has been started."""
    wait_until(lambda: dumps(spool_dir), "pg_dump runs")


def after_puts(count: int) -> Moment:
    """Return a function that waits until pgstow has sent this number of objects."""

    def moment(s3: FaultyStore, spool_dir: Path) -> None:
        wait_until(lambda: s3.proxy.count("PUT") >= count, f"{count} PUTs")

    moment.__name__ = f"after_{count}_puts"
    return moment


def while_paused(s3: FaultyStore, spool_dir: Path) -> None:
    """Wait until pg_dump is stopped, since the store answers no more and the spool is full."""
    wait_for_backpressure(spool_dir)


def while_committing(s3: FaultyStore, spool_dir: Path) -> None:
    """Wait until pgstow has sent the manifest. The store doesn't answer yet."""
    wait_until(lambda: s3.proxy.count("PUT", "manifests/"), "the manifest is sent")


PREPARED: dict[Moment, dict[str, Any]] = {
    while_paused: {"times": math.inf},
    while_committing: {"path": "manifests/"},
}
"""For each moment that comes only if the store stalls: the PUTs that the store doesn't answer."""


@contextmanager
def backup_at(moment: Moment, database: Database, s3: FaultyStore, spool_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a backup. Yield its process when the backup has come to this moment."""
    if moment in PREPARED:
        s3.proxy.fail(method="PUT", with_=Fault.STALL, **PREPARED[moment])
    what = ("--table", "small") if moment is while_committing else ()
    with start_pgstow(
        "backup",
        database.conninfo,
        "--to",
        s3.url,
        "--spool-dir",
        spool_dir,
        "--quiet",
        "--transfers",
        1,
        *SMALL,
        *what,
    ) as process:
        moment(s3, spool_dir)
        yield process


def assert_clean(s3: FaultyStore, database: Database, spool_dir: Path) -> None:
    """Assert that no process runs, that no file is left, and that every backup in the store is whole."""
    wait_until(lambda: not dumps(spool_dir), "pg_dump is gone")
    s3.proxy.heal()
    assert_nothing_left(spool_dir, database, s3.bucket.url)


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (at_once, signal.SIGINT),
        (while_dumping, signal.SIGTERM),
        (while_paused, signal.SIGHUP),
        (while_committing, signal.SIGTERM),
    ],
    ids=lambda value: getattr(value, "name", None) or value.__name__,
)
def test_a_signal_stops_it_in_order(
    large_database: Database, s3: FaultyStore, spool_dir: Path, moment: Moment, number: signal.Signals
) -> None:
    with backup_at(moment, large_database, s3, spool_dir) as process:
        process.send_signal(number)
        result = finish(process, PATIENCE)
    assert_one_sentence(result, 128 + number, STOPPED)
    assert not list(spool_dir.iterdir())
    assert not dumps(spool_dir)
    assert_clean(s3, large_database, spool_dir)
    assert committed_backups(s3.bucket.url) == []


def test_a_stop_leaves_no_temporary_file_in_a_folder(large_database: Database, spool_dir: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    with start_pgstow(
        "backup", large_database.conninfo, "--to", store, "--spool-dir", spool_dir, "--quiet", *SMALL
    ) as process:
        wait_until(lambda: list(store.glob("data/**/*.zst")), "something is stored")
        process.terminate()
        result = finish(process, PATIENCE)
    assert_one_sentence(result, 128 + signal.SIGTERM, STOPPED)
    assert not list((store / ".incoming").iterdir())
    assert_nothing_left(spool_dir, large_database, store)


def test_a_second_signal_does_not_disturb_the_stop(large_database: Database, s3: FaultyStore, spool_dir: Path) -> None:
    with backup_at(while_paused, large_database, s3, spool_dir) as process:
        for number in (signal.SIGINT, signal.SIGTERM):  # if both signals are pending, the lower number is handled first
            process.send_signal(number)
        result = finish(process, PATIENCE)
    assert_one_sentence(result, 128 + signal.SIGINT, STOPPED)
    assert_clean(s3, large_database, spool_dir)


def test_a_signal_that_was_ignored_before_stays_so(sample_database: Database, spool_dir: Path, tmp_path: Path) -> None:
    """nohup starts a program that ignores SIGHUP."""
    (tmp_path / "store").mkdir()
    command = ["nohup", PGSTOW, "backup", sample_database.conninfo, "--to", tmp_path / "store", "--quiet"]
    with (
        closing(psycopg.connect(sample_database.conninfo)) as connection,
        subprocess.Popen(
            [*command, "--spool-dir", spool_dir], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        connection.execute("LOCK TABLE shop.customer")
        wait_until(lambda: dumps(spool_dir), "pg_dump runs")
        process.send_signal(signal.SIGHUP)
        connection.rollback()
        _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (0, "")
    assert len(committed_backups(tmp_path / "store")) == 1


MOMENTS = [at_once, while_dumping, while_paused, while_committing]
MOMENTS += [after_puts(count) for count in sorted(random.Random(15).sample(range(1, 48), 2))]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
def test_kill_9(large_database: Database, s3: FaultyStore, spool_dir: Path, moment: Moment) -> None:
    with backup_at(moment, large_database, s3, spool_dir) as process:
        process.kill()
        assert finish(process).exit_code == -signal.SIGKILL
    assert_clean(s3, large_database, spool_dir)

    listed = run_pgstow("list", "--from", s3.bucket.url, "--json")
    assert (listed.exit_code, json.loads(listed.stdout)) == (0, [])
    again = run_pgstow(
        "backup", large_database.conninfo, "--to", s3.bucket.url, "--spool-dir", spool_dir, "-q", "-t", "small"
    )
    assert again.exit_code == 0, again
    assert len(committed_backups(s3.bucket.url)) == 1
