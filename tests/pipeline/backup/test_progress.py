"""Tests of the progress of a backup."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.calls import calls
from support.pgstow import PATIENCE

from pipeline.archive.destinations import Destinations
from pipeline.archive.writer import ArchiveWriter
from pipeline.backup.progress import BackupProgress
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.events import Event, Progress
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import DataEntry
from pipeline.stages.compress import Compressor
from pipeline.stages.spool import Spool
from pipeline.trust.seal import UNSEALED
from storage_backends.memory import MemoryBackend

KIB = 1024
PIECE = 64 * KIB


class Backup:
    """A backup of files that the test writes."""

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.folder = folder
        self.open: set[str] = set()
        self.events: list[Event] = []
        self.spool = Spool(folder, limit=256 * PIECE, piece_size=PIECE, open_files=lambda: set(self.open))
        stores = Destinations([MemoryBackend()], "shop", lambda _: None)
        self.writer = ArchiveWriter(stores, "data/", workers, Limits(), Compressor(), UNSEALED, self.events.append)
        self.progress = BackupProgress(workers)
        self.workers = workers

    def expect(self, server: Server, entries: Sequence[DataEntry]) -> None:
        self.progress.expect(entries, server)
        while self.progress.asking:
            assert self.workers.collect(timeout=PATIENCE)

    def write(self, name: str, size: int, *, closed: bool) -> None:
        (self.folder / name).write_bytes(bytes(size))
        self.open.add(name)
        self.spool.look()
        if closed:
            self.open.remove(name)
        self.spool.look()
        for file in self.spool.ready():
            piece = self.spool.read(file)
            self.progress.passed(file.name, file.taken, last=piece.last)
            self.writer.write(piece)

    def report(self) -> Progress:
        time.sleep(0.21)  # reports come five times a second
        self.progress.report(self.writer, [file.name for file in self.spool.growing])
        report = self.events[-1]
        assert isinstance(report, Progress)
        return report


@pytest.fixture
def backup(tmp_path: Path) -> Iterator[Backup]:
    (folder := tmp_path / "archive").mkdir()
    with Workers() as workers:
        yield Backup(folder, workers)


@pytest.fixture
def server(postgres: ThrowawayCluster) -> Iterator[Server]:
    with Server(Conninfo.parse(postgres.conninfo())) as server:
        yield server


def tables(server: Server, *names: str) -> list[DataEntry]:
    """Return entries for catalogs of the server, whose sizes the server knows. Their files are named after them."""
    oids = dict(server.fetch("SELECT relname, oid::bigint FROM pg_catalog.pg_class WHERE relkind = 'r'"))
    return [DataEntry(1, oids[name], "TABLE DATA", "pg_catalog", name, f"{name}.dat") for name in names]


def test_the_total_is_what_was_read_and_what_is_to_come(backup: Backup, server: Server) -> None:
    entries = tables(server, "pg_proc", "pg_class", "pg_type")
    sizes = server.estimated_sizes([entry.oid for entry in entries])
    proc, relation, type_ = (sizes[entry.oid] for entry in entries)
    assert proc > 2 * PIECE
    assert min(relation, type_) > 0

    backup.write("pg_type.dat", 100, closed=True)
    assert backup.report().total == 100, "the table of contents is not known yet"
    backup.expect(server, entries)
    report = backup.report()
    assert report.total == 100 + proc + relation, "the file that was read counts with its true size"
    backup.write("pg_proc.dat", PIECE, closed=False)
    report = backup.report()
    assert report.total == 100 + proc + relation
    assert report.current == ("pg_catalog.pg_proc",)
    backup.write("pg_class.dat", 7, closed=True)
    assert backup.report().total == 100 + proc + 7
    backup.write("pg_proc.dat", PIECE + 1, closed=True)
    report = backup.report()
    assert report.total == 100 + PIECE + 1 + 7
    assert report.current == ()


def test_a_file_that_is_larger_than_its_estimate(backup: Backup, server: Server) -> None:
    entries = tables(server, "pg_class")
    [size] = server.estimated_sizes([entries[0].oid]).values()
    pieces = size // PIECE + 2
    backup.expect(server, entries)
    backup.write("pg_class.dat", pieces * PIECE, closed=False)
    assert backup.report().total == pieces * PIECE


def test_the_cost_of_a_report_does_not_grow_with_the_number_of_files(backup: Backup, server: Server) -> None:
    few, many = Backup(backup.folder, backup.workers), backup
    entries = tables(server, "pg_class")
    few.expect(server, entries)
    many.expect(server, [*entries, *(DataEntry(n, n, "TABLE DATA", "s", "t", f"{n}.dat") for n in range(1000))])
    assert calls(lambda: many.progress.report(many.writer, [])) == calls(lambda: few.progress.report(few.writer, []))
