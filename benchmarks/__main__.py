"""Build the databases, run pgstow and its alternatives side by side, and print the report."""

import argparse
import datetime
import os
import shlex
import signal
import sys
import tempfile
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import psutil

from benchmarks import publish
from benchmarks.cases import CASES
from benchmarks.measure import CommandFailedError
from benchmarks.record import Outcome, Record
from benchmarks.report import conditions, render
from benchmarks.runs import say
from benchmarks.server import find_programs, server

IDLE_SECONDS = 5.0
"""The time before the runs, in seconds, to measure how busy other processes keep this machine."""


def main() -> None:
    """Measure the cases that the command line names, one after another, and print the report."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # servers, links and files end with this process
    # The directory belongs to the user that runs the benchmarks, but the server's user must reach its own files below it.
    with ExitStack() as stack:
        os.umask(0o022)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.work_dir)))
        directory.chmod(0o755)
        programs = find_programs(directory)
        path = (*programs, Path(sys.executable).parent, os.environ["PATH"])  # pgstow, rclone and aws are beside Python
        os.environ["PATH"] = os.pathsep.join(map(str, path))
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        record = Record(command, options.share, conditions(options.repeat, options.jobs))
        saved = publish.RECORD if options.publish else options.json or directory / "benchmarks.json"
        if options.publish and options.only and saved.exists():
            record.outcomes = Record.load(saved).outcomes
        chosen = [(name, case) for name, case in CASES.items() if name in (options.only or CASES)]
        for data, cases in groupby(chosen, key=lambda item: item[1].data):
            with server(directory, data, programs, options.jobs) as bench:
                described = data.fill(bench, options.share)
                for name, case in cases:
                    say(f"Case {name}")
                    neighbours = psutil.cpu_percent(interval=IDLE_SECONDS)
                    try:
                        outcome = case.measure(bench, options.repeat)
                    except CommandFailedError as exc:
                        say(f"  failed: {exc}")
                        outcome = Outcome(f"Case {name}", problem=f"a command failed: {exc.summary}")
                    outcome.database, outcome.dumped = described
                    outcome.date, outcome.neighbours = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}", neighbours
                    outcomes = {**record.outcomes, name: outcome}
                    record.outcomes = {each: outcomes[each] for each in CASES if each in outcomes}
                    record.save(saved)
    print(render(record))
    if options.publish:
        publish.main()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure pgstow and its alternatives, such as pg_dump with zstd and the AWS CLI. All cases take about 40 minutes.",
    )
    parser.add_argument(
        "--share",
        type=float,
        default=1.0,
        help="the share of the whole sizes, such as 0.1 for a quick run (default %(default)s)",
    )
    parser.add_argument("--only", choices=CASES, action="append", help="measure only this case; can be repeated")
    parser.add_argument("--repeat", type=int, default=3, help="the number of runs of each side (default %(default)s)")
    parser.add_argument(
        "--jobs", type=int, default=2, help="the number of parallel jobs of each side (default %(default)s)"
    )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("/var/tmp"),
        help="the folder for all files; they take 15 GB at most (default %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to this file")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write docs/benchmarks.json, and the pages that show it; with --only, keep the earlier figures of other cases",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
