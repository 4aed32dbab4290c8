import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
from support.pgstow import wait_until

from pipeline.catalog.manifest import File, Segment, StoredObject
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged
from pipeline.stages.compress import Compressor
from pipeline.stages.download import ObjectReader, check_content, download
from pipeline.trust.seal import UNSEALED
from storage_backends import TransientStorageError
from storage_backends.memory import MemoryBackend

KIB = 1024
TIGHT = Limits(jobs=1, transfers=4, memory=128 * KIB, object_size=64 * KIB)
"""Limits with memory for only two objects."""


class Body(bytes):
    """An object's bytes. The class counts its living instances."""

    alive: ClassVar[set[int]] = set()
    most: ClassVar[int] = 0

    def __new__(cls, data: bytes) -> "Body":
        made = super().__new__(cls, data)
        cls.alive.add(id(made))
        cls.most = max(cls.most, len(cls.alive))
        return made

    def __del__(self) -> None:
        Body.alive.discard(id(self))


class Store(MemoryBackend):
    """A store that counts fetches, and lets a test interfere."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: Counter[str] = Counter()
        self.before: Callable[[str], None] = lambda _: None
        self.first_two: threading.Barrier | None = None
        """Holds back the first two bodies until both have been fetched."""

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        self.gets[key] += 1
        self.before(key)
        body = Body(super().get(key, offset=offset, length=length, at_most=at_most))
        if self.first_two and self.gets.total() <= 2:
            self.first_two.wait(60)
        return body


class Backup:
    """Objects, and the files in them."""

    def __init__(self) -> None:
        self.store = Store()
        self.objects: list[StoredObject] = []
        self.contents: dict[str, bytes] = {}
        self.files: list[File] = []

    def add_object(self, *parts: bytes) -> list[Segment]:
        """Add an object with a frame for each part. Return the frames' segments."""
        frames = [Compressor().frame(part) for part in parts]
        body = b"".join(frames)
        digest = hashlib.sha256(body)
        key = f"data/{len(self.objects)}.zst"
        self.store.put(key, body, sha256=digest.digest())
        self.objects.append(
            StoredObject(key=key, size=len(body), sha256=digest.hexdigest(), checksum=None, version=None)
        )
        offsets = [sum(map(len, frames[:n])) for n in range(len(frames))]
        number = len(self.objects) - 1
        return [
            Segment(object=number, offset=offset, length=len(frame), size=len(part))
            for offset, frame, part in zip(offsets, frames, parts, strict=True)
        ]

    def add_file(self, path: str, content: bytes, segments: list[Segment]) -> File:
        checksum = hashlib.sha256(content).hexdigest()
        file = File(path=path, kind="large_object", size=len(content), checksum=checksum, segments=segments)
        self.files.append(file)
        self.contents[path] = content
        return file

    def reader(self, workers: Workers, limits: Limits = TIGHT) -> ObjectReader:
        return ObjectReader(self.store, self.objects, self.files, workers, limits, UNSEALED)


def noise(seed: object, size: int = 60 * KIB) -> bytes:
    """Return bytes that don't compress, always the same for a seed."""
    digests = (hashlib.sha256(f"{seed} {n}".encode()).digest() for n in range(size // 32))
    return b"".join(digests)


@pytest.fixture
def backup() -> Backup:
    Body.alive.clear()
    Body.most = 0
    return Backup()


def large_files(backup: Backup, files: int, slices: int) -> None:
    for number in range(files):
        parts = [noise((number, n)) for n in range(slices)]
        segments = [segment for part in parts for segment in backup.add_object(part)]
        backup.add_file(f"{number}.dat", b"".join(parts), segments)


def read_all_at_once(reader: ObjectReader, files: list[File]) -> dict[str, bytes]:
    """Read each file in its own thread, and return the contents by path. Fails if a thread doesn't end."""
    contents: dict[str, bytes] = {}
    threads = [
        threading.Thread(
            target=lambda file=file: contents.update({file.path: b"".join(reader.read(file))}), daemon=True
        )
        for file in files
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "deadlock"
    return contents


def test_all_readers_finish_even_if_memory_has_no_room_for_all_objects(backup: Backup) -> None:
    large_files(backup, files=9, slices=4)
    backup.store.first_two = threading.Barrier(2)
    with Workers() as workers:
        reader = backup.reader(workers)
        contents = read_all_at_once(reader, backup.files)
    assert contents == backup.contents
    assert Body.most == 2


def test_memory_is_bounded_even_if_a_reader_is_far_ahead(backup: Backup) -> None:
    large_files(backup, files=3, slices=6)
    backup.store.first_two = threading.Barrier(2)
    with Workers() as workers:
        reader = backup.reader(workers)
        for file in backup.files:
            reader.fetch_ahead(segment.object for segment in file.segments)
        contents = read_all_at_once(reader, backup.files)
    assert contents == backup.contents
    assert Body.most == 2


def test_no_object_stays_in_memory_after_all_files_are_read(backup: Backup) -> None:
    large_files(backup, files=2, slices=2)
    with Workers() as workers:
        reader = backup.reader(workers, Limits(memory=1024 * KIB, object_size=64 * KIB))
        for file in backup.files:
            assert b"".join(reader.read(file)) == backup.contents[file.path]
        wait_until(lambda: not Body.alive, "no body is held")


def test_a_pack_is_fetched_once_for_all_its_files(backup: Backup) -> None:
    parts = [noise(n, KIB) for n in range(40)]
    for number, segment in enumerate(backup.add_object(*parts)):
        backup.add_file(f"{number}.dat", parts[number], [segment])
    with Workers() as workers:
        reader = backup.reader(workers)
        assert read_all_at_once(reader, backup.files) == backup.contents
        assert reader.fetched == backup.objects[0].size
    assert backup.store.gets == {"data/0.zst": 1}


def test_a_dropped_object_is_fetched_again(backup: Backup) -> None:
    """Memory has room for two objects. The test reads two files from each of three objects, in turns."""
    for number in range(3):
        parts = [noise((number, "first"), 30 * KIB), noise((number, "second"), 30 * KIB)]
        for half, segment in enumerate(backup.add_object(*parts)):
            backup.add_file(f"{number}-{half}.dat", parts[half], [segment])
    firsts, seconds = backup.files[::2], backup.files[1::2]
    with Workers() as workers:
        reader = backup.reader(workers)
        contents = {file.path: b"".join(reader.read(file)) for file in [*firsts, *seconds]}
    assert contents == backup.contents
    assert max(backup.store.gets.values()) == 2
    assert Body.most == 2


def test_reading_an_empty_file_fetches_no_object(backup: Backup) -> None:
    backup.add_file("0.dat", b"", [])
    with Workers() as workers:
        assert b"".join(backup.reader(workers).read(backup.files[0])) == b""
    assert not backup.store.gets


def test_a_damaged_object_fails_every_file_in_it_and_is_fetched_once(backup: Backup) -> None:
    large_files(backup, files=1, slices=2)
    parts = [noise(n, KIB) for n in range(5)]
    for number, segment in enumerate(backup.add_object(*parts)):
        backup.add_file(f"{number + 1}.dat", parts[number], [segment])
    pack = backup.objects[-1]
    damaged = bytearray(backup.store.get(pack.key))
    damaged[7] ^= 1
    backup.store.delete([pack.key])
    backup.store.put(pack.key, bytes(damaged), sha256=hashlib.sha256(damaged).digest())
    backup.store.gets.clear()
    with Workers() as workers:
        reader = backup.reader(workers)
        for file in backup.files[1:]:
            with pytest.raises(BackupDamaged, match=r"data/2\.zst is not what was stored"):
                b"".join(reader.read(file))
        assert b"".join(reader.read(backup.files[0])) == backup.contents["0.dat"]
        assert reader.damaged.keys() == {2}
        assert reader.checked == {0, 1}
    assert backup.store.gets[pack.key] == 1


def test_the_reader_repeats_a_failed_fetch_ahead(backup: Backup) -> None:
    large_files(backup, files=1, slices=1)
    failed = threading.Event()

    def fail_once(_key: str) -> None:
        if not failed.is_set():
            failed.set()
            raise TransientStorageError("not now")

    backup.store.before = fail_once
    with Workers() as workers:
        reader = backup.reader(workers)
        reader.fetch_ahead([0])
        wait_until(failed.is_set, "it was fetched ahead")
        assert b"".join(reader.read(backup.files[0])) == backup.contents["0.dat"]


def test_a_failed_fetch_does_not_block_other_readers(backup: Backup) -> None:
    large_files(backup, files=4, slices=3)

    def fail(key: str) -> None:
        if key == "data/1.zst":
            raise TransientStorageError("gone for good")

    backup.store.before = fail
    with Workers() as workers:
        reader = backup.reader(workers)
        with pytest.raises(TransientStorageError):
            b"".join(reader.read(backup.files[0]))
        contents = read_all_at_once(reader, backup.files[1:])
    assert contents == {path: content for path, content in backup.contents.items() if path != "0.dat"}


def test_a_missing_or_changed_object_is_damage(backup: Backup) -> None:
    backup.add_object(noise(0))
    [stored] = backup.objects
    assert len(download(backup.store, stored, [])) == stored.size
    for change, reason in (
        ({"size": stored.size + 1}, "bytes where the manifest says"),
        ({"sha256": "0" * 64}, "its SHA-256 differs"),
        ({"key": "data/none"}, "is missing from memory:"),
    ):
        with pytest.raises(BackupDamaged, match=reason):
            download(backup.store, replace(stored, **change), [])


def test_the_whole_content_of_a_file_is_checked() -> None:
    data = b"1\n2\n\\.\n\n\n"
    file = File(
        path="1.dat", kind="table", size=len(data), checksum=hashlib.sha256(data).hexdigest(), segments=[], rows=2
    )
    assert b"".join(check_content(file, [data[:3], data[3:]], hashlib.sha256())) == data
    for wrong in ({"rows": 3}, {"size": 10}, {"checksum": "0" * 64}):
        with pytest.raises(BackupDamaged, match=r"1\.dat"):
            list(check_content(replace(file, **wrong), [data], hashlib.sha256()))


def test_concurrent_fetches_stay_within_the_limit(backup: Backup) -> None:
    """The limit covers fetches ahead and the fetches of readers."""
    large_files(backup, files=12, slices=1)
    under_way, most, lock = 0, 0, threading.Lock()

    def count(change: int) -> None:
        nonlocal under_way, most
        with lock:
            under_way += change
            most = max(most, under_way)

    class Slow(Store):
        def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
            count(1)
            time.sleep(0.01)
            try:
                return super().get(key, offset=offset, length=length, at_most=at_most)
            finally:
                count(-1)

    slow = Slow()
    for key in [info.key for info in backup.store.list()]:
        body = backup.store.get(key)
        slow.put(key, body, sha256=hashlib.sha256(body).digest())
    backup.store = slow
    with Workers() as workers:
        reader = backup.reader(workers, Limits(jobs=12, transfers=2, memory=64 * 64 * KIB, object_size=64 * KIB))
        reading = workers.pool(12, "read")
        for file in backup.files:
            reading.submit(lambda file=file: b"".join(reader.read(file)), lambda _: None)
        wait_until(lambda: workers.collect() or not reading.pending, "all is read")
    assert most == 2
