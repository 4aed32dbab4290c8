"""Tests of the spool: it gives every byte of each file once and in order, and frees the disk space."""

import os
import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.calls import calls
from support.pgstow import disk_use

from pipeline.errors import LocalResourceExhausted
from pipeline.stages.spool import Piece, Spool

MIB = 1024 * 1024
PIECE = 64 * 1024


class Writer:
    """Stands in for pg_dump: opens, grows and closes files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: set[str] = set()
        self.tells = True
        self.asked = 0
        """How often the spool asked which files are open. It asks at most once in each look."""

    def write(self, name: str, data: bytes) -> None:
        self.open.add(name)
        with (self.folder / name).open("ab") as file:
            file.write(data)

    def close(self, name: str) -> None:
        self.open.remove(name)

    def open_files(self) -> set[str] | None:
        self.asked += 1
        return set(self.open) if self.tells else None


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    folder = tmp_path / "work" / "archive"
    folder.mkdir(parents=True)
    return Writer(folder)


@pytest.fixture
def spool(writer: Writer) -> Spool:
    return make_spool(writer)


def make_spool(writer: Writer, limit: int = 16 * MIB) -> Spool:
    return Spool(writer.folder, limit=limit, piece_size=PIECE, open_files=writer.open_files)


def take(spool: Spool) -> list[Piece]:
    """Return all pieces that can be read now."""
    return [spool.read(file) for file in spool.ready()]


def sizes(pieces: list[Piece]) -> list[tuple[str, int, int, bool]]:
    return [(piece.name, piece.index, len(piece.data), piece.last) for piece in pieces]


def contents(pieces: list[Piece]) -> dict[str, bytes]:
    """Return the files' contents from their pieces. Fails unless each file's pieces are in order and it ended once."""
    found: dict[str, bytes] = defaultdict(bytes)
    indices: dict[str, int] = defaultdict(int)
    for piece in pieces:
        assert piece.index == indices[piece.name], piece.name
        indices[piece.name] = -1 if piece.last else piece.index + 1
        found[piece.name] += piece.data
    assert set(indices.values()) <= {-1}
    return dict(found)


def test_a_file_is_read_while_it_grows(writer: Writer, spool: Spool) -> None:
    spool.look()
    assert take(spool) == []
    writer.write("1.dat", bytes(PIECE - 1))
    spool.look()
    assert take(spool) == []
    writer.write("1.dat", bytes(PIECE + 2))
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 0, PIECE, False), ("1.dat", 1, PIECE, False)]
    writer.write("1.dat", b"end")
    writer.close("1.dat")
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 2, 4, True)]
    assert not spool.files
    assert not list(writer.folder.iterdir())


def test_a_file_that_is_being_opened_does_not_count_as_closed(writer: Writer, spool: Spool) -> None:
    """open(2) makes the name before the descriptor. So for a moment, an empty file exists that no process has open."""
    (writer.folder / "blob_1.dat").touch()
    spool.look()
    assert take(spool) == []
    writer.write("blob_1.dat", b"large object")
    spool.look()
    assert take(spool) == []
    writer.close("blob_1.dat")
    spool.look()
    assert sizes(take(spool)) == [("blob_1.dat", 0, 12, True)]


def test_a_file_that_is_written_right_after_the_look_does_not_count_as_closed(writer: Writer) -> None:
    def open_files() -> set[str] | None:
        answer = writer.open_files()
        if not writer.open:
            writer.write("blob_1.dat", b"large ")
        return answer

    spool = Spool(writer.folder, limit=16 * MIB, piece_size=PIECE, open_files=open_files)
    (writer.folder / "blob_1.dat").touch()
    spool.look()
    assert take(spool) == []
    writer.write("blob_1.dat", b"object")
    writer.close("blob_1.dat")
    writer.open.add("another.dat")
    spool.look()
    assert sizes(take(spool)) == [("blob_1.dat", 0, 12, True)]


def test_an_empty_file_that_was_never_seen_open_waits_for_the_end(writer: Writer, spool: Spool) -> None:
    (writer.folder / "blob_1.dat").touch()
    spool.look()
    assert take(spool) == []
    spool.finish()
    assert sizes(take(spool)) == [("blob_1.dat", 0, 0, True)]


def test_the_last_full_piece_ends_a_file(writer: Writer, spool: Spool) -> None:
    writer.write("1.dat", bytes(2 * PIECE))
    writer.close("1.dat")
    writer.write("2.dat", b"")
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 0, PIECE, False), ("1.dat", 1, PIECE, True)]


def test_a_file_that_was_read_before_its_closing_ends_with_an_empty_piece(writer: Writer, spool: Spool) -> None:
    writer.write("1.dat", bytes(PIECE))
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 0, PIECE, False)]
    writer.close("1.dat")
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 1, 0, True)]


def test_an_empty_file_has_one_empty_piece(writer: Writer, spool: Spool) -> None:
    writer.write("1.dat", b"")
    spool.look()
    assert take(spool) == []
    writer.close("1.dat")
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 0, 0, True)]


def test_bytes_that_were_read_are_freed_on_disk(writer: Writer, spool: Spool) -> None:
    if not spool.punches_holes:
        pytest.skip("the file system of the temporary folder can't punch holes")
    path = writer.folder / "1.dat"
    writer.write("1.dat", os.urandom(8 * PIECE))
    os.sync()
    spool.look()
    taken = 0
    for file in spool.ready():
        taken += len(spool.read(file).data)
        assert path.stat().st_size == 8 * PIECE
        assert path.stat().st_blocks * 512 <= 8 * PIECE - taken + 4096
    assert path.stat().st_blocks * 512 <= 4096


def test_a_file_system_without_holes_keeps_the_file_until_its_end(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.spool._LIBC", object())
    spool = make_spool(writer)
    assert not spool.punches_holes
    data = os.urandom(3 * PIECE)
    writer.write("1.dat", data)
    spool.look()
    pieces = take(spool)
    assert (writer.folder / "1.dat").stat().st_blocks * 512 >= 3 * PIECE
    writer.close("1.dat")
    spool.look()
    assert contents(pieces + take(spool)) == {"1.dat": data}


def test_without_the_table_of_open_files_no_file_is_whole_before_the_end(writer: Writer, spool: Spool) -> None:
    writer.tells = False
    writer.write("1.dat", b"abc")
    writer.write("2.dat", bytes(PIECE + 1))
    writer.close("1.dat")
    spool.look()
    assert sizes(take(spool)) == [("2.dat", 0, PIECE, False)]
    spool.finish()
    assert sizes(take(spool)) == [("1.dat", 0, 3, True), ("2.dat", 1, 1, True)]


def test_a_table_that_never_names_a_file_is_not_trusted(writer: Writer, spool: Spool) -> None:
    """The kernel knows no process that writes here: the program may run in a container, or on another machine."""
    for name in ("1.dat", "2.dat"):
        writer.write(name, bytes(PIECE + 1))
    writer.open = set()
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 0, PIECE, False), ("2.dat", 0, PIECE, False)]
    writer.write("1.dat", b"abc")
    writer.open = {"2.dat"}
    spool.look()
    assert sizes(take(spool)) == [("1.dat", 1, 4, True)]
    spool.finish()
    assert sizes(take(spool)) == [("2.dat", 1, 1, True)]


def test_a_burst_of_files_between_two_looks_is_seen(writer: Writer, spool: Spool) -> None:
    """A queue of notifications would have overflowed."""
    files = {f"{number}.dat": f"{number}\n".encode() * (number % 50) for number in range(20_000)}
    for name, data in files.items():
        (writer.folder / name).write_bytes(data)
    writer.open = {"19998.dat", "19999.dat"}
    spool.look()
    pieces = take(spool)
    assert len(pieces) == 19_998 - 400, "all files except the two open files and the empty files"
    spool.finish()
    assert contents(pieces + take(spool)) == files
    assert not spool.files


def test_a_file_that_is_closed_after_a_look_is_whole_at_the_next_look(writer: Writer) -> None:
    """A file that was open when the spool asked may get bytes after its size is read. So the file is whole only at a later look."""

    def closes_late() -> set[str]:
        still_open = set(writer.open)
        if writer.open:
            writer.write("1.dat", b"late")
            writer.close("1.dat")
        return still_open

    spool = Spool(writer.folder, limit=16 * MIB, piece_size=PIECE, open_files=closes_late)
    writer.write("1.dat", b"early, ")
    spool.look()
    assert take(spool) == []
    spool.look()
    assert contents(take(spool)) == {"1.dat": b"early, late"}


def test_a_file_that_appears_during_a_look_is_not_whole(writer: Writer) -> None:
    def comes_late() -> set[str]:
        before = set(writer.open)
        writer.write("2.dat", b"not all of it")
        return before

    spool = Spool(writer.folder, limit=16 * MIB, piece_size=PIECE, open_files=comes_late)
    writer.write("1.dat", b"")
    spool.look()
    assert take(spool) == []
    assert {file.name for file in spool.files} == {"1.dat"}


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
@pytest.mark.parametrize("left", [0, PIECE - 1, PIECE + 1])
def test_a_file_that_shrinks_is_reported(writer: Writer, spool: Spool, closed: bool, left: int) -> None:
    writer.write("1.dat", bytes(3 * PIECE))
    spool.look()
    ready = spool.ready()
    spool.read(next(ready))
    os.truncate(writer.folder / "1.dat", left)

    def go_on() -> None:
        if closed:
            writer.close("1.dat")
            spool.look()
        take(spool)

    with pytest.raises(LocalResourceExhausted, match=r"1\.dat became shorter"):
        go_on()


def test_many_small_open_files_do_not_block_the_spool(writer: Writer) -> None:
    spool = make_spool(writer, limit=8 * PIECE)
    for number in range(20):
        writer.write(f"{number}.dat", bytes(PIECE - number - 1))
    spool.look()
    assert spool.full
    pieces = take(spool)
    assert pieces
    assert not spool.full
    for name in list(writer.open):
        writer.close(name)
    spool.finish()
    assert {name: len(data) for name, data in contents(pieces + take(spool)).items()} == {
        f"{number}.dat": PIECE - number - 1 for number in range(20)
    }


def test_the_spool_is_full_before_its_limit(writer: Writer) -> None:
    spool = make_spool(writer, limit=16 * PIECE)
    writer.write("1.dat", bytes(8 * PIECE))
    spool.look()
    assert not spool.full
    writer.write("1.dat", b"x")
    spool.look()
    assert spool.full
    assert sum(file.unread for file in spool.files) == 8 * PIECE + 1
    spool.read(next(spool.ready()))
    assert not spool.full


def test_small_files_count_as_whole_blocks(writer: Writer) -> None:
    """The store stalls, so nobody reads, but pg_dump continues to write large objects. A file of 30 bytes takes a block and an inode."""
    limit = 16 * MIB
    spool = make_spool(writer, limit=limit)
    for number in range(20_000):
        writer.write(f"blob_{number}.dat", bytes(30))
        writer.close(f"blob_{number}.dat")
        writer.open.add("blobs.toc")
        if number % 100 == 0:
            spool.look()
            if spool.full:
                break
    assert limit / 4 < disk_use(writer.folder) <= limit
    read = 0
    while spool.full:
        spool.read(next(spool.ready()))
        read += 1
    assert 0 < read <= 200


def test_the_number_of_waiting_files_is_bounded(writer: Writer) -> None:
    spool = make_spool(writer, limit=1024 * MIB)
    for number in range(1025):
        assert not spool.full
        writer.write(f"blob_{number}.dat", b"x")
        writer.close(f"blob_{number}.dat")
        writer.open.add("blobs.toc")
        if number % 128 == 0:
            spool.look()
    spool.look()
    assert spool.full
    spool.read(next(spool.ready()))
    assert not spool.full


def test_the_cost_of_reading_grows_with_the_number_of_files(tmp_path: Path) -> None:
    def read(number: int) -> int:
        folder = tmp_path / str(number) / "archive"
        folder.mkdir(parents=True)
        writer = Writer(folder)
        spool = make_spool(writer)
        found = 0
        for start in range(0, number, 100):
            for name in range(start, start + 100):
                (folder / f"{name}.dat").write_bytes(b"x")
            writer.open = {"toc.dat"}
            found += calls(spool.look) + calls(lambda: take(spool))
        assert not spool.files
        return found

    few, many = read(100), read(800)
    assert many <= 8 * few
    assert many <= 40 * 800


def test_the_cost_of_a_look_does_not_grow_with_the_files_that_wait(writer: Writer, spool: Spool) -> None:
    costs = []
    for waiting in (1, 1000):
        for number in range(waiting):
            writer.write(f"{number}.dat", b"x")
        writer.open = {"toc.dat"}
        spool.look()
        writer.write("new.dat", b"x")
        costs.append(calls(spool.look))
        writer.close("new.dat")
        spool.look()
        take(spool)
    assert costs[0] == costs[1]


def test_bytes_written_before_the_pause_are_seen(writer: Writer) -> None:
    spool = make_spool(writer, limit=8 * PIECE)
    writer.write("1.dat", bytes(5 * PIECE))
    spool.look()
    assert spool.full
    writer.write("2.dat", bytes(5))
    writer.close("2.dat")
    spool.look()
    assert {file.name for file in spool.files} == {"1.dat", "2.dat"}
    for _ in range(10):
        spool.look()
    assert writer.asked == 2, "listing many files again and again would slow down the reader"
    writer.write("3.dat", bytes(5))
    writer.close("3.dat")
    take(spool)
    spool.look()
    assert "3.dat" in {file.name for file in spool.files}
    writer.open.clear()
    spool.finish()
    take(spool)
    assert not spool.files


def test_a_full_disk_is_reported_at_the_start(writer: Writer) -> None:
    (writer.folder.parent / "hole").symlink_to("/dev/full")  # the file with which the spool tests the disk
    with pytest.raises(LocalResourceExhausted, match="No space left on device"):
        make_spool(writer)
    assert list(writer.folder.parent.iterdir()) == [writer.folder]


@settings(max_examples=60)
@given(st.data())
def test_files_are_whole_after_any_order_of_growth_looks_and_reads(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("work") / "archive"
    folder.mkdir()
    writer = Writer(folder)
    spool = make_spool(writer, limit=8 * PIECE)
    seed = random.Random(data.draw(st.integers()))
    written: dict[str, bytes] = {}
    pieces: list[Piece] = []
    number = 0

    def write() -> None:
        nonlocal number
        if len(writer.open) < 3:
            number += 1
            writer.write(f"{number}.dat", b"")
            written[f"{number}.dat"] = b""
        name = seed.choice(sorted(writer.open))
        part = seed.randbytes(seed.choice([0, 1, 1000, PIECE, 3 * PIECE + 5]))
        writer.write(name, part)
        written[name] += part

    def close() -> None:
        with suppress(IndexError):
            writer.close(seed.choice(sorted(writer.open)))

    actions: list[Callable[[], None]] = [write, write, close, spool.look, lambda: pieces.extend(take(spool))]
    for action in data.draw(st.lists(st.sampled_from(actions), max_size=40)):
        action()
    writer.open.clear()
    spool.finish()
    pieces += take(spool)
    assert contents(pieces) == written
    assert max((len(piece.data) for piece in pieces), default=0) <= PIECE
    assert not list(folder.iterdir())
