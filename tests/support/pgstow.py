"""Run the ``pgstow`` command as a person does, and check what must hold after each run, even after a failure."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from support.fork_server import run_forked
from support.patience import PATIENCE
from support.postgres_fixtures import Database

from storage_backends import open_backend

PGSTOW = Path(sys.executable).with_name("pgstow")
_OF_PYTHON = re.compile(r"LANG|LC_|PYTHON|LD_|MALLOC_")
"""Environment variables that take effect only when a process starts."""

ANOTHER_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")
"""A command that runs another command in a new PID namespace, so that /proc shows other processes than its own."""
NO_PROC = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
"""A command that runs another command with an empty /proc."""


@dataclass(frozen=True)
class Result:
    """How a run of ``pgstow`` ended. If a signal killed the run, the exit code is negative."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def stderr_lines(self) -> list[str]:
        """The lines of standard error that aren't empty."""
        return [line for line in self.stderr.splitlines() if line.strip()]


def run_pgstow(
    *arguments: object, timeout: float = PATIENCE, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
) -> Result:
    """Run ``pgstow`` to its end, and return how it ended. ``env`` is added to this process's environment.

    ``within`` is a command that runs the command after it. The run is forked from a server if ``within`` is empty and ``env`` has no variable
    that takes effect only when a process starts.
    A folder that is a :class:`Path` after ``--to`` is made first. Raises subprocess.TimeoutExpired after ``timeout`` seconds.
    """
    if within or any(_OF_PYTHON.match(name) for name in env or {}):
        with start_pgstow(*arguments, env=env, within=within) as process:
            return finish(process, timeout)
    _make_stores(arguments)
    code, *outputs = run_forked([str(PGSTOW), *map(str, arguments)], {**os.environ, **(env or {})}, timeout)
    return Result(code, *(output.decode().replace("\r\n", "\n") for output in outputs))


@contextmanager
def start_pgstow(
    *arguments: object, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Start ``pgstow`` beside the test, and yield its process. If it still runs at the end of the block, kill it.

    A folder that is a :class:`Path` after ``--to`` is made first.
    """
    _make_stores(arguments)
    with subprocess.Popen(
        [*within, PGSTOW, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)


def _make_stores(arguments: Sequence[object]) -> None:
    for option, value in pairwise(arguments):
        if option == "--to" and isinstance(value, Path):
            value.mkdir(parents=True, exist_ok=True)


def finish(process: subprocess.Popen[str], timeout: float = PATIENCE) -> Result:
    """Wait for the end of a process that :func:`start_pgstow` started, and return how it ended.

    Raises subprocess.TimeoutExpired after ``timeout`` seconds.
    """
    stdout, stderr = process.communicate(timeout=timeout)
    return Result(process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait until ``condition`` returns something true. Raises AssertionError, with ``what``, after ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.01)


def assert_one_sentence(result: Result, exit_code: int, matching: str = "") -> str:
    """Assert that the run ended with this exit code, and with one sentence on standard error that matches. Return the sentence.

    Use this for runs with ``--quiet`` or ``--json``, which print nothing else on standard error.
    """
    assert result.exit_code == exit_code, result
    assert len(result.stderr_lines) == 1, result.stderr
    [line] = result.stderr_lines
    assert line.startswith("pgstow: "), line
    assert "Traceback" not in line
    assert "Unexpected" not in line
    assert re.search(matching, line), line
    return line


def assert_nothing_left(spool_dir: Path, database: Database, store_url: str | Path | None = None) -> None:
    """Assert that no program, working folder or session in the database is left, and that every backup in the store is whole.

    Wait for the first three: if pgstow was killed, its guard cleans up a little later.
    """
    wait_until(lambda: not processes_naming(spool_dir), "no program is left")
    wait_until(lambda: not list(spool_dir.iterdir()), f"{spool_dir} is empty")
    wait_until(lambda: not sessions(database), "its sessions are gone")
    if store_url is not None:
        committed_backups(store_url)


def sessions(database: Database) -> list[str]:
    """Return the application names of the sessions of pgstow and its programs in the database."""
    rows = database.fetch(
        "SELECT application_name FROM pg_stat_activity "
        "WHERE datname = current_database() AND (application_name = 'pgstow' OR application_name LIKE 'pgstow %')"
    )
    return [name for (name,) in rows]


def committed_backups(store_url: str | Path) -> list[str]:
    """Return the IDs of all backups in the store. Assert that each object in a manifest has its SHA-256; a missing object raises, too."""
    if "://" not in str(store_url) and not Path(store_url).exists():
        return []
    found = []
    with closing(open_backend(str(store_url))) as store:
        for info in store.list("manifests/"):
            manifest = json.loads(store.get(info.key))
            for stored in manifest["objects"]:
                assert hashlib.sha256(store.get(stored["key"])).hexdigest() == stored["sha256"], stored["key"]
            found.append(manifest["backup_id"])
    return found


def disk_use(folder: Path) -> int:
    """Return the bytes of disk that the files below a folder take. The files may change meanwhile."""
    used = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                used += Path(place, name).lstat().st_blocks * 512
    return used


def processes_naming(text: str | Path) -> list[list[str]]:
    """Return the command lines of the processes with ``text`` in the command line or in the name of their log, except zombies.

    A program's log is in the spool's folder. Not every program has the folder in its command line.
    """
    return [command for _, command in processes_with(text)]


def processes_with(text: str | Path) -> list[tuple[int, list[str]]]:
    """Return the process IDs and the command lines of the processes that :func:`processes_naming` finds, in the order of their IDs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            log = str((process / "fd" / "2").readlink()) if command != [""] else ""
            if any(str(text) in name for name in (*command, log)):
                found.append((int(process.name), command))
    return sorted(found)
