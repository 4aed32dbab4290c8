"""Joins the rows of a table's ranges into the pieces of the table's file."""

from collections import deque
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

    def put_in(self, rows: Rows) -> None:
        """Take the next rows. After a table's last rows, COPY's end mark follows."""
        self.ended = rows.ended
        for part in (*rows.parts, *([COPY_END] if rows.ended and self.last else [])):
            self.parts.append(memoryview(part))
            self.held += len(part)

    def take_out(self, size: int) -> memoryview:
        """Return rows from the first part, ``size`` bytes at most."""
        part = self.parts.popleft()
        if len(part) > size:
            self.parts.appendleft(part[size:])
        self.held -= min(size, len(part))
        return part[:size]


class RangeJoiner:
    """Takes ranges in the order of their rows, and makes pieces of ``piece_size`` bytes. Only the last piece of a file may be smaller.

    The ranges get their rows in any order.
    """

    def __init__(self, piece_size: int) -> None:
        self._piece_size = piece_size
        self._ranges = deque[Range]()
        """The ranges whose rows aren't all in pieces. A piece may have the end of one range and the beginning of the table's next range."""
        self._index = 0
        """The number of the next piece in its file."""

    @property
    def unfinished(self) -> bool:
        """True if rows are still to come, or wait for a piece."""
        return bool(self._ranges)

    @property
    def current(self) -> Range | None:
        """The first range whose rows haven't all come; None if there is none."""
        return next((one for one in self._ranges if not one.ended), None)

    @property
    def file(self) -> str | None:
        """The file of the next piece; None if no range is left."""
        return self._ranges[0].file if self._ranges else None

    def add(self, following: Range) -> None:
        """Take the next range. Its rows may come later."""
        self._ranges.append(following)

    def next_size(self) -> int | None:
        """Return the size of the next piece in bytes; None if its rows haven't all come."""
        come = 0
        for one in self._ranges:
            come += one.held
            if come > self._piece_size:
                return self._piece_size
            if not one.ended:
                return None
            if one.last:
                return come
        return None

    def cut(self, size: int) -> Piece:
        """Return the next piece. ``size`` is the number that :meth:`next_size` returned."""
        file, parts, last = self._ranges[0].file, list[memoryview](), False
        while size:
            first = self._ranges[0]
            while first.parts and size:
                parts.append(first.take_out(size))
                size -= len(parts[-1])
            if first.ended and not first.held:
                self._ranges.popleft()
                last = first.last
        piece = Piece(file, self._index, b"".join(parts), last)
        self._index = 0 if last else self._index + 1
        return piece
