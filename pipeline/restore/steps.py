"""Divide a restore into steps, one after another. A step is one run of pg_restore, or several runs at the same time."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace

from pipeline.archive.reader import Archive
from pipeline.config import SplitTables
from pipeline.postgres.custom_archive import custom_toc
from pipeline.postgres.load_order import (
    in_order_of_an_index,
    outside_tables,
    partitions_of_others,
    turns_in_partition_trees,
)
from pipeline.postgres.restore_options import SECTIONS, RestoreOptions
from pipeline.postgres.toc import Section, Toc, TocEntry
from pipeline.postgres.toc_edit import rewrite, select
from pipeline.restore.shares import divide
from pipeline.stages.feed import Stream

_SETUP = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH"})
"""Kinds of entries that pg_restore always reads. Their settings give the SQL of all other entries the same meaning as in the dump."""
_AFTER_DATA = frozenset({"ACL", "ACL LANGUAGE", "DEFAULT ACL"})
"""Kinds of entries that pg_restore restores after the data, wherever they stand (``_tocEntryRestorePass`` in pg_backup_archiver.c): an
ACL may revoke the owner's right to load."""
_BEFORE_DATA = frozenset({"BLOB", "BLOB METADATA"})
"""Kinds of entries that make large objects. From PostgreSQL 17 on, they are in the section of data, before the content."""
_NOTHING = "-- made later\n"
"""A definition that makes nothing. If an entry has no definition, ``pg_restore --clean`` doesn't drop its object (``_tocEntryRequired``)."""
_NAMES = dict(zip((Section.PRE_DATA, Section.DATA, Section.POST_DATA), SECTIONS, strict=True))


@dataclass(frozen=True, slots=True)
class Run:
    """One run of pg_restore."""

    options: RestoreOptions
    stream: Stream
    """What pg_restore restores. With several jobs, pg_restore needs only the table of contents of the stream."""
    jobs: int = 1
    dump_ids: Sequence[int] | None = None
    """The entries to restore; None for all entries in the table of contents."""


Step = Sequence[Run]
"""The runs of pg_restore that go on at the same time."""


def whole(archive: Archive, chosen: Collection[int] | None, options: RestoreOptions) -> Stream:
    """Return the stream from which a single pg_restore restores all ``chosen`` entries, in their order; None for all entries."""
    entries = _in_order(archive, chosen)
    toc = _toc(archive, entries)
    return _data_stream(archive, entries, toc) if options.loads_data else Stream((), toc)


def plan_steps(
    archive: Archive,
    chosen: Collection[int] | None,
    options: RestoreOptions,
    *,
    jobs: int,
    truncate: int | None = None,
    split: SplitTables = "never",
) -> Iterator[Step]:
    """Yield the steps that restore the ``chosen`` entries of an archive of the directory format; None for all entries.

    With a single job or transaction, there is only one run of pg_restore. Otherwise, the first run makes the definitions. Then up to ``jobs``
    runs load the data at the same time. The last run makes indexes, constraints, grants and the like, by parallel jobs.

    Each table that the restore has made, and that has at least ``truncate`` bytes of rows, is truncated in the transaction that loads it;
    None for no table. With ``wal_level = minimal``, the table's rows then aren't written to the write-ahead log, unless the table is smaller
    than ``wal_skip_threshold``. Use ``truncate`` only in a database that pgstow has made.

    ``split`` says which tables all runs load together. Such a table is never truncated, since one run would remove the rows of another. Only
    tables that the restore makes are split: other tables, and their partitions, may have triggers, or foreign keys between their own rows.
    """
    if jobs == 1 or options.single_transaction:
        yield [Run(options, whole(archive, chosen, options))]
        return
    sections = _sections(archive.toc)
    entries = [
        entry
        for entry in _in_order(archive, chosen)
        if not options.sections or _NAMES[sections[entry.dump_id]] in options.sections
    ]
    data = [entry for entry in entries if entry.filename]
    first = [
        entry
        for entry in entries
        if entry.description in _BEFORE_DATA
        or (sections[entry.dump_id] == Section.PRE_DATA and entry.description not in _AFTER_DATA)
    ]
    apart = {*_ids(first), *_ids(data)}
    last = [entry for entry in entries if entry.dump_id not in apart]

    options = replace(options, sections=())
    later = replace(options, clean=False, if_exists=False)
    if options.clean:
        kept = set(_ids(first))
        dropped = [entry for entry in entries if entry.dump_id in kept or entry.drop_statement]
        yield [Run(options, Stream((), _make_only(_toc(archive, dropped), kept)))]
    elif first:
        yield [Run(options, Stream((), _toc(archive, first)))]
    if data and options.loads_data:
        made = {entry.dump_id for entry in first if entry.description == "TABLE" and options.makes_tables}
        below_others = partitions_of_others(first, made) if options.makes_tables else set[int]()
        in_turn = set[int]() if options.disable_triggers else set(_ids(outside_tables(archive.toc)))
        in_turn.update(entry.dump_id for entry in data if not below_others.isdisjoint(entry.dependencies[:1]))
        shares = divide(archive, data, in_turn, jobs, split, _may_be_split(archive.toc, made - below_others, split))
        truncated = set() if truncate is None else made & _large(archive, data, truncate)
        truncated.difference_update(*(entry.dependencies[:1] for entry in shares.split))
        yield [
            Run(later, _data_stream(archive, entries, _truncating(_toc(archive, entries), truncated)))
            for entries in ([*own, *shares.split] for own in shares.own)
        ]
    if last:
        yield [_last_run(archive, last, later, jobs)]


def _last_run(archive: Archive, entries: Sequence[TocEntry], options: RestoreOptions, jobs: int) -> Run:
    """Return the parallel run that restores the ``entries`` after the data."""
    contents = [*_setup(archive.toc, entries), *_locked(archive.toc, entries), *entries]
    ids = _largest_first(archive, entries)
    toc = select(archive.toc_data, contents, turns_in_partition_trees(archive.toc), ids)
    return Run(options, Stream((), toc), jobs, [ids[dump_id] for dump_id in _ids(entries)])


def _largest_first(archive: Archive, entries: Sequence[TocEntry]) -> dict[int, int]:
    """Return new dump IDs of the entries, by their dump IDs. The more data an entry's table has, the lower the entry's new dump ID is.

    If pg_restore knows no table's size, it begins with the entry that has the lowest dump ID and waits for no other entry
    (``TocEntrySizeCompareQsort`` in pg_backup_archiver.c). It learns the sizes only from the files of tables that it restores.
    """
    sizes = {
        entry.dependencies[0]: archive.files[entry.filename].size
        for entry in archive.toc.data_entries
        if entry.description == "TABLE DATA" and entry.dependencies
    }

    def size(entry: TocEntry) -> int:
        return max((sizes.get(dump_id, 0) for dump_id in entry.dependencies), default=0)

    ordered = sorted(entries, key=lambda entry: (-size(entry), entry.dump_id))
    return dict(zip(_ids(ordered), sorted(_ids(entries)), strict=True))


def _in_order(archive: Archive, chosen: Collection[int] | None) -> list[TocEntry]:
    """Return the chosen entries in the order of ``chosen``. Leave out lists of large objects that are empty.

    A stream has no block for an empty list, since a block begins with its first file. pg_restore would search the whole stream for it.
    """
    by_id = {entry.dump_id: entry for entry in archive.toc.entries}
    entries = by_id.values() if chosen is None else [by_id[dump_id] for dump_id in chosen if dump_id in by_id]
    return [entry for entry in entries if archive.lists.get(entry.filename) != ()]


def _ids(entries: Iterable[TocEntry]) -> list[int]:
    return [entry.dump_id for entry in entries]


def _setup(toc: Toc, entries: Iterable[TocEntry]) -> list[TocEntry]:
    """Return the entries for the archive's settings that are not among ``entries``."""
    there = set(_ids(entries))
    return [entry for entry in toc.entries if entry.description in _SETUP and entry.dump_id not in there]


def _sections(toc: Toc) -> dict[int, Section]:
    """Return the section of each entry. An entry without one belongs to the section of the entry before it, as for pg_restore."""
    current, sections = Section.PRE_DATA, {}
    for entry in toc.entries:
        if entry.section != Section.NONE:
            current = entry.section
        sections[entry.dump_id] = current
    return sections


def _locked(toc: Toc, entries: Iterable[TocEntry]) -> list[TocEntry]:
    """Return the tables on which the entries depend. Jobs of pg_restore lock these tables.

    pg_restore starts no two jobs at once whose locks conflict, so that no job waits for another. pg_restore knows the tables only if they
    are in the table of contents (``identify_locking_dependencies`` in pg_backup_archiver.c).
    """
    needed = {dump_id for entry in entries for dump_id in entry.dependencies}
    return [entry for entry in toc.entries if entry.dump_id in needed and entry.description == "TABLE"]


def _make_only(toc: bytes, kept: Collection[int]) -> bytes:
    """Return the table of contents in which only the entries ``kept`` make something. With ``--clean``, the others are still dropped first."""

    def change(entry: TocEntry) -> TocEntry:
        stays = entry.dump_id in kept or entry.description in _SETUP
        return entry if stays else replace(entry, definition=_NOTHING, owner="")

    return rewrite(toc, change)


def _truncating(toc: bytes, tables: Set[int]) -> bytes:
    """Return the table of contents with a TRUNCATE before each COPY into a table of ``tables``. Both statements are one transaction.

    ``tables`` has dump IDs.
    """

    def change(entry: TocEntry) -> TocEntry:
        if entry.copied_table is None or tables.isdisjoint(entry.dependencies[:1]):
            return entry
        return replace(entry, copy_statement=f"TRUNCATE TABLE ONLY {entry.copied_table};\n{entry.copy_statement}")

    return rewrite(toc, change) if tables else toc


def _large(archive: Archive, data: Iterable[TocEntry], least: int) -> set[int]:
    """Return the dump IDs of the tables that have at least ``least`` bytes of rows."""
    return {
        entry.dependencies[0] for entry in data if entry.dependencies and archive.files[entry.filename].size >= least
    }


def _may_be_split(toc: Toc, tables: Collection[int], split: SplitTables) -> Callable[[TocEntry], bool]:
    """Return a function that is true for a table's data if the table's dump ID is in ``tables``, and if COPY loads the table directly.

    With ``auto``, the function is false for tables with an index that needs the rows in their order.
    """
    whole_tables = in_order_of_an_index(toc) if split == "auto" else ()

    def may_be_split(entry: TocEntry) -> bool:
        table = entry.dependencies[0] if entry.dependencies else None
        return table in tables and table not in whole_tables and entry.copied_table is not None

    return may_be_split


def _toc(archive: Archive, entries: Sequence[TocEntry]) -> bytes:
    """Return the beginning of an archive of the custom format with these entries, and with those for the archive's settings."""
    return custom_toc(archive.toc_data, [*_setup(archive.toc, entries), *entries])


def _data_stream(archive: Archive, entries: Iterable[TocEntry], toc: bytes) -> Stream:
    """Return the archive that begins with ``toc``, and has the data of ``entries``."""
    fed = [
        (archive.files[path], entry.dump_id)
        for entry in entries
        if entry.filename
        for path in archive.lists.get(entry.filename, (entry.filename,))
    ]
    return Stream(tuple(file for file, _ in fed), toc, tuple(dump_id for _, dump_id in fed))
