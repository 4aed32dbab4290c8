"""The bytes of a table of contents: ``toc.dat`` in the directory and tar formats, or the beginning of an archive in the custom format.

The format is PostgreSQL's: ``ReadHead`` and ``ReadToc`` in ``src/bin/pg_dump/pg_backup_archiver.c``, versions 1.12 (PostgreSQL 9) to 1.16
(PostgreSQL 17 and 18). ``pg_restore --list`` wouldn't do: it leaves out the dependencies, and its lines can't be parsed if a name holds
spaces or newlines.
"""

import re
import struct
from collections.abc import Callable, Iterator
from functools import cache, partial
from operator import itemgetter
from typing import Any, NamedTuple

from pipeline.errors import DumpFailed
from pipeline.postgres.encodings import shown
from pipeline.postgres.toc import DataEntry, Section, Toc, TocEntry

OLDEST, NEWEST = (1, 12), (1, 16)
_CUSTOM = 1
"""``archCustom`` in ``pg_backup_archiver.h``."""
NUMBER = struct.Struct("<?I")
"""A number as ``WriteInt`` writes it: a sign byte, then the magnitude in four bytes, lowest byte first."""

_FIELDS = {
    "dump_id": OLDEST,
    "has_dumper": OLDEST,
    "catalog": OLDEST,
    "oid": OLDEST,
    "tag": OLDEST,
    "description": OLDEST,
    "section": OLDEST,
    "definition": OLDEST,
    "drop_statement": OLDEST,
    "copy_statement": OLDEST,
    "namespace": OLDEST,
    "tablespace": OLDEST,
    "access_method": (1, 14),
    "relation_kind": (1, 16),
    "owner": OLDEST,
    "with_oids": OLDEST,
}
"""The fields of an entry before its dependencies, in their order in the file, and the oldest version that has each field. In every
version, the dump ID is the first field."""
_NUMBERS = frozenset({"dump_id", "has_dumper", "section", "relation_kind"})
"""The fields that are numbers. The other fields are strings."""
_KEPT = (
    "dump_id",
    "oid",
    "description",
    "section",
    "namespace",
    "tag",
    "owner",
    "definition",
    "drop_statement",
    "copy_statement",
)
"""The fields that a :class:`TocEntry` has."""
_CHANGEABLE = frozenset({"tag", "definition", "drop_statement", "copy_statement", "owner"})
"""The fields that :mod:`toc_edit` may change."""
_CUT_SHORT = "The archive's toc.dat is cut short."


class TocCutShort(DumpFailed):
    """A table of contents that ends too early."""


def read_toc(data: bytes) -> Toc:
    """Return the table of contents at the beginning of the bytes.

    Raises TocCutShort if the table of contents ends too early, or DumpFailed if it is damaged or of an unknown version.
    """
    try:
        reader = TocReader(data)
        text = partial(shown, encoding=reader.encoding())
        return Toc(text(reader.server_version or b""), tuple(reader.entries(text)))
    except ValueError as exc:
        raise DumpFailed(f"The archive's toc.dat is damaged: {exc}.") from exc


class RawEntry(NamedTuple):
    """The fields of an entry, which aren't decoded."""

    values: list[Any]
    """A number, bytes or None for each of the reader's fields."""
    dependencies: tuple[int, ...]
    end_of_dependencies: int
    """The offset of the string that ends the list of dependencies."""
    filename: bytes | None
    end: int
    """The offset after the entry."""


class TocReader:
    """Reads a table of contents. Methods raise TocCutShort, DumpFailed or ValueError if it can't be read."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        """The offset of the head's next byte."""
        if self._take(5) != b"PGDMP":
            raise DumpFailed("The archive's toc.dat is not a PostgreSQL archive's table of contents.")
        major, minor, _revision, int_size, offset_size, self._format = self._take(6)
        self.offset_size: int = offset_size
        """Bytes of an offset in an archive of the custom format."""
        version = (major, minor)
        if not OLDEST <= version <= NEWEST:
            raise DumpFailed(
                f"The archive's format {major}.{minor} is not known to this pgstow, which knows 1.12 to 1.16; use a newer pgstow."
            )
        if 1 + int_size != NUMBER.size:
            raise ValueError(f"its numbers have {int_size} bytes")
        if version >= (1, 15):
            self._take(1)  # the compression's algorithm
        else:
            self._take_number()  # the compression's level
        for _ in range(7):
            self._take_number()  # struct tm
        self._take_string()  # the database's name
        self.server_version = self._take_string()
        self._take_string()  # pg_dump's version
        self.end_of_head = self._at
        """The offset of the number of entries."""
        self.count = self._take_number()
        """The number of entries."""
        if self.count < 0:
            raise ValueError(f"it has {self.count} entries")
        self.first = self._at
        """The offset of the first entry."""
        self.fields = [name for name, since in _FIELDS.items() if version >= since]
        """The names of an entry's fields before its dependencies, in order."""
        self._are_numbers = [name in _NUMBERS for name in self.fields]
        self._kept = itemgetter(*map(self.fields.index, _KEPT))

    def encoding(self) -> str:
        """Return PostgreSQL's name of the archive's encoding: the client encoding that the entry ENCODING sets."""
        description, definition = map(self.fields.index, ("description", "definition"))
        for _, entry in self.raw_entries():
            if entry.values[description] == b"ENCODING":
                match = re.search(rb"'([^']+)'", entry.values[definition] or b"")
                return match[1].decode("ascii") if match else "UTF8"
        return "UTF8"

    def entries(self, decode: Callable[[bytes], str]) -> Iterator[TocEntry]:
        """Yield the entries one by one, since all raw entries at once would take several times the memory of the entries.

        ``decode`` decodes strings.
        """

        def text(value: bytes | None) -> str:
            return decode(value) if value else ""

        # Most entries have one of few kinds, schemas and owners, which they share in memory.
        shared, section_of = cache(text), cache(Section)
        for start, raw in self.raw_entries():
            dump_id, oid, description, section, namespace, tag, owner, definition, dropping, copying = self._kept(
                raw.values
            )
            yield TocEntry(
                dump_id=dump_id,
                oid=int(oid or 0),
                description=shared(description),
                section=section_of(section),
                namespace=shared(namespace),
                tag=text(tag),
                filename=text(raw.filename),
                dependencies=raw.dependencies,
                owner=shared(owner),
                definition=text(definition),
                drop_statement=text(dropping),
                copy_statement=text(copying),
                start=start,
                end=raw.end,
            )

    def raw_entry(self, start: int) -> RawEntry:
        """Return the entry that begins at the offset ``start``."""
        data, at, unpack, width = self._data, start, NUMBER.unpack_from, NUMBER.size
        values: list[Any] = []
        dependencies: list[int] = []
        append = values.append
        try:
            for is_number in self._are_numbers:
                negative, size = unpack(data, at)
                at += width
                if is_number:
                    append(-size if negative else size)
                elif negative and size:
                    append(None)
                else:
                    append(data[at : (at := at + size)])
            while True:
                negative, size = unpack(data, at)
                if negative and size:
                    break
                at += width
                digits = data[at : (at := at + size)]
                if len(digits) != size:
                    raise TocCutShort(_CUT_SHORT)
                if not digits.isdigit():
                    raise ValueError("a dependency is not a number")
                dependencies.append(int(digits))
            end_of_dependencies, filename = at, None
            at += width
            if self._format == _CUSTOM:
                at += 1 + self.offset_size  # the offset of the data, if known
            else:
                negative, size = unpack(data, at)
                at += width
                if not (negative and size):
                    filename = data[at : at + size]
                    at += size
        except struct.error as exc:
            raise TocCutShort(_CUT_SHORT) from exc
        if at > len(data):
            raise TocCutShort(_CUT_SHORT)
        return RawEntry(values, tuple(dependencies), end_of_dependencies, filename, at)

    def data_entry(
        self, raw: RawEntry, decode: Callable[[bytes], str], shared: Callable[[bytes], str]
    ) -> DataEntry | None:
        """Return the entry if its data has a file; otherwise None. ``shared`` decodes strings that recur, and ``decode`` the others."""
        if not raw.filename:
            return None
        dump_id, oid, description, _, namespace, tag, *_ = self._kept(raw.values)
        return DataEntry(
            dump_id=dump_id,
            oid=int(oid or 0),
            description=shared(description or b""),
            namespace=shared(namespace or b""),
            tag=decode(tag or b""),
            filename=decode(raw.filename),
        )

    def changeable(self, start: int) -> Iterator[tuple[str, int, int]]:
        """Yield the name of each string that may change in the entry at the offset ``start``, and the offsets of its beginning and end."""
        at = start
        for name, value in zip(self.fields, self.raw_entry(start).values, strict=True):
            end = at + NUMBER.size + (len(value) if isinstance(value, bytes) else 0)
            if name in _CHANGEABLE:
                yield name, at, end
            at = end

    def raw_entries(self) -> Iterator[tuple[int, RawEntry]]:
        """Yield the offset of each entry, and the entry."""
        at = self.first
        for _ in range(self.count):
            entry = self.raw_entry(at)
            yield at, entry
            at = entry.end

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise TocCutShort(_CUT_SHORT)
        self._at += size
        return taken

    def _take_number(self) -> int:
        negative, magnitude = NUMBER.unpack(self._take(NUMBER.size))
        return int(-magnitude if negative else magnitude)

    def _take_string(self) -> bytes | None:
        size = self._take_number()
        return None if size < 0 else self._take(size)
