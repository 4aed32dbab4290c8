"""Build the databases and the stores, run pgstow and stock PostgreSQL side by side, and print the report."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmarks.__main__ import IDLE_SECONDS
from benchmarks.scale import audits, beside_stock, by_itself
from benchmarks.scale.lab import Lab
from benchmarks.scale.report import render
from benchmarks.scale.rows import Row

CASES: Mapping[str, Callable[[Lab], Iterator[Row]]] = {
    "tables": beside_stock.measure_tables,
    "large-objects": beside_stock.measure_large_objects,
    "schemas": beside_stock.measure_schemas,
    "partitions": beside_stock.measure_partitions,
    "large-manifests": by_itself.measure_large_manifests,
    "many-manifests": by_itself.measure_many_manifests,
    "s3": by_itself.measure_s3,
    "audit": audits.measure_audit,
}
"""All cases, by the names that ``--only`` takes. Each case yields its rows as soon as they are measured."""


def main() -> None:
    """Measure the cases that the command line names, one after another, and print the report."""
    options = _options()
    # The directory belongs to the user that runs the benchmarks, but the server's user must reach its own files below it.
    os.umask(0o022)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # pgstow and rclone
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.work_dir)))
        directory.chmod(0o755)
        lab = Lab(directory, stack, options.share, options.repeat, options.jobs)
        neighbours = psutil.cpu_percent(interval=IDLE_SECONDS)
        rows = [row for name in options.only or CASES for row in CASES[name](lab)]
        report = render(
            rows, lab, command=shlex.join(["python", "-m", "benchmarks.scale", *sys.argv[1:]]), neighbours=neighbours
        )
    print(report)
    if options.markdown:
        options.markdown.write_text(report, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description="Measure what many tables, large objects, schemas and backups cost, beside stock PostgreSQL.",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="the share of the whole sizes, such as 0.1 for a quick run (default %(default)s)",
    )
    parser.add_argument("--only", choices=CASES, action="append", help="measure only this case; can be repeated")
    parser.add_argument(
        "--repeat", type=int, default=3, help="the number of runs of each command (default %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="the number of parallel jobs (default %(default)s)")
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("/var/tmp"),
        help="the folder for all files; they take 15 GB (default %(default)s)",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the report to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
