"""The entries of an archive's table of contents, with the names of ``pg_backup_archiver.c``.

``toc_format`` reads the bytes, and ``toc_edit`` changes them.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

_NAME = r'(?:"(?:[^"]|"")+"|[^\s".(]+)'
_COPY = re.compile(rf"COPY (?P<target>(?:{_NAME}\.)?(?P<name>{_NAME})) (?P<columns>\(.*\))? ?FROM stdin;\s*", re.DOTALL)
"""The statement for a table's data (``dumpTableData`` in pg_dump.c). It names all columns except generated columns."""

_BY_ROOT = "-- load via partition root "
"""The beginning of the definition of table data whose rows are loaded by way of the partitioned table (``dumpTableData`` in pg_dump.c)."""


class Section(IntEnum):
    """``teSection`` in ``pg_backup.h``."""

    NONE = 1
    PRE_DATA = 2
    DATA = 3
    POST_DATA = 4


@dataclass(frozen=True, slots=True)
class TocEntry:
    """One entry of the table of contents: an object, or data of an object."""

    dump_id: int
    oid: int
    """The object's OID in its catalog, on the server that was dumped; 0 if the object has none."""
    description: str
    """The entry's kind, by pg_dump's name: ``TABLE DATA``, ``INDEX``, ``SEQUENCE SET`` and so on."""
    section: Section
    namespace: str
    tag: str
    """The object's name; for a dependent object ``table name`` or ``KIND name``, as pg_dump writes it."""
    filename: str
    """The file of the archive that holds the entry's data; empty if it has no file."""
    dependencies: tuple[int, ...]
    """The dump IDs of the entries that must be restored before this entry."""
    owner: str
    """The role that owns the object; empty if it has no owner."""
    definition: str
    """The SQL that makes the object; empty for data."""
    drop_statement: str
    """The SQL that drops the object; empty if the object goes when another object is dropped."""
    copy_statement: str
    """``COPY schema.name (columns) FROM stdin;`` of a table's data; empty for other entries."""
    start: int = field(default=0, compare=False)
    """The offset of the entry in the bytes of the table of contents."""
    end: int = field(default=0, compare=False)
    """The offset after the entry in these bytes."""

    @property
    def copied_table(self) -> str | None:
        """The table that COPY loads, as SQL. None if the entry has no data of a table, or if COPY loads the partitioned table instead."""
        match = _COPY.fullmatch(self.copy_statement)
        if match is None or self.definition.startswith(_BY_ROOT):
            return None
        name = match["name"]
        # Dumps from before 2023 lack the comment _BY_ROOT. Only COPY's target shows that their rows are loaded by way of the partitioned
        # table (is_load_via_partition_root in pg_backup_archiver.c).
        same = (name[1:-1].replace('""', '"') if name.startswith('"') else name) == self.tag
        return match["target"] if same else None

    @property
    def columns(self) -> str:
        """The columns of a table's data, in parentheses and in the order of the data; empty if there are none."""
        match = _COPY.fullmatch(self.copy_statement)
        return (match and match["columns"]) or ""


class DataEntry(NamedTuple):
    """An entry whose data has a file, with the fields that a backup needs. :class:`TocEntry` describes the fields.

    A dataclass would take four times as long to make.
    """

    dump_id: int
    oid: int
    description: str
    namespace: str
    tag: str
    filename: str


@dataclass(frozen=True, slots=True)
class Toc:
    """A whole table of contents, in the archive's order."""

    server_version: str
    entries: tuple[TocEntry, ...]

    @property
    def data_entries(self) -> tuple[TocEntry, ...]:
        """The entries whose data have a file."""
        return tuple(entry for entry in self.entries if entry.filename)

    @property
    def has_large_objects(self) -> bool:
        """True if the archive has the data of large objects."""
        return any(entry.description == "BLOBS" for entry in self.entries)

    @property
    def has_statistics(self) -> bool:
        """True if the archive has the planner's statistics on tables and indexes."""
        return any(entry.description == "STATISTICS DATA" for entry in self.entries)

    def with_needed(self, dump_ids: Iterable[int]) -> tuple[TocEntry, ...]:
        """Return the entries with these dump IDs, and all entries on which they depend, directly or not."""
        by_id = {entry.dump_id: entry for entry in self.entries}
        found = {dump_id: None for dump_id in dump_ids if dump_id in by_id}
        waiting = list(found)
        while waiting:
            fresh = [other for other in by_id[waiting.pop()].dependencies if other in by_id and other not in found]
            found |= dict.fromkeys(fresh)
            waiting += fresh
        return tuple(by_id[dump_id] for dump_id in found)

    @property
    def encoding(self) -> str:
        """The encoding of the tables' data, by PostgreSQL's name."""
        definitions = [entry.definition for entry in self.entries if entry.description == "ENCODING"]
        match = re.search(r"'([^']+)'", definitions[0]) if definitions else None
        return match[1] if match else "UTF8"

    @property
    def backslashes_escape(self) -> bool:
        """True if pg_dump wrote the SQL with ``standard_conforming_strings`` off: it then doubles each backslash in a literal."""
        return any(entry.description == "STDSTRINGS" and "'off'" in entry.definition for entry in self.entries)
