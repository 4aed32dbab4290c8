import dataclasses
import fcntl
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from support.pgstow import PATIENCE, wait_until
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from demo import compare
from pipeline.archive.reader import Archive, open_archive
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.stages.download import ObjectReader
from pipeline.stages.feed import Feed, plan_feed
from storage_backends.local import LocalBackend


@dataclass
class Feeding:
    """A feed of the whole sample, and its parts."""

    folder: Path
    archive: Archive
    feed: Feed
    workers: Workers
    new_ids: dict[int, int]

    def path(self, table: str) -> Path:
        [entry] = [entry for entry in self.archive.toc.data_entries if f"{entry.namespace}.{entry.tag}" == table]
        return self.folder / entry.filename

    def collect_until(self, condition: object, what: str) -> None:
        """Collect results in the owner's thread until ``condition`` is true."""

        def so() -> bool:
            self.workers.collect()
            return bool(condition())  # type: ignore[operator]

        wait_until(so, what)


def feeding(stored: StoredSample, folder: Path, workers: Workers, jobs: int) -> Feeding:
    limits = Limits(jobs=jobs)
    archive = open_archive(stored.store, stored.manifest, workers, limits)
    files = archive.files_of(None)
    reader = ObjectReader(stored.store, stored.manifest.objects, files, workers, limits)
    plan = plan_feed(archive.toc_data, archive.toc, {file.path: file for file in files}, archive.lists, jobs=jobs)
    return Feeding(folder, archive, Feed(folder, plan, reader, workers, jobs), workers, dict(plan.new_ids))


@pytest.fixture(params=[1, 2, 4])
def jobs(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def fed(stored_sample: StoredSample, tmp_path: Path, jobs: int) -> Iterator[Feeding]:
    with Workers() as workers:
        made = feeding(stored_sample, tmp_path / "feed", workers, jobs)
        yield made
        made.feed.close()


def feeder_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(("feed-", "stray-"))]


def test_the_pipes_give_the_dumped_data(
    fed: Feeding, jobs: int, empty_target: Database, postgres: ThrowawayCluster, stored_sample: StoredSample
) -> None:
    """Stock pg_restore reads the pipes. With several jobs, it begins with the largest table, as with plain files, then goes pack by pack."""
    pg_restore = [postgres.bin_dir / "pg_restore", "--verbose", "--exit-on-error", f"--jobs={jobs}"]
    log = fed.folder.with_name("log")
    with log.open("wb") as stream:
        process = subprocess.Popen([*pg_restore, "-d", empty_target.conninfo, fed.folder], stderr=stream)
        fed.collect_until(lambda: process.poll() is not None, "pg_restore has ended")
    assert process.returncode == 0, log.read_text()
    fed.collect_until(lambda: not fed.feed.unfinished, "all was fed")
    assert compare.contents(empty_target.conninfo) == compare.contents(stored_sample.source)
    assert [path for path in fed.folder.iterdir() if path.is_fifo()] == []
    if jobs > 1:
        files = {entry.dump_id: fed.archive.files[entry.filename] for entry in fed.archive.toc.data_entries}
        old_ids = {new: old for old, new in fed.new_ids.items()}
        launched = [int(found) for found in re.findall(r"launching item (\d+) TABLE DATA", log.read_text())]
        order = [files[old_ids.get(dump_id, dump_id)] for dump_id in launched]
        assert len(order) == 27
        in_packs = [bool(file.segments) and file.segments[0].offset > 0 for file in order]
        assert in_packs == sorted(in_packs)
        assert len(set(in_packs)) == 2
        sizes = [file.size for file, in_pack in zip(order, in_packs, strict=True) if not in_pack]
        assert sizes == sorted(sizes, reverse=True)
        places = [file.segments[0] for file, in_pack in zip(order, in_packs, strict=True) if in_pack]
        assert places == sorted(places, key=lambda place: (place.object, place.offset))


def test_a_single_job_is_fed_in_the_requested_order(stored_sample: StoredSample) -> None:
    """A list of entries may have another order than the archive. If no thread waits to feed a file, serve_out_of_order feeds it."""
    with Workers() as workers:
        archive = open_archive(stored_sample.store, stored_sample.manifest, workers, Limits(jobs=1))
    files = [file for file in archive.files_of(None) if file.kind == "table"]
    for wanted in (files, files[::-1]):
        by_path = {file.path: file for file in wanted}
        plan = plan_feed(archive.toc_data, archive.toc, by_path, archive.lists, jobs=1)
        assert [group for (group,) in plan.sequences[0]] == wanted


def awaited(fed: Feeding) -> set[Path]:
    """Return the pipes that threads have open while they wait for a reader."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.add(descriptor.readlink())
    return {path for path in found if path.parent == fed.folder}


def test_threads_end_even_if_somebody_removed_their_pipes(fed: Feeding, jobs: int) -> None:
    """A program that cleans temporary folders may remove them. Each thread then waits for a reader of a pipe without a name."""
    wait_until(lambda: len(awaited(fed)) >= min(jobs + 2, 3), "threads wait for readers")
    for path in fed.folder.iterdir():
        if path.is_fifo():
            path.unlink()
    fed.feed.close()
    fed.workers.__exit__(None, None, None)
    assert feeder_threads() == []


def test_a_thread_that_serves_out_of_order_ends_with_its_work(stored_sample: StoredSample, tmp_path: Path) -> None:
    with Workers() as workers:
        fed = feeding(stored_sample, tmp_path / "feed", workers, 1)
        wait_until(lambda: len(awaited(fed)) >= 3, "threads wait for readers")
        tables = {fed.folder / file.path for file in fed.archive.files_of(None) if file.kind == "table"}
        for path in sorted(tables - awaited(fed))[:3]:
            with ThreadPoolExecutor() as pool:
                done = pool.submit(path.read_bytes).done
                wait_until(partial(served, fed, done), "a stray is served")
            fed.collect_until(lambda: not strays(), "no thread is left of it")
        fed.feed.close()


def served(fed: Feeding, done: Callable[[], bool]) -> bool:
    fed.feed.serve_out_of_order()
    return done()


def strays() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("stray")]


def test_all_threads_end_if_nobody_reads(fed: Feeding, jobs: int) -> None:
    """pg_restore failed before it read any data."""
    assert feeder_threads()
    fed.feed.close()
    fed.workers.__exit__(None, None, None)
    assert not feeder_threads()
    assert fed.feed.unfinished > 0


class SilentBackend(LocalBackend):
    """A store that answers only when the test allows it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.answer = threading.Event()

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        assert self.answer.wait(PATIENCE)
        return super().get(key, offset=offset, length=length, at_most=at_most)


def test_a_released_thread_waits_for_no_object(stored_sample: StoredSample, tmp_path: Path) -> None:
    """When the workers stop, objects whose fetch has not begun never arrive."""
    store, limits, workers = SilentBackend(stored_sample.folder), Limits(jobs=2, transfers=1), Workers()
    archive = open_archive(stored_sample.store, stored_sample.manifest, workers, limits)
    files = [file for file in archive.files_of(None) if file.kind == "table"]
    reader = ObjectReader(store, stored_sample.manifest.objects, files, workers, limits)
    plan = plan_feed(archive.toc_data, archive.toc, {file.path: file for file in files}, archive.lists, jobs=2)
    feed = Feed(tmp_path / "feed", plan, reader, workers, jobs=2)
    fed = Feeding(tmp_path / "feed", archive, feed, workers, dict(plan.new_ids))
    wait_until(lambda: len(awaited(fed)) == 4, "all threads wait for somebody to open a pipe")
    feed.close()
    stopping = threading.Thread(target=workers.__exit__, args=(None, None, None), daemon=True)
    stopping.start()
    store.answer.set()
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def test_the_thread_ends_if_the_reader_stops_in_the_middle(
    stored_sample: StoredSample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pg_restore was killed. Its end reports the failure, so the broken pipe raises no error."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refuse)  # otherwise the whole table would fit into the pipe
    with Workers() as workers:
        made = feeding(stored_sample, tmp_path / "feed", workers, jobs=2)
        path = made.path("telemetry.reading")
        with path.open("rb", buffering=0) as pipe:
            assert pipe.read(10)
        made.feed.close()
        wait_until(lambda: not awaited(made), "all threads are let go")
        made.workers.collect()
    assert path.exists(), "a file is removed only after it was read to its end"
    assert not feeder_threads()


def test_a_pipe_that_is_opened_out_of_order_is_served(stored_sample: StoredSample, tmp_path: Path) -> None:
    """A later version of pg_restore may read files in any order, and must not wait forever."""
    with Workers() as workers:
        made = feeding(stored_sample, tmp_path / "feed", workers, jobs=2)
        smallest = min(
            (file for file in made.archive.files.values() if file.kind == "table"), key=lambda file: file.size
        )
        contents: list[bytes] = []
        path = made.folder / smallest.path
        reading = threading.Thread(target=lambda: contents.append(path.read_bytes()), daemon=True)
        reading.start()

        def served() -> bool:
            made.feed.serve_out_of_order()
            workers.collect()
            return bool(contents)

        wait_until(served, "the pipe is filled")
        assert len(contents[0]) == smallest.size
        made.feed.close()


def test_large_objects_that_are_opened_out_of_order_are_served(stored_sample: StoredSample, tmp_path: Path) -> None:
    """One job reads several files one after another. It opens the second file only after the end of the first."""
    with Workers() as workers:
        limits = Limits(jobs=1)
        archive = open_archive(stored_sample.store, stored_sample.manifest, workers, limits)
        by_path = {file.path: file for file in archive.files_of(None)}
        plan = plan_feed(archive.toc_data, archive.toc, by_path, archive.lists, jobs=1)
        *_, (large_objects,) = plan.sequences
        assert len(large_objects) > 1
        tables = plan.sequences[0][:3]  # as many as there are threads
        plan = dataclasses.replace(plan, sequences=((*tables, large_objects),))
        reader = ObjectReader(stored_sample.store, stored_sample.manifest.objects, by_path.values(), workers, limits)
        feed = Feed(tmp_path / "feed", plan, reader, workers, jobs=1)
        contents: list[bytes] = []

        def read() -> None:
            contents.extend((tmp_path / "feed" / file.path).read_bytes() for file in large_objects)

        reading = threading.Thread(target=read, daemon=True)
        reading.start()

        def served() -> bool:
            feed.serve_out_of_order()
            workers.collect()
            return len(contents) == len(large_objects)

        wait_until(served, "the pipes are filled")
        assert [len(content) for content in contents] == [file.size for file in large_objects]
        feed.close()


def drain(pipe: int) -> bytes:
    """Return the bytes that are now in a pipe; empty at its end. Raises BlockingIOError if the pipe is empty and has not ended."""
    return os.read(pipe, 1 << 20)


def test_the_pipe_of_an_incomplete_table_stays_open(stored_sample: StoredSample, tmp_path: Path) -> None:
    """At the end of the file, pg_restore would take the table as complete and commit. So the pipe stays open until pg_restore has ended."""
    second = stored_sample.objects_of("telemetry.reading")[1]
    stored_sample.path(second).unlink()
    workers = Workers()
    made = feeding(stored_sample, tmp_path / "feed", workers, jobs=2)
    pipe = os.open(made.path("telemetry.reading"), os.O_RDONLY | os.O_NONBLOCK)
    read = bytearray()

    def read_on() -> bool:
        with suppress(BlockingIOError):
            read.extend(drain(pipe))  # this also gives nothing before the thread has opened the pipe
        return False

    try:
        with pytest.raises(BackupDamaged, match=re.escape(second.key)):
            made.collect_until(read_on, "the damage is found")
        while read_on_is_possible(pipe, read):
            pass
        with pytest.raises(BlockingIOError):
            drain(pipe)
        assert 0 < len(read) < stored_sample.table("telemetry.reading").size
        made.feed.close()
        assert drain(pipe) == b""
    finally:
        os.close(pipe)
        made.feed.close()
        workers.__exit__(None, None, None)


def read_on_is_possible(pipe: int, into: bytearray) -> bool:
    try:
        part = drain(pipe)
    except BlockingIOError:
        return False
    into.extend(part)
    assert part, "the pipe seems to end"
    return True
