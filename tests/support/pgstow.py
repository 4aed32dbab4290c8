"""The ``pgstow`` command as a person runs it, and what must hold after it, however it ended."""

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
from pathlib import Path

from support.fork_server import run_forked
from support.postgres_fixtures import Database

from storage_backends import open_backend

PGSTOW = Path(sys.executable).with_name("pgstow")
PATIENCE = 120.0
"""Seconds after which something that should have happened never will: long, so that no busy machine decides a test."""

_OF_PYTHON = re.compile(r"LANG|LC_|PYTHON|LD_|MALLOC_")
"""Variables that take effect when a process starts."""

ANOTHER_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")
"""A command that runs another one where /proc shows other processes than its own."""
NO_PROC = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh")
"""The same where /proc is empty."""


@dataclass(frozen=True)
class Result:
    """How a run of ``pgstow`` ended. A signal that killed it is a negative exit code."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def stderr_lines(self) -> list[str]:
        """Standard error without empty lines."""
        return [line for line in self.stderr.splitlines() if line.strip()]


def run_pgstow(
    *arguments: object, timeout: float = 120.0, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
) -> Result:
    """Run it to its end. ``env`` is set over this process's environment; ``within`` is a command that runs the command after it.

    The run is forked, unless Python itself reads ``env`` when it starts.
    """
    if within or any(_OF_PYTHON.match(name) for name in env or {}):
        with start_pgstow(*arguments, env=env, within=within) as process:
            return finish(process, timeout)
    code, *outputs = run_forked([str(PGSTOW), *map(str, arguments)], {**os.environ, **(env or {})}, timeout)
    return Result(code, *(output.decode().replace("\r\n", "\n") for output in outputs))


@contextmanager
def start_pgstow(
    *arguments: object, env: Mapping[str, str] | None = None, within: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """Run it beside the test; what still runs at the block's end is killed."""
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


def finish(process: subprocess.Popen[str], timeout: float = 120.0) -> Result:
    """Wait for the end of what :func:`start_pgstow` started."""
    stdout, stderr = process.communicate(timeout=timeout)
    return Result(process.returncode, stdout, stderr)


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Ask again and again until it is so."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(0.01)


def assert_one_sentence(result: Result, exit_code: int, matching: str = "") -> str:
    """It failed as documented: with this code, and one sentence on standard error that matches. Returns the sentence.

    For runs with ``--quiet`` or ``--json``, which say nothing else there.
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
    """No program, no working folder, no session in the database, and in the store no manifest of a backup that isn't whole.

    Waits a little for the guard, which cleans up after a pgstow that was killed.
    """
    wait_until(lambda: not processes_naming(spool_dir), "no program is left")
    wait_until(lambda: not list(spool_dir.iterdir()), f"{spool_dir} is empty")
    wait_until(lambda: not sessions(database), "its sessions are gone")
    if store_url is not None:
        committed_backups(store_url)


def sessions(database: Database) -> list[str]:
    """The application names of pgstow's sessions, and its programs', on the server in that database."""
    rows = database.fetch(
        "SELECT application_name FROM pg_stat_activity "
        "WHERE datname = current_database() AND (application_name = 'pgstow' OR application_name LIKE 'pgstow %')"
    )
    return [name for (name,) in rows]


def committed_backups(store_url: str | Path) -> list[str]:
    """The IDs of the backups whose manifest is in the store. Fails unless every object of each is there, with its SHA-256."""
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
    """Bytes of the disk that the files below a folder have, which may change meanwhile."""
    used = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                used += Path(place, name).lstat().st_blocks * 512
    return used


def processes_naming(text: str | Path) -> list[list[str]]:
    """The command lines of this machine's running processes that have ``text`` in them, zombies excepted."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if any(str(text) in argument for argument in command):
                found.append(command)
    return found
