"""Adds the entries of tables' data to a table of contents, as pg_dump would have written them (``dumpTableData`` in pg_dump.c)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import DumpFailed
from pipeline.postgres.toc import Section
from pipeline.postgres.toc_edit import dependency_list, number, string
from pipeline.postgres.toc_format import TocReader


@dataclass(frozen=True, slots=True)
class ExtendedToc:
    """A table of contents with added entries."""

    data: bytes
    files: Mapping[int, str]
    """The name of each added entry's file, by the table's OID."""


@dataclass(slots=True)
class _Found:
    """The parts of a table of contents that matter for the new entries. A place is an offset in its bytes."""

    tables: dict[int, dict[str, Any]]
    """The fields of the tables' entries, by OID."""
    dumped: dict[tuple[bytes, bytes], tuple[int, int]]
    """The begin and the end of each entry of a table's data, by schema and name, in order."""
    with_data: set[int]
    """The OIDs of the tables whose data have entries."""
    rest: int
    """The place of the first entry that comes after all tables' data."""
    highest: int
    """The highest dump ID."""


def archive_encoding(toc: bytes) -> str:
    """Return PostgreSQL's name of the archive's encoding. Raises DumpFailed if the table of contents can't be read."""
    try:
        return TocReader(toc).encoding()
    except ValueError as exc:
        raise DumpFailed(f"The archive's toc.dat is damaged: {exc}.") from exc


def add_table_data(toc: bytes, statements: Mapping[int, bytes]) -> ExtendedToc:
    """Add an entry for the data of each table in ``statements``, unless the table's data already have an entry.

    ``statements`` has the tables' COPY statements, in the archive's encoding, by OID. The entries get new dump IDs, and stand where pg_dump
    would have sorted them: by schema and name. Raises DumpFailed if ``toc`` lacks a table, or can't be read.
    """
    try:
        reader = TocReader(toc)
        found = _look_through(reader, statements, len(toc))
    except ValueError as exc:
        raise DumpFailed(f"The archive's toc.dat is damaged: {exc}.") from exc
    if missing := statements.keys() - found.tables.keys():
        raise DumpFailed(
            f"pg_dump left out the table with the OID {min(missing)}, although pgstow was to dump the table's rows."
        )
    added: list[tuple[int, tuple[bytes, bytes], bytes]] = []
    files: dict[int, str] = {}
    for oid in sorted(statements.keys() - found.with_data):
        table, dump_id = found.tables[oid], found.highest + 1 + len(files)
        files[oid] = f"{dump_id}.dat"
        name = (table["namespace"], table["tag"])
        added.append((_place(found, name), name, _entry(reader, table, dump_id, statements[oid])))
    return ExtendedToc(b"".join(_inserted(toc, reader, sorted(added))), files)


def _look_through(reader: TocReader, tables: Mapping[int, bytes], end: int) -> _Found:
    found, rest = _Found({}, {}, set(), 0, 0), 0
    wanted = {str(oid).encode() for oid in tables}
    for start, raw in reader.raw_entries():
        fields = dict(zip(reader.fields, raw.values, strict=True))
        found.highest = max(found.highest, fields["dump_id"], *raw.dependencies)
        if fields["description"] == b"TABLE DATA":
            found.dumped[fields["namespace"], fields["tag"]] = (start, raw.end)
            found.with_data.add(int(fields["oid"]))
        elif fields["description"] == b"TABLE" and fields["oid"] in wanted:
            found.tables[int(fields["oid"])] = fields
        elif not rest and fields["section"] in (Section.DATA, Section.POST_DATA):
            rest = start
    found.rest = rest or end
    return found


def _place(found: _Found, name: tuple[bytes, bytes]) -> int:
    for other, (start, _) in found.dumped.items():
        if other > name:
            return start
    return max((end for _, end in found.dumped.values()), default=found.rest)


def _entry(reader: TocReader, table: Mapping[str, Any], dump_id: int, copy_statement: bytes) -> bytes:
    values: dict[str, Any] = {
        "dump_id": dump_id,
        "has_dumper": 1,
        "catalog": b"0",
        "oid": table["oid"],
        "tag": table["tag"],
        "description": b"TABLE DATA",
        "section": Section.DATA,
        "copy_statement": copy_statement,
        "namespace": table["namespace"],
        "relation_kind": 0,
        "owner": table["owner"],
        "with_oids": b"false",
    }
    written = (values.get(name) for name in reader.fields)
    fields = b"".join(number(value) if isinstance(value, int) else string(value) for value in written)
    return fields + dependency_list([table["dump_id"]]) + string(None) + string(f"{dump_id}.dat".encode())


def _inserted(toc: bytes, reader: TocReader, added: list[tuple[int, tuple[bytes, bytes], bytes]]) -> Iterator[bytes]:
    yield toc[: reader.end_of_head] + number(reader.count + len(added))
    at = reader.first
    for place, _, entry in added:
        yield toc[at:place]
        yield entry
        at = place
    yield toc[at:]
