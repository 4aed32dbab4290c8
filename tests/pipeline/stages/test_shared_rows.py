"""Several programs together get each row of a table once."""

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.manifest import File, Segment
from pipeline.errors import BackupDamaged
from pipeline.postgres.dump import COPY_END
from pipeline.stages.shared_rows import SharedRows, whole_rows

ROW = st.text(st.sampled_from("a\\.N\té"), max_size=12).map(lambda row: row.encode() + b"\n")


def file_of(content: bytes) -> File:
    checksum = hashlib.sha256(content).hexdigest()
    segments = (Segment(object=0, offset=0, length=1, size=len(content)),)
    return File(path="1.dat", kind="table", size=len(content), checksum=checksum, segments=segments)


def pieces(content: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield the content in pieces of these sizes; the last is the rest."""
    start = 0
    for size in sizes:
        yield content[start : start + size]
        start += size
    yield content[start:]


@given(st.lists(ROW), st.lists(st.integers(1, 20)))
def test_blocks_are_the_whole_and_end_where_rows_end(rows: list[bytes], sizes: list[int]) -> None:
    content = b"".join(rows)
    parts = [part for part in pieces(content, sizes) if part]
    blocks = list(whole_rows(parts))
    assert b"".join(blocks) == content
    assert all(blocks)
    longest = max(map(len, parts), default=0)
    assert all(len(block) <= 2 * longest for block in blocks)
    for block in blocks:
        if not block.endswith(b"\n"):
            assert b"\n" not in block, "only a row that ends in no piece is cut"


@given(st.lists(ROW), st.lists(st.integers(1, 20)), st.lists(st.integers(0, 2)))
def test_each_program_gets_whole_rows_and_all_together_get_each_row_once(
    rows: list[bytes], sizes: list[int], turns: list[int]
) -> None:
    content = b"".join(rows) + COPY_END
    shared = SharedRows(file_of(content), pieces(content, sizes))
    takers = [shared.take() for _ in range(3)]
    got: list[list[bytes]] = [[], [], []]
    turns = [*turns, *range(3)] * len(content)
    waiting = None
    for turn in turns:  # one thread stands for all: a program that has begun a row goes on before the others
        number = turn if waiting is None else waiting
        block = next(takers[number], b"")
        got[number].append(block)
        waiting = number if block and not block.endswith(b"\n") else None
    for taker, blocks in zip(takers, got, strict=True):
        blocks.extend(taker)
    texts = [b"".join(blocks) for blocks in got]
    assert all(text.endswith(COPY_END) for text in texts)
    found = Counter(row for text in texts for row in text.removesuffix(COPY_END).splitlines(keepends=True))
    assert found == Counter(rows)


def test_many_threads_get_each_row_once() -> None:
    rows = [b"%d\n" % number * (1 + number % 3) for number in range(5000)]
    content = b"".join(rows) + COPY_END
    shared = SharedRows(file_of(content), pieces(content, [7] * 20_000))
    texts = list[bytes]()
    threads = [threading.Thread(target=lambda: texts.append(b"".join(shared.take()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 8
    found = Counter(row for text in texts for row in text.removesuffix(COPY_END).splitlines())
    assert found == Counter(b"".join(rows).splitlines())


def test_no_program_gets_the_end_mark_if_the_content_cannot_be_read() -> None:
    content = b"1\n2\n3\n" + COPY_END

    def parts() -> Iterator[bytes]:
        yield content[:4]
        raise BackupDamaged("an object is damaged")

    shared = SharedRows(file_of(content), parts())
    first, second = shared.take(), shared.take()
    assert next(first) == b"1\n2\n"
    for taker in (first, second, shared.take()):
        with pytest.raises(BackupDamaged, match="an object is damaged"):
            next(taker)


def test_a_file_without_the_end_mark_is_damaged() -> None:
    content = b"1\n2\n3\n4\n5\n"
    with pytest.raises(BackupDamaged, match=r"1\.dat doesn't end with the mark"):
        list(SharedRows(file_of(content), iter([content])).take())


def test_no_program_goes_on_within_the_row_of_a_program_that_has_ended() -> None:
    content = b"1\nlong row\n2\n" + COPY_END
    shared = SharedRows(file_of(content), pieces(content, [4, 2, 5]))
    with closing(shared.take()) as first:
        assert [next(first), next(first)] == [b"1\n", b"lo"]
    assert b"".join(shared.take()) == b"2\n" + COPY_END
