"""Run the sides in turn, under the same conditions, and record the costs of each run."""

import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from benchmarks import sides
from benchmarks.measure import CommandFailedError, Measurement, measure
from benchmarks.record import Result
from benchmarks.sides import Side
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

    def prepare(self) -> tuple[int, int]:
        """Make the dumps that the single stages and :data:`sides.FLOOR` read. They also warm the caches. Raise CommandFailedError.

        Return the bytes of all data as COPY text, and of the compressed dump.
        """
        self.local.mkdir()
        self.run(sides.PREPARE, {})
        dumped = sum(path.stat().st_size for path in (self.local / "dump").glob("*.dat"))
        return dumped, (self.local / "dump.zst").stat().st_size

    def back_up(self, store: Store, backups: Sequence[Side], repeat: int) -> list[Result]:
        """Run each backup or single stage of a backup ``repeat`` times in turn. Return the results by side."""

        def run(side: Side, result: Result, turn: int) -> None:
            settings = {**store.environment, "REMOTE": _remote(side, turn)}
            if side.before:
                self.run(side.before, settings)
            before = store.puts()
            result.runs.append(self.run(side.command, settings))
            result.puts, result.stored = store.puts() - before, store.stored(settings["REMOTE"])
            empty(store.objects / BUCKET / settings["REMOTE"])

        return alternate(backups, repeat, run, major=self.cluster.major)

    def restore(self, store: Store, restores: Sequence[Side], repeat: int) -> list[Result]:
        """Run each restore ``repeat`` times in turn, into new databases. Return the results by side.

        The backups are made first. A side fails if its database differs in the number of rows, tables, indexes or constraints.
        """
        expected = count_content(self.cluster.conninfo(SOURCE))

        def run(side: Side, result: Result, _turn: int) -> None:
            settings = {**store.environment, "REMOTE": self.backup_for(side, store)}
            with self.new_database() as target:
                result.runs.append(self.run(side.command, {**settings, **target}))
                if side != sides.PROOF:  # verify counted the rows, and dropped its database
                    self.compare(target["TARGET"], expected)

        return alternate(restores, repeat, run, major=self.cluster.major)

    def backup_for(self, side: Side, store: Store) -> str:
        """Return the place in the bucket of the backup that a side reads. If the backup isn't there, make it. Raise CommandFailedError."""
        if not side.reads:
            return ""
        settings = {**store.environment, "REMOTE": _remote(side.reads, 0)}
        if not store.stored(settings["REMOTE"]):
            for command in filter(None, (side.reads.before, side.reads.command)):
                self.run(command, settings)
        return settings["REMOTE"]

    @contextmanager
    def new_database(self) -> Iterator[Mapping[str, str]]:
        """Yield the settings for a command that creates a database. Afterwards, drop the database, since a disk has no room for dozens."""
        name = f"restored_{next(self._numbers)}"
        try:
            yield {"TARGET": self.cluster.conninfo(name), "TARGET_NAME": name}
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def compare(self, conninfo: str, expected: tuple[int, ...]) -> None:
        """Raise CommandFailedError if the content of a database isn't as :func:`count_content` returned it for the original."""
        if (found := count_content(conninfo)) != expected:
            raise CommandFailedError(f"restored {found} instead of {expected}")

    def run(self, command: str, settings: Mapping[str, str]) -> Measurement:
        """Run a line of bash with an empty ``STAGE``, and with further settings in its environment. Return its costs.

        Raises CommandFailedError.
        """
        stage = Path(tempfile.mkdtemp(prefix="stage-", dir=self.directory))
        self._execute("CHECKPOINT")
        os.sync()
        try:
            return measure(command, environment={**self.environment(stage), **settings}, watched=stage)
        finally:
            empty(stage)

    def environment(self, stage: Path) -> Mapping[str, str]:
        """Return the environment of a command whose local folder is ``stage``."""
        return {
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
        }

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.cluster.conninfo(), autocommit=True) as connection:
            connection.execute(statement.encode())


def empty(directory: Path) -> None:
    """Free the disk space of the files, but delete no file.

    pg_dump was profiled on ext4, soon after the deletion of thousands of files. Over a tenth of the samples were in recently_deleted of
    fs/ext4/ialloc.c, where the kernel looks for an inode that was not deleted recently. A clean-up must not slow down the next side.
    Therefore files are deleted only at the end. The effect on wall time was not isolated.
    """
    for path in directory.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def create_source(cluster: ThrowawayCluster) -> str:
    """Create the empty database that will be backed up. Return its conninfo."""
    with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {SOURCE}")
    return cluster.conninfo(SOURCE)


def alternate(
    order: Sequence[Side], repeat: int, run: Callable[[Side, Result, int], None], *, major: int
) -> list[Result]:
    """Run each side once a turn. Each turn begins with another side. A side that can't run is skipped. A side that fails runs no more.

    ``run`` takes a side, its result to extend, and the number of the turn from 0. ``major`` is the major version of pg_dump.
    """
    results = {side: Result(side.name) for side in order}
    for side, result in results.items():
        if reason := side.why_not(major):
            result.problem = f"skipped: {reason}"
            say(f"  {side.name}: {result.problem}")
    for turn in range(repeat):
        first = turn % len(order)
        for side in (*order[first:], *order[:first]):
            result = results[side]
            if result.problem:
                continue
            try:
                run(side, result, turn)
            except CommandFailedError as exc:
                result.problem = f"failed: {exc.summary}"
                say(f"  {side.name}: failed: {exc}")
            else:
                say(f"  {side.name}: {result.runs[-1].wall:.2f} s")
    return list(results.values())


def say(text: str) -> None:
    """Report the progress."""
    print(text, file=sys.stderr, flush=True)


def _remote(side: Side, turn: int) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in side.name) + f"/{turn}"


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
