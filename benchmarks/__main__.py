"""Build the databases, run pgstow and its alternatives side by side, and print the report."""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import psycopg

from benchmarks import sides, slow_link
from benchmarks.database import DATABASES, LARGEST, ROWS_OF_FEW, SMALL_TABLES, Shape, build, build_many
from benchmarks.report import Outcome, render
from benchmarks.runs import SERVER_SETTINGS, Bench, create_source
from benchmarks.stores import Store
from pipeline.postgres.throwaway import ThrowawayCluster

HELP_RUNS = 5
FAST_LINK = slow_link.Link(200.0, 15.0)
SLOW_LINK = slow_link.Link(20.0, 20.0)
_SLOW_SHARE = 5
"""The database for the slow link is smaller by this factor, so that its runs don't take too long."""
IDLE_SECONDS = 5.0
"""The time before the runs, in seconds, to measure how busy other processes keep this machine."""


_COMMANDS = {**sides.BACKUPS, **sides.STAGES}


def main() -> None:
    """Run the benchmarks that the command line names, one after another, and print the report."""
    options = _options()
    # The directory belongs to the user that runs the benchmarks, but the server's user must reach its own files below it.
    with ExitStack() as stack:
        os.umask(0o022)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # pgstow, rclone and aws
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.work_dir)))
        directory.chmod(0o755)
        outcome = Outcome(_time_help(), psutil.cpu_percent(interval=IDLE_SECONDS))
        if options.only != "cluster":
            _measure_large(outcome, _start_bench(stack, directory / "large", options), options)
        if options.only in (None, "link") and not outcome.link_problem:
            _measure_slow(outcome, _start_bench(stack, directory / "slow", options), options)
        if options.only in (None, "cluster"):
            _measure_many(outcome, _start_bench(stack, directory / "many", options), options)
        report = render(outcome, command=_command(), runs=options.repeat, jobs=options.jobs)
    print(report)
    if options.markdown:
        options.markdown.write_text(report, encoding="utf-8")


def _start_bench(stack: ExitStack, directory: Path, options: argparse.Namespace) -> Bench:
    """Start a server that runs until the end of all measurements. An earlier removal of its files would slow the measurements down."""
    _say("Starting PostgreSQL")
    directory.mkdir()
    cluster = stack.enter_context(ThrowawayCluster(settings=SERVER_SETTINGS, directory=directory))
    return Bench(cluster, directory, options.jobs)


def _measure_large(outcome: Outcome, bench: Bench, options: argparse.Namespace) -> None:
    database = _build(bench.cluster, Shape(options.size_mb, options.largest))
    _say("Making local dumps")
    bench.prepare()
    with Store(bench.directory / "near") as store:
        if options.only in (None, "backup"):
            _say("Backups")
            outcome.backups = bench.back_up(store, _COMMANDS, options.repeat)
        if options.only in (None, "restore"):
            _say("Restores")
            outcome.restores = bench.restore(store, options.repeat)
    if options.only in (None, "link"):
        outcome.link_problem = slow_link.why_not()
        if not outcome.link_problem:
            _over_the_link(outcome, bench, FAST_LINK, options.repeat)
    _describe(outcome, bench, database)


def _measure_slow(outcome: Outcome, bench: Bench, options: argparse.Namespace) -> None:
    database = _build(bench.cluster, Shape(options.size_mb // _SLOW_SHARE, options.largest))
    bench.prepare()
    _over_the_link(outcome, bench, SLOW_LINK, options.repeat)
    _describe(outcome, bench, f"over the link of {SLOW_LINK.rate:g} Mbit/s, {database}")


def _describe(outcome: Outcome, bench: Bench, database: str) -> None:
    size = (bench.local / "dump.zst").stat().st_size
    dumped = sum(path.stat().st_size for path in (bench.local / "dump").glob("*.dat"))
    outcome.databases.append(
        f"{database}. As COPY text it has {dumped / 1e6:.0f} MB, which zstd compresses to {size / 1e6:.0f} MB ({dumped / size:.2f} : 1)."
    )


def _measure_many(outcome: Outcome, bench: Bench, options: argparse.Namespace) -> None:
    _say(f"Building {DATABASES} small databases")
    build_many(bench.cluster)
    with Store(bench.directory / "near") as store:
        _say("Backups of the whole server")
        outcome.cluster = bench.back_up(store, sides.CLUSTER, options.repeat)
    outcome.databases.append(
        f"{DATABASES} small ones on another server, each with {sum(ROWS_OF_FEW):,} rows in {len(ROWS_OF_FEW)} tables."
    )


def _over_the_link(outcome: Outcome, bench: Bench, link: slow_link.Link, repeat: int) -> None:
    _say(f"Backups over a link of {link}")
    with (
        slow_link.slow_link(link) as prefix,
        Store(bench.directory / "far", address=slow_link.FAR, prefix=prefix) as store,
    ):
        outcome.links[str(link)] = bench.back_up(store, _COMMANDS, repeat)


def _build(cluster: ThrowawayCluster, shape: Shape) -> str:
    _say(f"Building a database of {shape.megabytes} MB")
    started = time.monotonic()
    source = create_source(cluster)
    build(source, shape)
    _say(f"  built in {time.monotonic() - started:.0f} s")
    with psycopg.connect(source) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    size = row[0] / 1e6 if row else 0
    return (
        f"{size:.0f} MB on disk, with a large table {LARGEST} (created {shape.largest}) and {SMALL_TABLES} small tables"
    )


def _time_help() -> list[float] | None:
    """Return the seconds of each run of ``pgstow --help``, as a whole process; None if there is no pgstow, or if it fails."""
    times = []
    for _ in range(HELP_RUNS):
        started = time.monotonic()
        if (
            not shutil.which(sides.PGSTOW)
            or subprocess.run([sides.PGSTOW, "--help"], capture_output=True, check=False).returncode
        ):
            return None
        times.append(time.monotonic() - started)
    return times


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pgstow and its alternatives, such as pg_dump with zstd and the AWS CLI.",
    )
    parser.add_argument(
        "--size-mb",
        type=int,
        default=1100,
        help="the size of the database, in 10^6 bytes of COPY text (default %(default)s)",
    )
    parser.add_argument("--repeat", type=int, default=3, help="the number of runs of each side (default %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=2, help="the number of parallel jobs of each side (default %(default)s)"
    )
    parser.add_argument("--only", choices=("backup", "restore", "link", "cluster"), help="run only these benchmarks")
    parser.add_argument(
        "--largest",
        choices=("first", "last"),
        default="last",
        help="create the largest table before or after the others (default %(default)s)",
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("/var/tmp"),
        help="the folder for all files; they take twenty times the size (default %(default)s)",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the report to this file")
    return parser.parse_args()


def _command() -> str:
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
