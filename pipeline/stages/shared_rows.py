"""Deals the rows of one table to several programs, so that several sessions load the table at the same time."""

import threading
from collections.abc import Generator, Iterable, Iterator

from pipeline.catalog.manifest import File
from pipeline.errors import BackupDamaged
from pipeline.postgres.dump import COPY_END


class SharedRows:
    """The rows of a table's file. Each program takes blocks of whole rows, as fast as it loads them.

    COPY's text has a line break at the end of each row, and nowhere else. So a block may begin after any line break.
    ``parts`` has the content of ``file``, and is read once.
    """

    def __init__(self, file: File, parts: Iterator[bytes]) -> None:
        self._blocks = whole_rows(_without_end(file, parts))
        self._turn = threading.Lock()
        self._last = b""
        """The last block that was dealt."""
        self._failure: BaseException | None = None

    def take(self) -> Generator[bytes]:
        """Yield the rows that one program gets, then COPY's end mark. Each program has its own thread, which calls this once.

        No program gets the end mark before all rows are dealt. If the content can't be read, each thread raises the error, and no program gets
        the end mark. If a program ends too early, its rows are lost, and the others still get theirs.
        """
        while True:
            with self._turn:
                while _is_cut(self._last):  # the program that got the beginning of this row has ended
                    self._next()
                block = self._next()
                while _is_cut(block):  # one program gets all of a row
                    yield block
                    block = self._next()
            if not block:
                break
            yield block
        yield COPY_END

    def _next(self) -> bytes:
        """Return the next block; empty after the last."""
        if self._failure is not None:
            raise self._failure
        try:
            self._last = next(self._blocks, b"")
        except BaseException as exc:
            self._failure = exc
            raise
        return self._last


def _is_cut(block: bytes) -> bool:
    """True if the block ends before its last row ends."""
    return bool(block) and not block.endswith(b"\n")


def whole_rows(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the content of the parts in blocks that end where rows end.

    A row that is longer than a part may come in several blocks. Only the last of these blocks ends where a row ends. No block is empty, or
    longer than two parts.
    """
    begun = b""
    for part in parts:
        end = part.rfind(b"\n") + 1
        if block := begun + part[:end]:
            yield block
        begun = part[end:]
    if begun:
        yield begun


def _without_end(file: File, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the parts of the file without COPY's end mark. Raises BackupDamaged if the file doesn't end with the mark."""
    left, tail = file.size - len(COPY_END), b""
    for part in parts:
        tail = (tail + part[-len(COPY_END) :])[-len(COPY_END) :]
        yield part[:left]
        left -= min(left, len(part))
    if tail != COPY_END:
        raise BackupDamaged(f"{file.path} doesn't end with the mark that pg_dump writes after a table's rows.")
