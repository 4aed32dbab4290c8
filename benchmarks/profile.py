"""Print where the core-seconds of a backup and of a restore go: ``python -m benchmarks.profile``. Linux's perf counts them.

perf looks at all cores, so the database server and the object store count, too. perf needs root, or a low kernel.perf_event_paranoid.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks import sides
from benchmarks.cases import CASES
from benchmarks.record import cell
from benchmarks.runs import Bench, say
from benchmarks.server import find_programs, server
from benchmarks.sides import Side
from benchmarks.stores import Store

_FREQUENCY = 499  # samples of each core in a second; a prime, so that the samples don't keep step with periodic work
_BACKUPS = (sides.PGSTOW, sides.PIPE)
_RESTORES = (sides.RESTORE, sides.PROOF, sides.FLOOR)
_PROGRAMS = {
    "postgres": "the server",
    "rclone": "the store",
    "pg_dump": "pg_dump",
    "pg_restore": "pg_restore",
    "zstd": "zstd",
}
"""Programs that do one kind of work, by their names."""
_LIBRARIES = {
    "zstd": "zstd",
    "backend_c": "zstd",
    "libcrypto": "hashes",
    "[kernel": "the kernel",
    "[guest": "the kernel",
}
"""Kinds of work of pgstow and of the AWS CLI, by a part of a library's name. All other work is Python's."""
_OURS = ("pgstow", "aws", "python")


def kind_of_work(program: str, library: str) -> str | None:
    """Return the kind of work of a sample; None if another process, such as perf, did the work."""
    if program in _PROGRAMS:
        return _PROGRAMS[program]
    if not program.startswith(_OURS):
        return None
    return next((kind for part, kind in _LIBRARIES.items() if part in library), "Python")


def main() -> None:
    """Profile a backup by pgstow and by the pipe, in turn, and print the core-seconds of each kind of work."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument(
        "--work-dir", type=Path, default=Path("/var/tmp"), help="the folder for all files (default %(default)s)"
    )
    options = parser.parse_args()
    if not shutil.which("perf"):
        sys.exit("perf is missing. On Debian, install the package linux-perf.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    case = CASES["backup"]
    with ExitStack() as stack:
        os.umask(0o022)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="profile-", dir=options.work_dir)))
        directory.chmod(0o755)
        programs = find_programs(directory)
        os.environ["PATH"] = os.pathsep.join(map(str, (*programs, Path(sys.executable).parent, os.environ["PATH"])))
        bench = stack.enter_context(server(directory, case.data, programs, jobs=2))
        described, _ = case.data.fill(bench, 1.0)
        (directory / "store").mkdir()
        store = stack.enter_context(Store(directory / "store"))
        print(described)
        for together in (_BACKUPS, _RESTORES):
            print(f"\n{table({side.name: _profile(bench, store, side) for side in together})}")


def table(found: Mapping[str, Counter[str]]) -> str:
    """Return a table of the core-seconds of each side, by the kind of work."""
    kinds = sorted({kind for seconds in found.values() for kind in seconds})
    rows = [[kind, *(f"{seconds[kind]:.1f}" for seconds in found.values())] for kind in kinds]
    rows.append(["together", *(f"{seconds.total():.1f}" for seconds in found.values())])
    head = f"| core-seconds | {' | '.join(map(cell, found))} |\n|---|{'--:|' * len(found)}"
    return "\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)])


def _profile(bench: Bench, store: Store, side: Side) -> Counter[str]:
    """Run the side once. Return the core-seconds of each kind of work."""
    say(f"  {side.name}")
    samples = bench.directory / "perf.data"
    record = [
        "perf",
        "record",
        "--quiet",
        "--all-cpus",
        f"--freq={_FREQUENCY}",
        "--event=cpu-clock",
        f"--output={samples}",
    ]
    settings = {**store.environment, "REMOTE": bench.backup_for(side, store) or "".join(filter(str.isalnum, side.name))}
    with bench.new_database() as target:
        bench.run(shlex.join([*record, "--", "bash", "-o", "pipefail", "-c", side.command]), {**settings, **target})
    report = [
        "perf",
        "report",
        "--stdio",
        "--quiet",
        "--field-separator=;",
        "--fields=sample,comm,dso",
        f"--input={samples}",
    ]
    seconds = Counter[str]()
    for line in subprocess.run(report, check=True, capture_output=True, text=True).stdout.splitlines():
        if line.count(";") == 2:
            count, program, library = map(str.strip, line.split(";"))
            if kind := kind_of_work(program, library):
                seconds[kind] += int(count) / _FREQUENCY
    return seconds


if __name__ == "__main__":
    main()
