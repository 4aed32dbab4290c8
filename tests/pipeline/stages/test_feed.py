import hashlib
import os
import re
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO, FileIO
from pathlib import Path
from typing import BinaryIO

import pytest
from support.pgstow import PATIENCE, wait_until
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from demo import compare
from pipeline.archive.reader import Archive, open_archive
from pipeline.catalog.manifest import TOC_NAME, File
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.restore.steps import whole
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed, Stream
from pipeline.trust.seal import UNSEALED, Keys
from storage_backends import StorageBackend
from storage_backends.local import LocalBackend


@dataclass
class Feeding:
    """A feed of a single stream, and its source."""

    archive: Archive
    stream: Stream
    reader: ObjectReader
    feed: Feed
    workers: Workers

    def collect_until_fed(self) -> None:
        def is_fed() -> bool:
            self.workers.collect()
            return not self.feed.unfinished

        wait_until(is_fed, "all was fed")


def feeding(
    stored: StoredSample, workers: Workers, store: StorageBackend | None = None, table: str | None = None
) -> Feeding:
    """Feed the whole sample as an archive, or the file of one table as it is."""
    limits = Limits(transfers=2)
    archive = open_archive(stored.store, stored.manifest, Keys(), workers, limits)
    stream = Stream((stored.table(table),)) if table else whole(archive, None, RestoreOptions())
    reader = ObjectReader(store or stored.store, stored.manifest.objects, stream.files, workers, limits, UNSEALED)
    return Feeding(archive, stream, reader, Feed([stream], reader, workers), workers)


@pytest.fixture
def fed(stored_sample: StoredSample) -> Iterator[Feeding]:
    with Workers() as workers:
        made = feeding(stored_sample, workers)
        yield made
        made.feed.close()


def feeder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed-")]


def data_files(archive: Archive) -> dict[str, File]:
    """Return the files in the stream by path. pg_restore needs neither lists of large objects nor another table of contents."""
    return {path: file for path, file in archive.files.items() if path not in {TOC_NAME, *archive.lists}}


def read_blocks(stream: BinaryIO) -> Iterator[tuple[int, int | None, bytes]]:
    """Yield the dump ID, the large object's OID and the content of everything that follows the table of contents (pg_backup_custom.c)."""

    def number() -> int:
        sign, *digits = stream.read(5)
        return int.from_bytes(digits, "little") * (-1 if sign else 1)

    def content() -> bytes:
        return b"".join(stream.read(size) for size in iter(number, 0))

    while kind := stream.read(1):
        dump_id = number()
        if kind == b"\1":
            yield dump_id, None, content()
        else:
            assert kind == b"\3"
            for oid in iter(number, 0):
                yield dump_id, oid % 2**32, content()


def read_to_the_end(descriptor: int) -> bytes:
    with FileIO(descriptor, "rb") as stream:
        return stream.readall()


def test_stock_pg_restore_restores_what_was_dumped(
    fed: Feeding, empty_target: Database, postgres: ThrowawayCluster, stored_sample: StoredSample
) -> None:
    command = [postgres.bin_dir / "pg_restore", "--exit-on-error", "--format=custom", "-d", empty_target.conninfo]
    with fed.feed.pipe(0) as (path, inherit):
        process = subprocess.Popen([*command, path], pass_fds=inherit)
    assert process.wait(PATIENCE) == 0
    fed.collect_until_fed()
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)
    assert fed.feed.fed == sum(file.size for file in data_files(fed.archive).values())


def test_the_stream_has_the_files_that_were_dumped(fed: Feeding) -> None:
    toc = fed.stream.toc or b""
    with fed.feed.pipe(0) as (_, [descriptor]), os.fdopen(os.dup(descriptor), "rb") as stream:
        assert stream.read(len(toc)) == toc
        found = list(read_blocks(stream))
    fed.collect_until_fed()
    by_id = {entry.dump_id: entry.filename for entry in fed.archive.toc.data_entries}
    names = [by_id[dump_id] if oid is None else f"blob_{oid}.dat" for dump_id, oid, _ in found]
    files = data_files(fed.archive)
    assert sorted(names) == sorted(files)
    for name, (_, _, content) in zip(names, found, strict=True):
        assert hashlib.sha256(content).hexdigest() == files[name].checksum


def test_no_object_is_fetched_twice(fed: Feeding) -> None:
    with fed.feed.pipe(0) as (_, [descriptor]), os.fdopen(os.dup(descriptor), "rb") as stream:
        while stream.read(1024 * 1024):
            pass
    fed.collect_until_fed()
    needed = {segment.object for file in data_files(fed.archive).values() for segment in file.segments}
    assert fed.reader.fetched == sum(fed.archive.manifest.objects[index].size for index in needed)


def test_threads_end_if_nobody_reads(fed: Feeding) -> None:
    """For example, pg_restore failed before it opened its input."""
    assert feeder_threads()
    fed.feed.close()
    fed.workers.__exit__(None, None, None)
    assert not feeder_threads()
    assert fed.feed.unfinished == 1


def test_a_thread_ends_if_the_program_stops_reading(stored_sample: StoredSample) -> None:
    """For example, pg_restore was killed. The restore then reports pg_restore's messages, so the thread raises no error."""
    with Workers() as workers:
        made = feeding(stored_sample, workers)
        with made.feed.pipe(0) as (_, [descriptor]):
            assert os.read(descriptor, 10)
        wait_until(lambda: not workers.collect() and not made.feed.current, "the thread has ended")
        made.feed.close()
    assert made.feed.unfinished == 1
    assert not feeder_threads()


def test_a_program_may_leave_the_rest_of_an_archive_in_a_single_file(stored_sample: StoredSample) -> None:
    with Workers() as workers:
        stream = Stream((stored_sample.table("telemetry.reading"),), may_be_left=True)
        reader = ObjectReader(
            stored_sample.store, stored_sample.manifest.objects, stream.files, workers, Limits(), UNSEALED
        )
        feed = Feed([stream], reader, workers)
        with feed.pipe(0) as (_, [descriptor]):
            assert os.read(descriptor, 10)
        wait_until(lambda: workers.collect() or not feed.unfinished, "the rest is left")
        feed.close()


def test_a_table_in_several_streams_is_dealt_to_their_programs(stored_sample: StoredSample) -> None:
    """Each gets whole rows, all together get each row once, and no object is fetched twice."""
    file = stored_sample.table("telemetry.reading")
    with Workers() as workers:
        reader = ObjectReader(stored_sample.store, stored_sample.manifest.objects, [file], workers, Limits(), UNSEALED)
        whole = b"".join(reader.read(file))
        reader = ObjectReader(stored_sample.store, stored_sample.manifest.objects, [file], workers, Limits(), UNSEALED)
        feed = Feed([Stream((file,), b"toc", (number,)) for number in (7, 8, 9)], reader, workers, check_files=True)
        got = list[bytes]()
        for number in range(3):
            with feed.pipe(number) as (_, [descriptor]):
                workers.pool(1, "read").submit(partial(read_to_the_end, os.dup(descriptor)), got.append)
        wait_until(lambda: not workers.collect() and len(got) == 3 and not feed.unfinished, "all was fed")
        feed.close()
    blocks = [block for text in got for block in read_blocks(BytesIO(text.removeprefix(b"toc")))]
    assert sorted(dump_id for dump_id, _, _ in blocks) == [7, 8, 9]
    contents = [content for _, _, content in blocks]
    assert all(content.endswith(COPY_END) for content in contents)
    rows = Counter(row for content in contents for row in content.removesuffix(COPY_END).splitlines(keepends=True))
    assert rows == Counter(whole.removesuffix(COPY_END).splitlines(keepends=True))
    assert reader.fetched == sum(stored.size for stored in stored_sample.objects_of("telemetry.reading"))
    assert feed.fed == file.size


class SilentBackend(LocalBackend):
    """A store that answers when the test lets it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answer = threading.Event()

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        assert self.answer.wait(PATIENCE)
        return super().get(key, offset=offset, length=length, at_most=at_most)


def test_after_the_end_nobody_waits_for_a_silent_store(stored_sample: StoredSample) -> None:
    store, workers = SilentBackend(stored_sample.folder), Workers()
    made = feeding(stored_sample, workers, store)
    made.feed.close()
    stopping = threading.Thread(target=workers.__exit__, args=(None, None, None), daemon=True)
    stopping.start()
    store.answer.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def test_a_table_that_cannot_be_fetched_whole_never_seems_to_end(stored_sample: StoredSample) -> None:
    """An end of file would tell the program that this was all of the table, and it would commit. So the pipe stays open until the close."""
    last = stored_sample.objects_of("telemetry.reading")[-1]
    stored_sample.path(last).unlink()
    workers = Workers()
    made = feeding(stored_sample, workers, table="telemetry.reading")
    read = bytearray()

    def drain(pipe: int) -> bool:
        """Read what is in the pipe. True if there is more to come."""
        with suppress(BlockingIOError):
            part = os.read(pipe, 1 << 20)
            read.extend(part)
            return bool(part)
        return True

    try:
        with made.feed.pipe(0) as (_, [pipe]):
            os.set_blocking(pipe, False)
            with pytest.raises(BackupDamaged, match=re.escape(last.key)):
                wait_until(lambda: drain(pipe) and workers.collect() and False, "the damage is found")
            assert drain(pipe)
            assert 0 < len(read) < stored_sample.table("telemetry.reading").size
            own = os.dup(pipe)
        made.feed.close()
        wait_until(lambda: not drain(own), "the pipe is closed")
        os.close(own)
    finally:
        made.feed.close()
        workers.__exit__(None, None, None)
