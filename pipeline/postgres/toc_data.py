"""Reads a table of contents while pg_dump's output arrives. Keeps only the entries whose data have files."""

from collections import deque
from collections.abc import Callable
from functools import cache, partial

from pipeline.errors import DumpFailed
from pipeline.postgres.encodings import shown
from pipeline.postgres.toc import DataEntry
from pipeline.postgres.toc_format import TocCutShort, TocReader

_STEP = 64 * 1024
"""Bytes that are read at once: a few hundred entries, which take about a millisecond."""


class DataEntryReader:
    """Reads the parts of a ``toc.dat`` in short steps, and each entry once. The caller can do other work between the steps.

    Methods raise DumpFailed if the table of contents is damaged or of an unknown version.
    """

    def __init__(self) -> None:
        self._parts: deque[memoryview] = deque()
        """The parts that no step has read."""
        self._head = b""
        """The bytes before the first entry; empty until they have come."""
        self._rest = bytearray()
        """The bytes that don't make a whole entry yet."""
        self._tried = 0
        """The bytes of ``_rest`` that are known not to make a whole entry."""
        self._missing = 0
        """The number of entries that haven't come."""
        self._decode: Callable[[bytes], str] = bytes.decode
        self._shared = self._decode
        self._found: list[DataEntry] = []

    @property
    def unread(self) -> bool:
        """True if a part waits for a :meth:`step`."""
        return bool(self._parts)

    def take(self, part: bytes) -> None:
        """Take the next part."""
        self._parts.append(memoryview(part))

    def step(self) -> None:
        """Read the next entries of the parts that have come."""
        part = self._parts.popleft()
        self._rest += part[:_STEP]
        if len(part) > _STEP:
            self._parts.appendleft(part[_STEP:])
        if len(self._rest) >= 2 * self._tried:  # so that a long entry isn't tried at each step
            self._read()

    def finish(self) -> list[DataEntry]:
        """Return the entries that have files, in the archive's order. Raises TocCutShort if a part is missing."""
        while self.unread:
            self.step()
        self._read()
        if self._missing or not self._head:
            raise TocCutShort("The archive's toc.dat is cut short.")
        return self._found

    def _read(self) -> None:
        """Read the entries that have come."""
        try:
            reader = TocReader(self._head + self._rest)
            if not self._head:
                self._decode = partial(shown, encoding=reader.encoding())  # pg_dump writes the entry ENCODING first
                self._shared = cache(self._decode)
                self._missing = reader.count
                self._head = bytes(self._rest[: reader.first])
                del self._rest[: reader.first]
            self._read_entries(reader)
        except TocCutShort:
            self._tried = len(self._rest)
        except ValueError as exc:
            raise DumpFailed(f"The archive's toc.dat is damaged: {exc}.") from exc

    def _read_entries(self, reader: TocReader) -> None:
        at = reader.first
        try:
            while self._missing:
                raw = reader.raw_entry(at)
                if entry := reader.data_entry(raw, self._decode, self._shared):
                    self._found.append(entry)
                at = raw.end
                self._missing -= 1
        finally:
            del self._rest[: at - reader.first]
