"""Tests of the archive's writer: objects are whole and in order, memory stays within its limit, and store errors are raised at once."""

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.calls import calls
from support.pgstow import PATIENCE

from pipeline.archive.destinations import Destination, Destinations
from pipeline.archive.writer import ArchivedFile, ArchiveWriter
from pipeline.catalog.manifest import StoredObject
from pipeline.concurrency import Workers
from pipeline.config import MIB, Level, Limits
from pipeline.events import Event, Notice, Notify, Progress
from pipeline.stages.compress import Compressed, Compressor
from pipeline.stages.pack import unpack
from pipeline.stages.spool import Piece
from pipeline.trust.seal import UNSEALED, Epoch, Seal
from storage_backends import AccessDenied, Body, ObjectInfo
from storage_backends.memory import MemoryBackend

KIB = 1024
LIMITS = Limits(transfers=3, memory=512 * KIB, object_size=64 * KIB)
PIECE = LIMITS.piece_size
EPOCH = Epoch.new()


class SlowStore(MemoryBackend):
    """A store that accepts a body only when the test allows it. It counts the waiting bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.arrived = threading.Semaphore(0)

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        self.arrived.release()
        assert self.let.wait(PATIENCE)
        return super().put(key, body, sha256=sha256)


class DenyingStore(MemoryBackend):
    """A store that stalls at its second put, and refuses all puts after the third."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0
        self.over = threading.Event()

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        self.puts += 1
        if self.puts == 2:
            self.over.wait(PATIENCE)
        if self.puts > 3:
            raise AccessDenied(f"{key}: not allowed")
        return super().put(key, body, sha256=sha256)


class UnevenCompressor(Compressor):
    """Holds back the very first piece until another piece is compressed, so that frames come back out of order."""

    def __init__(self) -> None:
        super().__init__()
        self._first = threading.Lock()
        self._another = threading.Event()

    def frame(self, data: bytes) -> bytes:
        if self._first.acquire(blocking=False):
            self._another.wait(PATIENCE)
        else:
            self._another.set()
        return super().frame(data)


class WaitingCompressor(Compressor):
    """Compresses only after the test allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def frame(self, data: bytes) -> bytes:
        assert self.let.wait(PATIENCE)
        return super().frame(data)


@contextmanager
def writing(
    destinations: Destinations,
    limits: Limits = LIMITS,
    compressor: Compressor | None = None,
    notify: Notify = lambda _: None,
    seal: Seal = UNSEALED,
) -> Iterator[tuple[ArchiveWriter, Workers]]:
    with Workers() as workers:
        yield ArchiveWriter(destinations, "data/", workers, limits, compressor or Compressor(), seal, notify), workers


def collect_all(workers: Workers) -> None:
    """Collect results until no more results come."""
    while workers.collect(timeout=0.5):
        pass


def to(*stores: MemoryBackend) -> Destinations:
    return Destinations(stores, "shop", lambda event: None)


def objects_of(destination: Destination) -> list[StoredObject]:
    assert sorted(destination.objects) == list(range(len(destination.objects)))
    return [destination.objects[number] for number in sorted(destination.objects)]


def pieces_of(name: str, data: bytes) -> Iterator[Piece]:
    starts = range(0, max(1, len(data)), PIECE)
    for index, start in enumerate(starts):
        yield Piece(name, index, data[start : start + PIECE], start == starts[-1])


def write(writer: ArchiveWriter, workers: Workers, piece: Piece) -> None:
    while not writer.has_room(len(piece.data)):
        workers.collect(timeout=0.01)
    writer.write(piece)


def write_noise(destinations: Destinations) -> None:
    with writing(destinations) as (writer, workers):
        for piece in pieces_of("1.dat", noise(1000 * KIB)):
            write(writer, workers, piece)
        writer.finish()


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def read_back(store: MemoryBackend, file: ArchivedFile, objects: list[StoredObject], seal: Seal) -> bytes:
    opened = [seal.open(store.get(found.key), found.key) for found in objects]
    return b"".join(part for segment in file.segments for part in unpack(opened[segment.object], segment, file.path))


def assert_stored(
    store: MemoryBackend,
    files: dict[str, bytes],
    archived: list[ArchivedFile],
    objects: list[StoredObject],
    seal: Seal = UNSEALED,
) -> None:
    assert {file.path: read_back(store, file, objects, seal) for file in archived} == files
    for file in archived:
        data = files[file.path]
        assert (file.size, file.lines, file.tail) == (len(data), data.count(b"\n"), data[-6:])
        assert file.checksum == seal.digest(data).hexdigest()
    stored = {info.key: store.get(info.key) for info in store.list()}
    assert {found.key for found in objects} == set(stored)
    for found in objects:
        assert found.key.endswith(f".zst{seal.suffix}")
        assert found.size == len(stored[found.key]) <= LIMITS.object_size + (KIB if seal.suffix else 0)
        assert found.sha256 == hashlib.sha256(stored[found.key]).hexdigest()


@settings(max_examples=30)
@given(st.data())
def test_files_are_stored_whole_in_any_order_of_pieces(data: st.DataObject) -> None:
    sizes = st.sampled_from([0, 1, 4, 5, 6, 1000, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE, 12 * PIECE + 7])
    files = {f"{number}.dat": noise(size) for number, size in enumerate(data.draw(st.lists(sizes, max_size=12)))}
    under_way = [pieces_of(name, content) for name, content in files.items()]
    stores, read = [MemoryBackend() for _ in range(data.draw(st.integers(1, 3)))], 0
    destinations, seal = to(*stores), data.draw(st.sampled_from([UNSEALED, EPOCH]))
    with writing(destinations, seal=seal) as (writer, workers):
        while under_way:
            pieces = under_way[data.draw(st.integers(0, len(under_way) - 1))]
            if (piece := next(pieces, None)) is None:
                under_way.remove(pieces)
                continue
            write(writer, workers, piece)
            read += len(piece.data)
            assert writer.read == read
            assert writer.done <= read
            workers.collect()
        archived = list(writer.finish())
        made = [objects_of(destination) for destination in destinations.open]
        assert writer.done == read
        assert writer.stored == sum(found.size for objects in made for found in objects)
    for store, objects in zip(stores, made, strict=True):
        assert_stored(store, files, archived, objects, seal)


def test_frames_that_are_compressed_out_of_order_are_stored_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "threads", 2)  # regardless of this machine's number of processors
    files = {"1.dat": noise(10 * PIECE)}
    store = MemoryBackend()
    limits = Limits(transfers=1, memory=16384 * KIB, object_size=64 * KIB)
    destinations = to(store)
    with writing(destinations, limits, UnevenCompressor()) as (writer, _):
        for piece in pieces_of("1.dat", files["1.dat"]):
            writer.write(piece)
        archived = list(writer.finish())
    assert_stored(store, files, archived, objects_of(destinations.open[0]))


@pytest.mark.parametrize("files_at_once", [1, 20])
@pytest.mark.parametrize(("objects", "seal"), [(2, UNSEALED), (8, UNSEALED), (3, EPOCH), (8, EPOCH)])
def test_memory_stays_under_its_limit_while_the_store_stalls(files_at_once: int, objects: int, seal: Seal) -> None:
    limits = Limits(transfers=8, memory=objects * 64 * KIB, object_size=64 * KIB)
    store = SlowStore()
    files = {f"{number}.dat": noise(4096 * KIB // files_at_once + number) for number in range(files_at_once)}
    under_way = [pieces_of(name, content) for name, content in files.items()]
    pieces = [piece for turn in zip(*under_way, strict=True) for piece in turn]
    written = 0
    others = [SlowStore() for _ in range(2)]
    destinations = to(store, *others)
    with writing(destinations, limits, seal=seal) as (writer, workers):
        while written < len(pieces):
            if writer.has_room(len(pieces[written].data)):
                writer.write(pieces[written])
                written += 1
                room = limits.memory - seal.copies * limits.object_size
                assert writer.read <= room, "nothing is stored yet, so all bytes that were read are in memory"
            elif not workers.collect(timeout=0.5):
                break
        assert written < len(pieces)
        assert store.arrived.acquire(timeout=PATIENCE), "the store has a put to answer"
        assert writer.stored == 0

        store.let.set()
        collect_all(workers)
        assert writer.stored > 0
        assert not writer.has_room(limits.memory // 2), "objects that the other stores don't accept stay in memory"
        for other in others:
            other.let.set()
        for piece in pieces[written:]:
            write(writer, workers, piece)
        archived = list(writer.finish())
    assert_stored(store, files, archived, objects_of(destinations.open[0]), seal)


def test_objects_are_sealed_once_for_all_stores() -> None:
    stores = [MemoryBackend() for _ in range(3)]
    destinations = to(*stores)
    with writing(destinations, seal=EPOCH) as (writer, workers):
        for piece in pieces_of("1.dat", noise(20 * PIECE)):
            write(writer, workers, piece)
        writer.finish()
    first, *others = ({info.key: store.get(info.key) for info in store.list()} for store in stores)
    assert first
    assert all(other == first for other in others)


def test_small_files_are_not_handed_to_other_threads() -> None:
    """Handing over a file of a few hundred bytes takes longer than its compression."""
    destinations = to(MemoryBackend())
    files = {f"{number}.dat": noise(number) for number in range(30)}
    with writing(destinations) as (writer, workers):
        for name, data in files.items():
            for piece in pieces_of(name, data):
                writer.write(piece)
        assert not workers.collect(timeout=0.1), "no thread had work"
        archived = list(writer.completed())
        assert writer.completed() == writer.finish() == [], "the writer forgets the files"
    [destination] = destinations.open
    assert isinstance(destination.store, MemoryBackend)
    assert_stored(destination.store, files, archived, objects_of(destination))


def test_the_cost_of_small_files_grows_with_their_number() -> None:
    def cost(number: int) -> int:
        with writing(to(MemoryBackend())) as (writer, _):
            pieces = [Piece(f"{name}.dat", 0, b"x", last=True) for name in range(number)]
            found = calls(lambda: [writer.write(piece) for piece in pieces if writer.has_room(1)])
            return found + calls(lambda: list(writer.finish()))

    few, many = cost(100), cost(1000)
    assert many <= 10 * few
    assert many <= 100 * 1000


def test_high_levels_compress_small_files_in_other_threads() -> None:
    """At level 19, 16 KiB take some milliseconds. The thread that reads the dump can't make all frames."""
    destinations = to(MemoryBackend())
    files = {f"{number}.dat": noise(5000) for number in range(5)}
    with writing(destinations, compressor=Compressor(19)) as (writer, workers):
        for name, data in files.items():
            for piece in pieces_of(name, data):
                write(writer, workers, piece)
        assert workers.collect(timeout=PATIENCE)
        archived = list(writer.finish())
    [destination] = destinations.open
    assert isinstance(destination.store, MemoryBackend)
    assert_stored(destination.store, files, archived, objects_of(destination))


class IdleCores(Compressor):
    """A compressor whose threads always get a whole core, however busy this machine is."""

    def compress(self, data: bytes, level: int) -> Compressed:
        done = super().compress(data, level)
        return replace(done, cpu_seconds=done.seconds)


def test_auto_compresses_harder_while_a_store_is_slow() -> None:
    slow, compressor = SlowStore(), IdleCores("auto", memory=64 * 1024 * KIB)
    destinations = to(MemoryBackend(), slow)
    words = [noise(3 + number).hex() for number in range(20)]
    text = " ".join(random.Random(0).choices(words, k=4000)).encode()[:PIECE]
    files = {f"{number}.dat": noise(10 * KIB + number) for number in range(2)}
    files |= {"before.dat": text, "after.dat": text}
    with writing(destinations, compressor=compressor) as (writer, workers):
        for name, data in files.items():
            if name == "after.dat":
                assert compressor.used == {3}
                assert slow.arrived.acquire(timeout=PATIENCE)
                time.sleep(0.2)  # the chooser expects that the upload lasts at least as long again
            for piece in pieces_of(name, data):
                writer.write(piece)
            workers.collect(timeout=PATIENCE)
        slow.let.set()
        archived = list(writer.finish())
    assert compressor.used == {3, 11}
    assert_stored(slow, files, archived, objects_of(destinations.open[1]))


@pytest.mark.parametrize("level", ["auto", 3])
def test_auto_waits_for_the_first_upload(level: Level) -> None:
    slow, compressor = SlowStore(), Compressor(level, memory=64 * 1024 * KIB)
    with writing(to(slow), compressor=compressor) as (writer, _):
        for number in range(10):
            for piece in pieces_of(f"{number}.dat", noise(10 * KIB + number)):
                writer.write(piece)
        assert writer.has_room(KIB) is (level == 3)
        slow.let.set()
        writer.finish()


def test_auto_does_not_wait_for_a_store_that_was_dropped() -> None:
    """The store couldn't be opened, so no object was ever sent to it."""

    class SlowAfterTheFirst(SlowStore):
        def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
            return (
                MemoryBackend.put(self, key, body, sha256=sha256)
                if "0.dat" in key
                else super().put(key, body, sha256=sha256)
            )

    slow = SlowAfterTheFirst()
    destinations = to(MemoryBackend(), slow)
    compressor = Compressor("auto", memory=64 * 1024 * KIB)
    with writing(destinations, compressor=compressor) as (writer, workers):
        destinations.drop(destinations.open[0], AccessDenied("not allowed"))
        for number in range(6):
            writer.write(Piece(f"{number}.dat", 0, noise(10 * KIB + number), last=True))
            while not number and not writer.done:
                workers.collect(timeout=PATIENCE)
        assert writer.has_room(KIB)
        slow.let.set()
        writer.finish()


@pytest.mark.parametrize("seal", [UNSEALED, EPOCH])
@pytest.mark.parametrize("object_size", [64 * KIB, 8 * MIB, 32 * MIB])
def test_there_is_room_while_all_others_hold_their_share_of_memory(object_size: int, seal: Seal) -> None:
    class Full(Compressor):
        @property
        def held(self) -> int:
            return quarter

    limits = Limits(memory=(2 + seal.copies) * object_size, object_size=object_size)
    quarter = limits.quarter(seal.copies)
    with writing(to(MemoryBackend()), limits, Full("auto", memory=quarter), seal=seal) as (writer, _):
        writer.reserve(quarter)  # as the ranges of large tables do
        assert writer.has_room(limits.piece_size)


def test_progress_counts_only_bytes_that_are_in_every_store() -> None:
    """Bytes that only came from pg_dump don't count, because pg_dump may end long before a slow upload."""
    events: list[Event] = []
    slow, data = SlowStore(), noise(4 * PIECE)
    with writing(to(MemoryBackend(), slow), notify=events.append) as (writer, workers):
        for piece in pieces_of("1.dat", data):
            writer.write(piece)
        collect_all(workers)
        writer.report(to_come=PIECE)
        assert events == [Progress(0, len(data) + PIECE, writer.stored)]
        assert writer.stored > 0, "one of the two stores is fast"
        slow.let.set()
        writer.finish()
    assert events[-1] == Progress(len(data), len(data), writer.stored)


def test_the_queue_of_uncompressed_pieces_is_bounded() -> None:
    compressor = WaitingCompressor()
    destinations = to(MemoryBackend())
    pieces = list(pieces_of("1.dat", bytes(20_000 * KIB)))
    with writing(destinations, compressor=compressor) as (writer, workers):
        while writer.has_room(PIECE):
            writer.write(pieces.pop(0))
        assert 0 < writer.read <= LIMITS.memory // 2
        compressor.let.set()
        for piece in pieces:
            write(writer, workers, piece)
        writer.finish()
    assert len(destinations.open[0].objects) <= 2


def test_the_error_of_the_only_store_is_raised() -> None:
    store = DenyingStore()
    with pytest.raises(AccessDenied, match=r"data/1\.dat\.\d+\.zst: not allowed"):
        write_noise(to(store))
    assert len(list(store.list())) <= 3
    store.over.set()


def test_other_stores_get_the_archive_if_one_store_fails() -> None:
    denying, good = DenyingStore(), MemoryBackend()
    denying.over.set()
    told: list[Event] = []
    destinations = Destinations([denying, good], "shop", told.append)
    refused, other = destinations.open
    files = {"1.dat": noise(1000 * KIB)}
    with writing(destinations) as (writer, workers):
        for piece in pieces_of("1.dat", files["1.dat"]):
            write(writer, workers, piece)
        archived = list(writer.finish())
    assert destinations.open == [other]
    assert isinstance(refused.outcome, AccessDenied)
    assert [type(event) for event in told] == [Notice], "one notice, even if many objects fail"
    assert_stored(good, files, archived, objects_of(other))


def test_the_writer_does_not_wait_for_a_failed_store() -> None:
    class Stalling(MemoryBackend):
        first, over = threading.Event(), threading.Event()
        puts = ended = 0

        def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
            self.puts += 1
            (self.first if ".00000." in key else self.over).wait(PATIENCE)
            self.ended += 1
            raise AccessDenied(f"{key}: not allowed")

    stalling, good = Stalling(), MemoryBackend()
    destinations = to(stalling, good)
    files = {"1.dat": noise(300 * KIB)}
    with writing(destinations, Limits(transfers=3, memory=4096 * KIB, object_size=64 * KIB)) as (writer, workers):
        for piece in pieces_of("1.dat", files["1.dat"]):
            write(writer, workers, piece)
        collect_all(workers)
        stalling.first.set()
        archived = list(writer.finish())
        assert stalling.ended == 1, "the store's other puts still stall"
        stalling.over.set()
        collect_all(workers)
    [other] = destinations.open
    assert_stored(good, files, archived, objects_of(other))
    assert stalling.puts <= 3 + 1 < len(other.objects), "waiting uploads are no longer tried"


def test_the_error_of_the_last_store_is_raised_if_all_fail() -> None:
    first, second = DenyingStore(), DenyingStore()
    first.over.set()
    second.over.set()
    destinations = to(first, second)
    with pytest.raises(AccessDenied, match="not allowed"):
        write_noise(destinations)
    assert destinations.open == []
