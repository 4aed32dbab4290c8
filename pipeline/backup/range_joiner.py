"""Joins the rows of a table's ranges into the pieces of the table's file."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.postgres.dump import COPY_END
from pipeline.postgres.range_session import Rows
from pipeline.stages.spool import Piece


@dataclass(slots=True, eq=False)
class Range:
    """A range of a table that a session dumps."""

    file: str
    """The name of the table's file."""
    statement: bytes
    """The statement that writes the rows."""
    last: bool
    """True for the last range of its table."""
    parts: deque[memoryview] = field(default_factory=deque)
    """The rows that were read and are in no piece."""
    held: int = 0
    """The bytes of ``parts``."""
    ended: bool = False
    """True if all rows were read."""

    def take(self, rows: Rows) -> None:
        """Take the next rows. After a table's last rows, COPY's end mark follows."""
        self.ended = rows.ended
        for part in (*rows.parts, *([COPY_END] if rows.ended and self.last else [])):
            self.parts.append(memoryview(part))
            self.held += len(part)


class RangeJoiner:
    """Takes ranges in the order of their rows, and returns pieces of ``piece_size`` bytes. Only the last piece of a file may be smaller.

    A range may get its rows in any order relative to other ranges. At most two pieces of rows are in no range and were not returned.
    """

    def __init__(self, piece_size: int) -> None:
        self._piece_size = piece_size
        self._ranges = deque[Range]()
        self._parts = deque[memoryview]()
        """The rows of the next piece."""
        self._size = 0
        """The bytes of ``_parts``."""
        self._index = 0
        """The number of the next piece in its file."""

    @property
    def unfinished(self) -> bool:
        """True if rows are still to come, or wait for a piece."""
        return bool(self._ranges)

    @property
    def current(self) -> Sequence[str]:
        """The file whose rows come next; empty if there is none."""
        return [self._ranges[0].file] if self._ranges else []

    def add(self, of_table: Range) -> None:
        """Take the next range. Its rows may come later."""
        self._ranges.append(of_table)

    def next_piece(self) -> Piece | None:
        """Return the next piece; None if its rows haven't come."""
        while self._ranges:
            first = self._ranges[0]
            while first.parts and self._size <= self._piece_size:
                part = first.parts.popleft()
                first.held -= len(part)
                self._parts.append(part)
                self._size += len(part)
            if self._size > self._piece_size:
                return self._cut(first.file, self._piece_size, last=False)
            if not first.ended:
                return None
            self._ranges.popleft()
            if first.last:
                return self._cut(first.file, self._size, last=True)
        return None

    def _cut(self, file: str, size: int, *, last: bool) -> Piece:
        taken, missing = list[memoryview](), size
        while missing:
            part = self._parts.popleft()
            taken.append(part[:missing])
            if len(part) > missing:
                self._parts.appendleft(part[missing:])
            missing -= len(taken[-1])
        self._size -= size
        piece = Piece(file, self._index, b"".join(taken), last)
        self._index = 0 if last else self._index + 1
        return piece
