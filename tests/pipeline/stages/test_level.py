"""Tests of the level ``auto``, with a model of a backup: a dump, threads that compress, and a link. The model has its own clock."""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import MIB
from pipeline.stages.compress import Compressed
from pipeline.stages.level import LevelChooser, Uploads

PIECE, OBJECT, MEMORY, SPOOL = 8 * MIB, 32 * MIB, 192 * MIB, 128 * MIB
TRANSFERS = 4
SPEEDS = {3: 159.0 * MIB, 6: 66.0 * MIB, 9: 29.0 * MIB, 11: 15.0 * MIB}
"""Bytes of a dump that a core compresses in a second, as measured."""
RATIOS = {3: 0.327, 6: 0.313, 9: 0.305, 11: 0.290}
"""The size of a frame divided by the size of its content, as measured."""
TICK = 0.01  # seconds
MBIT = 1e6 / 8


@dataclass
class _Running:
    size: int
    level: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass
class Model:
    """A backup. Sizes are in bytes, and speeds in bytes per second."""

    size: float
    dump: float
    """The speed of pg_dump."""
    link: float
    cores: int = 2
    others: float = 0.0
    """The cores that other programs would use if they could."""
    dump_cores: float = 0.0
    """The cores that pg_dump and the server would use, while the spool has room."""
    auto: bool = True
    seconds: float = 0.0
    stored: float = 0.0
    levels: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SPEEDS, 0))
    """The bytes compressed at each level."""

    def run(self) -> "Model":
        chooser = LevelChooser(dict.fromkeys(SPEEDS if self.auto else [3], self.cores))
        uploads, upload_left, waiting = Uploads(TRANSFERS), dict[int, float](), deque[tuple[int, float]]()
        queue, running = deque[tuple[int, int]](), list[_Running]()
        dumped = taken = raw = frames = sending = 0.0
        sent = dict[int, float]()
        objects = 0
        while taken < self.size or raw or frames or sending:
            self.seconds += TICK
            dumping = dumped < min(self.size, taken + SPOOL)
            share = min(1.0, self.cores / (len(running) + self.others + self.dump_cores * dumping or 1.0))
            dumped = min(self.size, dumped + self.dump * (share if self.dump_cores else 1.0) * TICK, taken + SPOOL)
            size = int(min(PIECE, self.size - taken))
            full = OBJECT >> max(0, 3 - objects // 2)
            while (
                0 < size <= dumped - taken
                and raw <= 2 * self.cores * PIECE
                and 2 * (raw + size) + frames + sending <= MEMORY
            ):
                if self.auto and objects >= 3 and len(sent) == objects:
                    break  # the first upload shows the speed of the link
                left = uploads.seconds_left(self.seconds)
                if chooser.should_wait(size, object_size=full, seconds_left=left):
                    break
                level = chooser.choose(size, object_size=full, seconds_left=left)
                chooser.begin(size, level)
                queue.append((size, level))
                self.levels[level] += size
                raw, taken = raw + size, taken + size
                size = int(min(PIECE, self.size - taken))
            while queue and len(running) < self.cores:
                piece, level = queue.popleft()
                running.append(_Running(piece, level))
            for work in running:
                work.seconds += TICK
                work.cpu_seconds += TICK * share
            for work in [work for work in running if work.cpu_seconds >= work.size / SPEEDS[work.level]]:
                running.remove(work)
                frame = int(work.size * RATIOS[work.level])
                chooser.end(work.size, work.level, Compressed(bytes(frame), work.level, work.seconds, work.cpu_seconds))
                raw, frames = raw - work.size, frames + frame
            over = taken >= self.size and not raw
            while frames >= full or (over and frames):
                body = min(frames, full)
                objects += 1
                uploads.add(objects, int(body), self.seconds)
                waiting.append((objects, body))
                sent[objects] = body
                frames, sending, self.stored = frames - body, sending + body, self.stored + body
            while waiting and len(upload_left) < TRANSFERS:
                number, body = waiting.popleft()
                upload_left[number] = body
            for number in list(upload_left):
                upload_left[number] -= self.link * TICK / len(upload_left)
            for number in [number for number, left in upload_left.items() if left <= 0]:
                del upload_left[number]
                sending -= sent.pop(number)
                uploads.end(number, self.seconds)
        return self


def beside_level_3(model: Model) -> tuple[Model, float, float]:
    """Return the model's backup, its time and its bytes, both divided by those of a backup at level 3."""
    plain = Model(model.size, model.dump, model.link, model.cores, model.others, model.dump_cores, auto=False).run()
    run = model.run()
    return run, run.seconds / plain.seconds, run.stored / plain.stored


@pytest.mark.parametrize("cores", [2, 16])
@pytest.mark.parametrize(
    ("rate", "size", "most"), [(20, 220e6, 0.93), (20, 1100e6, 0.91), (200, 1100e6, 0.98), (200, 4000e6, 0.97)]
)
def test_slow_links_get_smaller_and_faster_backups(cores: int, rate: float, size: float, most: float) -> None:
    _, seconds, stored = beside_level_3(Model(size, 100e6, rate * MBIT, cores))
    assert seconds <= most
    assert stored <= most


@pytest.mark.parametrize(("rate", "size", "most"), [(20, 220e6, 0.93), (20, 1100e6, 0.91), (100, 1100e6, 0.95)])
def test_the_dump_itself_keeps_no_level_low(rate: float, size: float, most: float) -> None:
    """pg_dump and the server use the same cores, until the spool is full."""
    _, seconds, stored = beside_level_3(Model(size, 100e6, rate * MBIT, dump_cores=1.2))
    assert seconds <= most
    assert stored <= most


@pytest.mark.parametrize("cores", [2, 16])
@pytest.mark.parametrize("dump", [2e6, 20e6, 100e6, 500e6])
@pytest.mark.parametrize("rate", [20, 200, 1000, 10_000])
@pytest.mark.parametrize("dump_cores", [0, 2.5])
def test_no_backup_becomes_slower(cores: int, dump: float, rate: float, dump_cores: float) -> None:
    """A backup with smaller objects may end with one more object. An object is at most 32 MiB."""
    model, seconds, stored = beside_level_3(Model(600e6, dump, rate * MBIT, cores, dump_cores=dump_cores))
    assert stored <= 1
    assert seconds <= 1.01 or model.seconds * (1 - 1 / seconds) <= OBJECT / model.link


def test_an_instant_link_gets_level_3() -> None:
    model = Model(2000e6, 100e6, 1e12).run()
    assert set(filter(model.levels.get, model.levels)) == {3}


def test_busy_cores_keep_the_level_low() -> None:
    model = Model(400e6, 100e6, 20 * MBIT, others=4).run()
    assert model.levels[3] > 0.8 * model.size


def test_before_the_first_upload_ends_its_age_counts() -> None:
    uploads = Uploads(transfers=2)
    assert uploads.seconds_left(0) == 0
    uploads.add(0, 1000, now=10)
    assert uploads.seconds_left(13) == pytest.approx(3)
    uploads.add(1, 1000, now=13)
    uploads.add(2, 1000, now=13)
    assert uploads.seconds_left(13) == pytest.approx(6), "half of two objects in 3 seconds; one more waits"


def test_uploads_that_ended_show_the_speed_of_the_link() -> None:
    uploads = Uploads(transfers=1)
    for number in range(10):
        uploads.add(number, 1000, now=0)
    uploads.end(0, now=2)
    assert uploads.seconds_left(3) == pytest.approx((500 + 8 * 1000) * 3 / 1500)
    for number in range(1, 10):
        uploads.end(number, now=4)
    assert uploads.seconds_left(5) == 0


def test_a_piece_passes_once_no_other_is_in_the_queue() -> None:
    """Sums of seconds have errors of rounding, which must not count as a queue."""
    chooser, sizes = LevelChooser({3: 1, 11: 1}), (1 * MIB, 2 * MIB, 4 * MIB)

    def waits() -> bool:
        return chooser.should_wait(PIECE, object_size=OBJECT, seconds_left=1e4)

    assert not waits()
    for size in sizes:
        chooser.begin(size, 3)
    for size in sizes:
        assert waits()
        chooser.end(size, 3, Compressed(bytes(size // 3), 3, 0.0, 0.0))
    assert not waits()


@given(
    threads=st.sampled_from([{3: 1}, {19: 4}, {3: 2, 6: 2, 9: 1}, {3: 16, 6: 16, 9: 4, 11: 2}]),
    pieces=st.lists(
        st.tuples(st.integers(1, PIECE), st.floats(0, 1e4), st.floats(0, 10), st.floats(0, 1)), max_size=50
    ),
)
def test_every_choice_is_one_of_the_levels(
    threads: dict[int, int], pieces: list[tuple[int, float, float, float]]
) -> None:
    chooser = LevelChooser(threads)
    for size, left, took, share in pieces:
        assert chooser.choose(size, object_size=OBJECT, seconds_left=0) == min(threads), "nothing waits for the link"
        level = chooser.choose(size, object_size=OBJECT, seconds_left=left)
        assert level in threads
        chooser.begin(size, level)
        chooser.end(size, level, Compressed(bytes(size // 2 + 1), min(threads), took, took * share))
