"""Reads a table of contents while pg_dump's output arrives. Keeps only the entries whose data have files."""

from collections.abc import Callable
from functools import partial

from pipeline.errors import DumpFailed
from pipeline.postgres.encodings import shown
from pipeline.postgres.toc import DataEntry
from pipeline.postgres.toc_format import TocCutShort, TocReader

_STEP = 256 * 1024
"""Bytes that are read at once. A part may have many megabytes, and each try to read copies all bytes that have come."""


class DataEntryReader:
    """Takes the parts of a ``toc.dat``, one after another, and reads each entry once. It holds no part for longer than needed.

    Both methods raise DumpFailed if the table of contents is damaged or of an unknown version.
    """

    def __init__(self) -> None:
        self._head = b""
        """The bytes before the first entry; empty until they have come."""
        self._rest = bytearray()
        """The bytes that don't make a whole entry yet."""
        self._tried = 0
        """The bytes of ``_rest`` that are known not to make a whole entry."""
        self._missing = 0
        """The number of entries that haven't come."""
        self._decode: Callable[[bytes], str] = bytes.decode
        self._found: list[DataEntry] = []

    def take(self, part: bytes) -> None:
        """Take the next part."""
        for start in range(0, len(part), _STEP):
            self._rest += part[start : start + _STEP]
            if len(self._rest) >= 2 * self._tried:  # so that a long entry isn't tried at each step
                self._read()

    def finish(self) -> list[DataEntry]:
        """Return the entries that have files, in the archive's order. Raises TocCutShort if a part is missing."""
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
                if entry := reader.data_entry(raw, self._decode):
                    self._found.append(entry)
                at = raw.end
                self._missing -= 1
        finally:
            del self._rest[: at - reader.first]
