"""Run the sides in turn, under the same conditions, and record the costs of each run."""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks import sides
from benchmarks.measure import CommandFailedError, Measurement, measure, summarize
from benchmarks.stores import BUCKET, Store
from pipeline.postgres.throwaway import ThrowawayCluster

SERVER_SETTINGS: Mapping[str, str] = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "16GB",
    "checkpoint_timeout": "30min",
    "autovacuum": "off",
}
"""The settings of a durable server. No checkpoint and no autovacuum starts at a random moment."""

LEVEL = 3
"""The compression level of all sides: the default of zstd, and of pgstow."""
SOURCE = "bench"
_CHECKOUT = Path(__file__).parents[1]
"""The folder whose pgstow is measured, even if another checkout shares this environment."""


@dataclass(slots=True)
class Result:
    """The costs of one side."""

    name: str
    runs: list[Measurement] = field(default_factory=list)
    """The costs of each run."""
    puts: int = 0
    """The number of PUT requests of the last run."""
    stored: int = 0
    """Bytes that the last run left in the store."""
    problem: str | None = None
    """Why there are no figures; None if there are."""

    @property
    def cost(self) -> Measurement | None:
        """The summary of all runs; None if the side did not run, or failed."""
        return None if self.problem or not self.runs else summarize(self.runs)


@dataclass(frozen=True, slots=True)
class Bench:
    """The server and the directory with which the sides run."""

    cluster: ThrowawayCluster
    directory: Path
    jobs: int
    """The number of parallel jobs of each side."""
    _numbers: Iterator[int] = field(default_factory=itertools.count, init=False)

    @property
    def local(self) -> Path:
        """The folder of the dumps that :meth:`prepare` makes."""
        return self.directory / "local"

    def prepare(self) -> None:
        """Make the dumps that the single stages and :data:`sides.FLOOR` read. They also warm the caches. Raise CommandFailedError."""
        self.local.mkdir()
        self.run(sides.PREPARE, {})

    def back_up(self, store: Store, commands: Mapping[str, str], repeat: int) -> list[Result]:
        """Run each of ``commands``, backups or single stages of backups, ``repeat`` times in turn. Return the results by side."""

        def run(name: str, result: Result, turn: int) -> None:
            before, remote = store.puts(), _remote(name, turn)
            result.runs.append(self.run(commands[name], {**store.environment, "REMOTE": remote}))
            result.puts, result.stored = store.puts() - before, store.stored(remote)

        return _alternate(commands, repeat, run)

    def restore(self, store: Store, repeat: int) -> list[Result]:
        """Run each restore ``repeat`` times in turn, into new databases. Return the results by side.

        Missing backups are made first. A side fails if its database differs in the number of rows, tables, indexes or constraints.
        """
        expected = count_content(self.cluster.conninfo(SOURCE))

        def run(name: str, result: Result, _turn: int) -> None:
            remote = _remote(sides.BACKUP_OF[name], 0)
            if name != sides.FLOOR and not store.stored(remote):
                self.run(sides.BACKUPS[sides.BACKUP_OF[name]], {**store.environment, "REMOTE": remote})
            target = f"restored_{next(self._numbers)}"
            settings = {
                **store.environment,
                "REMOTE": remote,
                "TARGET": self.cluster.conninfo(target),
                "TARGET_NAME": target,
            }
            result.runs.append(self.run(sides.RESTORES[name], settings))
            if name == sides.PROOF:
                return  # verify counted the rows, and dropped its database
            if (found := count_content(self.cluster.conninfo(target))) != expected:
                raise CommandFailedError(f"restored {found} instead of {expected}")

        return _alternate(sides.RESTORES, repeat, run)

    def run(self, command: str, settings: Mapping[str, str]) -> Measurement:
        """Run a line of bash with an empty ``STAGE``, and with further settings in its environment. Return its costs.

        Raises CommandFailedError.
        """
        stage = Path(tempfile.mkdtemp(prefix="stage-", dir=self.directory))
        environment = {
            "PATH": f"{self.cluster.bin_dir}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(_CHECKOUT),
            "TMPDIR": str(stage),
            "XDG_CACHE_HOME": str(stage),  # all caches are empty at first
            "STAGE": str(stage),
            "LOCAL": str(self.local),
            "BUCKET": BUCKET,
            "DATABASE": self.cluster.conninfo(SOURCE),
            "ADMIN": self.cluster.conninfo(),
            "JOBS": str(self.jobs),
            "LEVEL": str(LEVEL),
            **settings,
        }
        self._execute("CHECKPOINT")
        os.sync()
        try:
            return measure(command, environment=environment, watched=stage)
        finally:
            _empty(stage)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.cluster.conninfo(), autocommit=True) as connection:
            connection.execute(statement)


def _empty(directory: Path) -> None:
    """Free the disk space of the files, but delete no file.

    pg_dump was profiled on ext4, soon after the deletion of thousands of files. Over a tenth of the samples were in recently_deleted of
    fs/ext4/ialloc.c, where the kernel looks for an inode that was not deleted recently. A clean-up must not slow down the next side.
    Therefore files and restored databases are deleted only at the end. The effect on wall time was not isolated.
    """
    for path in directory.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def create_source(cluster: ThrowawayCluster) -> str:
    """Create the empty database that will be backed up. Return its conninfo."""
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {SOURCE}")
    return cluster.conninfo(SOURCE)


def _alternate(names: Mapping[str, str], repeat: int, run: Callable[[str, Result, int], None]) -> list[Result]:
    """Run each side once a turn. Each turn begins with another side. A side that fails runs in no later turn."""
    results = {name: Result(name) for name in names}
    order = list(results)
    for turn in range(repeat):
        first = turn % len(order)
        for name in (*order[first:], *order[:first]):
            result = results[name]
            if result.problem:
                continue
            try:
                run(name, result, turn)
            except CommandFailedError as exc:
                result.problem = str(exc)
                print(f"  {name}: {exc}", file=sys.stderr)
            else:
                print(f"  {name}: {result.runs[-1].wall:.1f} s", file=sys.stderr, flush=True)
    return list(results.values())


def _remote(name: str, turn: int) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name) + f"/{turn}"


def count_content(conninfo: str) -> tuple[int, ...]:
    """Return four numbers: the rows in all tables, the tables, the indexes, and the constraints."""
    with psycopg.connect(conninfo) as connection:

        def number(query: sql.SQL | sql.Composed) -> int:
            row = connection.execute(query).fetchone()
            return int(row[0]) if row else 0

        names = [name for (name,) in connection.execute("SELECT relname FROM pg_stat_user_tables")]
        rows = sum(number(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(name))) for name in names)
        indexes = number(sql.SQL("SELECT count(*) FROM pg_stat_user_indexes"))
        constraints = number(sql.SQL("SELECT count(*) FROM pg_constraint WHERE connamespace = 'public'::regnamespace"))
    return rows, len(names), indexes, constraints
