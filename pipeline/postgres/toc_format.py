"""The bytes of a table of contents: ``toc.dat`` in the directory and tar formats, or the beginning of an archive in the custom format.

The format is PostgreSQL's: ``ReadHead`` and ``ReadToc`` in ``src/bin/pg_dump/pg_backup_archiver.c``, versions 1.12 (PostgreSQL 9) to 1.16
(PostgreSQL 17 and 18). ``pg_restore --list`` wouldn't do: it leaves out the dependencies, and its lines can't be parsed if a name holds
spaces or newlines.
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
    """Return the table of contents at the beginning of the bytes.

    Raises TocCutShort if the table of contents ends too early, or DumpFailed if it is damaged or of an unknown version.
    """
    try:
        server_version, _ = _Reader(data).head()
        text = partial(shown, encoding=_encoding(_raw_entries(data)))
        entries = tuple(entry.decoded(text) for entry in _raw_entries(data))
    except ValueError as exc:
        raise DumpFailed(f"The archive's toc.dat is damaged: {exc}.") from exc
    return Toc(text(server_version or b""), entries)


@dataclass(frozen=True, slots=True)
class TocParts:
    """The bytes of a table of contents, by entry."""

    head: bytes
    """The bytes before the number of entries."""
    int_size: int
    entries: Mapping[int, tuple[bytes, bytes]]
    """By dump ID: the bytes of the entry up to its last dependency, and the bytes after it."""

    @classmethod
    def of(cls, data: bytes) -> "TocParts":
        """Divide a table of contents that :func:`read_toc` has read."""
        reader = _Reader(data)
        _, count = reader.head()
        head = data[: reader.at - reader.int_size - 1]
        entries = {}
        for _ in range(count):
            entry = reader.entry()
            end = entry.end_of_dependencies
            entries[entry.dump_id] = (data[entry.start : end], data[end : reader.at])
        return cls(head, reader.int_size, entries)

    def select(self, dump_ids: Sequence[int], more: Mapping[int, Sequence[int]] = MappingProxyType({})) -> bytes:
        """Return a table of contents with only these entries, in this order.

        ``more`` has further dependencies of an entry, by the entry's dump ID.

        Dependencies on entries that aren't selected stay: pg_restore takes them for done. ``more`` come last in each entry, since the first
        dependency of a table's data is its table. Raises KeyError for an unknown dump ID.
        """
        parts = [self.head, _encode_int(len(dump_ids), self.int_size)]
        for dump_id in dump_ids:
            before, after = self.entries[dump_id]
            parts += [before, *(_encode_dependency(other, self.int_size) for other in more.get(dump_id, ())), after]
        return b"".join(parts)


def rewrite(data: bytes, change: Callable[[TocEntry], TocEntry]) -> bytes:
    """Return the table of contents with changed entries. ``change`` may change tags, definitions, DROP and COPY statements, and owners.

    Raises InvalidRequest if the archive's encoding lacks a character of a changed text.
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
                out += data[copied:start] + _encode_int(len(value), reader.int_size) + value
                copied = start + 1 + reader.int_size + len(getattr(entry, name) or b"")
    return bytes(out + data[copied:])


@dataclass(frozen=True, slots=True)
class _RawEntry:
    start: int
    """The offset of the entry, and of its dump ID."""
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
    """The dump ID of each dependency, and the offset of the string that holds it."""
    end_of_dependencies: int
    """The offset of the string that ends the list of dependencies."""
    starts: Mapping[str, int]
    """The offsets of the strings that :func:`rewrite` may change, by the names of this class's fields, in the order of the offsets."""

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
    """Reads numbers and strings one after another, as ``ReadInt`` and ``ReadStr`` do."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0
        """Offset of the next byte."""
        self.int_size = 4
        self._offset_size = 8
        self._format = 0
        self.version = (0, 0)

    def head(self) -> tuple[bytes | None, int]:
        """Return the server's version and the number of entries. Raises DumpFailed if the bytes aren't an archive of a known format."""
        if self._take(5) != b"PGDMP":
            raise DumpFailed("The archive's toc.dat is not a PostgreSQL archive's table of contents.")
        major, minor, _revision, self.int_size, self._offset_size, self._format = self._take(6)
        self.version = (major, minor)
        if not OLDEST <= self.version <= NEWEST:
            raise DumpFailed(
                f"The archive's format {major}.{minor} is not known to this pgstow, which knows 1.12 to 1.16; use a newer pgstow."
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
        start = self.at
        dump_id = self._int()
        self._int()  # 1 if pg_dump had a function that dumps the entry's data
        self._str()  # the catalog's OID
        oid = self._str()
        starts = {"tag": self.at}
        tag, description = self._str(), self._str()
        section = self._int()
        starts["definition"] = self.at
        definition = self._str()
        starts["drop_statement"] = self.at
        drop_statement = self._str()
        starts["copy_statement"] = self.at
        copy_statement, namespace = self._str(), self._str()
        self._str()  # tablespace
        if self.version >= (1, 14):
            self._str()  # table access method
        if self.version >= (1, 16):
            self._int()  # relkind
        starts["owner"] = self.at
        owner = self._str()
        self._str()  # with OIDs
        dependencies = []
        while True:
            at = self.at
            digits = self._str()
            if digits is None:
                break
            dump_id_needed = int(digits)
            if str(dump_id_needed).encode() != digits:
                raise ValueError("a dependency is not a number")
            dependencies.append((dump_id_needed, at))
        if self._format == _CUSTOM:
            filename = None
            self._take(1 + self._offset_size)  # the offset of the data, if known
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

    def _take(self, size: int) -> bytes:
        taken = self._data[self.at : self.at + size]
        if len(taken) != size:
            raise TocCutShort("The archive's toc.dat is cut short.")
        self.at += size
        return taken

    def _int(self) -> int:
        negative = self._take(1)[0]
        magnitude = int.from_bytes(self._take(self.int_size), "little")
        return -magnitude if negative else magnitude

    def _str(self) -> bytes | None:
        size = self._int()
        return None if size < 0 else self._take(size)


def _encode_int(value: int, size: int) -> bytes:
    """Return a number as the file has it (``WriteInt``): a sign byte, then the magnitude, lowest byte first."""
    return bytes([value < 0]) + abs(value).to_bytes(size, "little")


def _encode_dependency(dump_id: int, size: int) -> bytes:
    """Return a dependency as the file has it: ``WriteStr`` of the digits."""
    digits = str(dump_id).encode()
    return _encode_int(len(digits), size) + digits


def _raw_entries(data: bytes) -> Iterator[_RawEntry]:
    """Yield the entries one by one. All raw entries at once would take several times the memory of the parsed entries.

    Raises TocCutShort, DumpFailed or ValueError if the table of contents can't be read.
    """
    reader = _Reader(data)
    _, count = reader.head()
    for _ in range(count):
        yield reader.entry()


def _encoding(entries: Iterable[_RawEntry]) -> str:
    """Return PostgreSQL's name of the archive's encoding: the client encoding that the entry ENCODING sets."""
    for entry in entries:
        if entry.description == b"ENCODING":
            match = re.search(rb"'([^']+)'", entry.definition or b"")
            return match[1].decode("ascii") if match else "UTF8"
    return "UTF8"
