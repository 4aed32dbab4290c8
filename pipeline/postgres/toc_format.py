"""The bytes of a table of contents: ``toc.dat`` of the directory format and of the tar format, or the beginning of a custom-format archive.

The format is PostgreSQL's: ``ReadHead`` and ``ReadToc`` in ``src/bin/pg_dump/pg_backup_archiver.c``, versions 1.12 (PostgreSQL 9)
to 1.16 (PostgreSQL 17 and 18). ``pg_restore --list`` leaves out the dependencies, and its lines can't be parsed if a name
holds spaces or newlines.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from pipeline.errors import DumpFailed, InvalidRequest
from pipeline.postgres.encodings import python_codec, shown
from pipeline.postgres.toc import Section, Toc, TocEntry

OLDEST, NEWEST = (1, 12), (1, 16)
_CUSTOM = 1
"""``archCustom`` in ``pg_backup_archiver.h``."""


class TocCutShort(DumpFailed):
    """A table of contents that ends too early."""


def read_toc(data: bytes) -> Toc:
    """Parse a table of contents. Other bytes may follow it.

    Raises TocCutShort if the table of contents ends too early, or DumpFailed if it is damaged or of an unknown version.
    """
    try:
        server_version, _ = _Reader(data).head()
        text = partial(shown, encoding=_encoding(_raw_entries(data)))
        entries = tuple(entry.decoded(text) for entry in _raw_entries(data))
    except ValueError as exc:
        raise DumpFailed(f"The archive's toc.dat is damaged: {exc}.") from exc
    return Toc(text(server_version or b""), entries)


def renumber(
    data: bytes, new_ids: Mapping[int, int], more: Mapping[int, Sequence[int]] = MappingProxyType({})
) -> bytes:
    """Return the same table of contents with other dump IDs, in the entries and in the dependencies on them, and with ``more`` dependencies.

    A dump ID is only a label within one archive. But parallel pg_restore starts entries of equal size in the order of their dump IDs
    (``TocEntrySizeCompare``), so a permutation of the IDs chooses the order. Order and content of the entries stay. ``more`` has the
    archive's old dump IDs. Its dependencies come last in each entry, since the first dependency of a table's data is its table.
    """
    reader = _Reader(data)
    _, count = reader.head()
    out, copied = bytearray(), 0
    for _ in range(count):
        entry = reader.entry()
        if entry.dump_id in new_ids:
            out += data[copied : entry.start] + reader.encode_int(new_ids[entry.dump_id])
            copied = entry.start + 1 + reader.int_size
        for dump_id, start in entry.dependencies:
            if dump_id in new_ids:
                out += data[copied:start] + reader.encode_dependency(new_ids[dump_id])
                copied = start + 1 + reader.int_size + len(str(dump_id))
        for dump_id in more.get(entry.dump_id, ()):
            out += data[copied : entry.end_of_dependencies] + reader.encode_dependency(new_ids.get(dump_id, dump_id))
            copied = entry.end_of_dependencies
    return bytes(out + data[copied:])


def rewrite(data: bytes, change: Callable[[TocEntry], TocEntry]) -> bytes:
    """Return the table of contents with the tags, definitions, DROP statements and owners that ``change`` gives its entries.

    Raises InvalidRequest if the archive's encoding lacks a character of them.
    """
    reader, encoding = _Reader(data), _encoding(_raw_entries(data))
    reader.head()
    codec = python_codec(encoding)
    out, copied = bytearray(), 0
    for entry in _raw_entries(data):
        before = entry.decoded(lambda value: value.decode(codec, "surrogateescape"))
        after = change(before)
        for name, start in entry.starts.items():
            old, new = getattr(before, name), getattr(after, name)
            if new != old:
                try:
                    value = new.encode(codec, "surrogateescape")
                except UnicodeEncodeError as exc:
                    raise InvalidRequest(
                        f"The archive's encoding, {encoding}, has no character {exc.object[exc.start]!r}, which a new name has."
                    ) from exc
                out += data[copied:start] + reader.encode_int(len(value)) + value
                copied = start + 1 + reader.int_size + len(getattr(entry, name) or b"")
    return bytes(out + data[copied:])


@dataclass(frozen=True, slots=True)
class _RawEntry:
    start: int
    """Offset of the entry, which begins with its dump ID."""
    dump_id: int
    oid: bytes | None
    tag: bytes | None
    description: bytes | None
    section: int
    definition: bytes | None
    drop_statement: bytes | None
    copy_statement: bytes | None
    namespace: bytes | None
    owner: bytes | None
    filename: bytes | None
    dependencies: tuple[tuple[int, int], ...]
    """Dump ID and the offset of the string that holds it."""
    end_of_dependencies: int
    """Offset of the string that ends the list of dependencies."""
    starts: Mapping[str, int]
    """Offsets of the strings that may be changed, in their order, by the names of this class's fields."""

    def decoded(self, decode: Callable[[bytes], str]) -> TocEntry:
        """Return the entry with its strings decoded by ``decode``. Raises ValueError if a number isn't valid."""

        def text(value: bytes | None) -> str:
            return decode(value or b"")

        return TocEntry(
            dump_id=self.dump_id,
            oid=int(self.oid or 0),
            description=text(self.description),
            section=Section(self.section),
            namespace=text(self.namespace),
            tag=text(self.tag),
            filename=text(self.filename),
            dependencies=tuple(dump_id for dump_id, _ in self.dependencies),
            owner=text(self.owner),
            definition=text(self.definition),
            drop_statement=text(self.drop_statement),
            copy_statement=text(self.copy_statement),
        )


class _Reader:
    """Walks the bytes as ``ReadInt`` and ``ReadStr`` do."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.int_size = 4
        self._offset_size = 8
        self._format = 0
        self.version = (0, 0)

    def head(self) -> tuple[bytes | None, int]:
        """Return the server's version and the number of entries. Raises DumpFailed if this isn't a known archive."""
        if self._take(5) != b"PGDMP":
            raise DumpFailed("The archive's toc.dat is not a PostgreSQL archive's table of contents.")
        major, minor, _revision, self.int_size, self._offset_size, self._format = self._take(6)
        self.version = (major, minor)
        if not OLDEST <= self.version <= NEWEST:
            raise DumpFailed(
                f"The archive's format {major}.{minor} is not known to this pgstow (it knows 1.12 to 1.16); use a newer pgstow."
            )
        if self.version >= (1, 15):
            self._take(1)  # the compression's algorithm
        else:
            self._int()  # the compression's level
        for _ in range(7):
            self._int()  # struct tm
        self._str()  # the database's name
        server_version = self._str()
        self._str()  # pg_dump's version
        return server_version, self._int()

    def entry(self) -> _RawEntry:
        start = self._at
        dump_id = self._int()
        self._int()  # whether it had a dumper
        self._str()  # the catalog's OID
        oid = self._str()
        starts = {"tag": self._at}
        tag, description = self._str(), self._str()
        section = self._int()
        starts["definition"] = self._at
        definition = self._str()
        starts["drop_statement"] = self._at
        drop_statement = self._str()
        copy_statement, namespace = self._str(), self._str()
        self._str()  # tablespace
        if self.version >= (1, 14):
            self._str()  # table access method
        if self.version >= (1, 16):
            self._int()  # relkind
        starts["owner"] = self._at
        owner = self._str()
        self._str()  # with OIDs
        dependencies = []
        while True:
            at = self._at
            digits = self._str()
            if digits is None:
                break
            dump_id_needed = int(digits)
            if str(dump_id_needed).encode() != digits:
                raise ValueError("a dependency is no number")
            dependencies.append((dump_id_needed, at))
        if self._format == _CUSTOM:
            filename = None
            self._take(1 + self._offset_size)  # where its data lies, if that is known
        else:
            filename = self._str()
        return _RawEntry(
            start=start,
            dump_id=dump_id,
            oid=oid,
            tag=tag,
            description=description,
            section=section,
            definition=definition,
            drop_statement=drop_statement,
            copy_statement=copy_statement,
            namespace=namespace,
            owner=owner,
            filename=filename,
            dependencies=tuple(dependencies),
            end_of_dependencies=at,
            starts=starts,
        )

    def encode_int(self, value: int) -> bytes:
        """Return a number as the file has it (``WriteInt``): a sign byte, then the magnitude, lowest byte first."""
        return bytes([value < 0]) + abs(value).to_bytes(self.int_size, "little")

    def encode_dependency(self, dump_id: int) -> bytes:
        """Return a dependency as the file has it: ``WriteStr`` of the digits."""
        digits = str(dump_id).encode()
        return self.encode_int(len(digits)) + digits

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise TocCutShort("The archive's toc.dat is cut short.")
        self._at += size
        return taken

    def _int(self) -> int:
        negative = self._take(1)[0]
        magnitude = int.from_bytes(self._take(self.int_size), "little")
        return -magnitude if negative else magnitude

    def _str(self) -> bytes | None:
        size = self._int()
        return None if size < 0 else self._take(size)


def _raw_entries(data: bytes) -> Iterator[_RawEntry]:
    """Yield the entries one by one: all of them at once would take several times the memory of the parsed entries.

    Raises TocCutShort, DumpFailed or ValueError if the table of contents can't be read.
    """
    reader = _Reader(data)
    _, count = reader.head()
    for _ in range(count):
        yield reader.entry()


def _encoding(entries: Iterable[_RawEntry]) -> str:
    """Return the encoding of the archive's strings, by PostgreSQL's name: the client encoding that its ENCODING entry sets."""
    for entry in entries:
        if entry.description == b"ENCODING":
            match = re.search(rb"'([^']+)'", entry.definition or b"")
            return match[1].decode("ascii") if match else "UTF8"
    return "UTF8"
