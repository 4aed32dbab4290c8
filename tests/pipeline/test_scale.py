"""The work of a restore and of a verification grows with the number of tables, schemas and large objects, and not with its square."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from support.calls import calls_by_function
from support.counting_store import CountingStore
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.archive.reader import open_archive
from pipeline.archive.selection import EntrySelection
from pipeline.catalog.attestation import Level
from pipeline.catalog.find import BackupSelector, find_stored
from pipeline.catalog.manifest import TOC_NAME
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.session import Session
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc_format import TocReader
from pipeline.restore.database import restore
from pipeline.restore.request import RestoreRequest
from pipeline.stages.download import ObjectReader
from pipeline.verify.backup import verify
from pipeline.verify.proof import ProofRequest
from pipeline.verify.request import VerifyRequest
from storage_backends.local import LocalBackend

FEW, MANY = 60, 120
"""The numbers of tables. The work for twice as many tables may be twice as much."""
LIMITS = Limits(jobs=2)
MODULES = (
    "pipeline/archive/",
    "pipeline/catalog/",
    "pipeline/postgres/load_order",
    "pipeline/postgres/patterns",
    "pipeline/postgres/server",
    "pipeline/postgres/session",
    "pipeline/postgres/toc",
    "pipeline/restore/content",
    "pipeline/restore/rows",
    "pipeline/restore/shares",
    "pipeline/restore/steps",
    "pipeline/stages/",
    "pipeline/verify/",
)
"""The modules whose calls are counted. Other modules look at the clock and at programs, as often as these take time."""

ENTRIES_READ = TocReader.raw_entry.__qualname__
FILES_READ = ObjectReader.read.__qualname__
QUERIES = Session.fetch.__qualname__


@dataclass(frozen=True)
class Backup:
    """A backup of many tables, each with an index and in a schema of its own, and of as many large objects."""

    store: CountingStore
    entries: int
    """The number of entries in its table of contents."""
    toc_keys: set[str]
    """The keys of the objects that hold its table of contents."""


@pytest.fixture(scope="module")
def backups(postgres: ThrowawayCluster, tmp_path_factory: pytest.TempPathFactory) -> list[Backup]:
    """Backups of few and of many tables."""
    made = []
    for tables in (FEW, MANY):
        name, folder = f"scale_{tables}", tmp_path_factory.mktemp("store")
        server, database = Database("postgres", postgres.conninfo()), Database(name, postgres.conninfo(name))
        server.execute(f"CREATE DATABASE {name}")
        for number in range(tables):
            table = f"s{number}.t{number}"
            database.execute(
                f"CREATE SCHEMA s{number}; CREATE TABLE {table} (i integer PRIMARY KEY); INSERT INTO {table} VALUES (1)"
            )
        database.execute(f"SELECT lo_from_bytea(0, 'x') FROM generate_series(1, {tables})")
        assert run_pgstow("backup", database.conninfo, "--to", folder, "--quiet").exit_code == 0
        server.execute(f"DROP DATABASE {name}")
        store = LocalBackend(folder)
        with Workers() as workers:
            archive = open_archive(store, find_stored(store, BackupSelector()).manifest, workers, LIMITS)
        segments = archive.files[TOC_NAME].segments
        toc_keys = {archive.manifest.objects[segment.object].key for segment in segments}
        made.append(Backup(CountingStore(store), len(archive.toc.entries), toc_keys))
    return made


@pytest.fixture
def target(make_database: DatabaseMaker) -> Callable[[], Conninfo]:
    """A function that makes a database."""
    return lambda: Conninfo.parse(make_database().conninfo)


def check_growth(work: Callable[[Backup], object], backups: list[Backup]) -> list[Counter[str]]:
    """Do the work for each backup. Check that twice as many tables need at most twice as many calls of each function.

    Return the calls.
    """
    for backup in backups:
        backup.store.requests.clear()
    few, many = (calls_by_function(partial(work, backup), MODULES) for backup in backups)
    # A search for one of the files may be short by chance, since the files' order depends on when pg_dump ended each of them.
    least = 2 * FEW
    assert not {name: (few[name], count) for name, count in many.items() if count > 2.2 * max(few[name], least) + 50}
    requests = [backup.store.count() for backup in backups]
    assert requests[1] <= requests[0] + 2
    return [few, many]


def test_restoring_everything(backups: list[Backup], target: Callable[[], Conninfo]) -> None:
    def work(backup: Backup) -> None:
        request = RestoreRequest(wanted=BackupSelector(), target=target(), limits=LIMITS)
        restore(request, backup.store, lambda _: None)

    for backup, calls in zip(backups, check_growth(work, backups), strict=True):
        # The table of contents is parsed once. Before that, pgstow looks for its encoding in the first entries. The entries that are restored
        # after the data are parsed once more, since they get new dump IDs.
        assert backup.entries <= calls[ENTRIES_READ] <= 1.5 * backup.entries + 5
        assert 0 < calls[QUERIES] < FEW / 2  # one query counts the rows of many tables
        gets = Counter(key for kind, key in backup.store.requests if kind == "GET")
        assert {key for key, times in gets.items() if times > 1} <= backup.toc_keys


def test_restoring_one_table(backups: list[Backup], target: Callable[[], Conninfo]) -> None:
    def work(backup: Backup) -> None:
        request = RestoreRequest(
            wanted=BackupSelector(), target=target(), choice=EntrySelection(tables=("s7.t7",)), limits=LIMITS
        )
        assert restore(request, backup.store, lambda _: None).tables == 1

    for backup, calls in zip(backups, check_growth(work, backups), strict=True):
        assert calls[ENTRIES_READ] <= backup.entries + 5
        assert calls[FILES_READ] <= 5  # the table's file and the table of contents


@pytest.mark.parametrize("level", [Level.OBJECTS, Level.BYTES, Level.ARCHIVE, Level.RESTORE])
def test_verifying(backups: list[Backup], postgres: ThrowawayCluster, level: Level, tmp_path: Path) -> None:
    proof = ProofRequest(scratch=Conninfo.parse(postgres.conninfo()), checksums=True)
    request = VerifyRequest(level=level, limits=replace(LIMITS, spool_parent=tmp_path), proof=proof, attest=False)

    def work(backup: Backup) -> None:
        found = verify(find_stored(backup.store, BackupSelector()), request, backup.store, lambda _: None)
        assert found.good

    for backup, calls in zip(backups, check_growth(work, backups), strict=True):
        assert calls[ENTRIES_READ] <= 1.5 * backup.entries + 5
