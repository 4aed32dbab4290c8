"""The pieces of a table's file are those of its ranges' rows, in order."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.backup.range_joiner import Range, RangeJoiner
from pipeline.postgres.dump import COPY_END
from pipeline.postgres.range_session import Rows

PIECE = 10


@given(
    tables=st.lists(st.lists(st.lists(st.binary(max_size=25), max_size=4), min_size=1, max_size=4), max_size=3),
    order=st.randoms(use_true_random=False),
)
def test_the_pieces(tables: list[list[list[bytes]]], order: Random) -> None:
    """The ranges get their parts in any order."""
    joiner, waiting, pieces = RangeJoiner(PIECE), [], []
    for number, ranges in enumerate(tables):
        for index, parts in enumerate(ranges):
            one = Range(f"{number}.dat", b"", last=index == len(ranges) - 1)
            joiner.add(one)
            waiting.append((one, [Rows([part], ended=False) for part in parts] + [Rows([], ended=True)]))
    while waiting:
        chosen = waiting[order.randrange(len(waiting))]
        chosen[0].put_in(chosen[1].pop(0))
        if not chosen[1]:
            waiting.remove(chosen)
        while (size := joiner.next_size()) is not None:
            pieces.append(joiner.cut(size))
            assert len(pieces[-1].data) == size
    assert not joiner.unfinished
    for number, ranges in enumerate(tables):
        *full, last = [piece for piece in pieces if piece.name == f"{number}.dat"]
        assert all(len(piece.data) == PIECE and not piece.last for piece in full)
        assert last.last
        assert [piece.index for piece in (*full, last)] == list(range(len(full) + 1))
        rows = b"".join(part for parts in ranges for part in parts)
        assert b"".join(piece.data for piece in (*full, last)) == rows + COPY_END
    assert [piece.name for piece in pieces] == sorted(piece.name for piece in pieces)
