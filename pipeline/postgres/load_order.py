"""Dependencies that an archive's entries need in a parallel restore, but that pg_dump didn't write.

An entry of post-data that depends on a table waits for the table's own data (``repoint_table_dependencies`` in
``src/bin/pg_dump/pg_backup_archiver.c``). A partitioned table has no data of its own. So pg_restore may start its triggers and foreign keys
before its partitions have their rows. Stock pg_restore usually starts them last, because it starts with the largest files. But pgstow
restores from pipes, which have no size.

If several jobs attach indexes of partitions at once, the server sometimes never sees that the partitioned table's index is complete. A
foreign key to the table then fails, or the index stays invalid without an error. Stock pg_restore has this fault, too.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import count, pairwise

from pipeline.errors import InvalidRequest
from pipeline.postgres.toc import Section, Toc, TocEntry

_TABLES = frozenset({"TABLE", "FOREIGN TABLE"})
_MADE_OF = _TABLES | {"DOMAIN", "TYPE"}
"""Kinds of entries that can consist of each other: a table of its parents and its columns' types, a type of other types."""
_MOST = 5_000_000
"""The most dependencies to look at. In an archive made by hand, time and memory could otherwise grow with the square of its length."""
_BY_ROOT = "-- load via partition root "
"""The beginning of the definition of table data that are loaded via the partitioned table (``dumpTableData`` in pg_dump.c)."""
_COPY_TARGET = re.compile(r'COPY (?:(?:"(?:[^"]|"")+"|[^\s".(]+)\.)?(?P<name>"(?:[^"]|"")+"|[^\s".(]+) ')


def missing_dependencies(toc: Toc, *, triggers_fire: bool = True) -> dict[int, tuple[int, ...]]:
    """Return the missing dependencies: by dump ID of an entry, the dump IDs of the entries for which it must also wait.

    - An entry of post-data that alters a table waits for the data of its partitions at every level, and of its children.
    - An entry of post-data that alters a domain waits for the data of all tables with a column of the domain.
    - If rows are loaded via the partitioned table, an entry on any of its partitions waits for the data of the whole table. To keep the
      number of dependencies small, only the first such entry waits for the data, and the other entries wait for the first.
    - Indexes of a partitioned table and of all tables below it are attached one after another.
    - The planner's statistics on a table wait for its data. pg_restore truncates a table that it has made, which resets the number of rows.
      With several jobs, stock pg_restore has this fault, too.
    - The archive doesn't make every table: an extension may make a table, or it may exist before. The foreign keys of such tables exist
      before their data. So their data wait for each other in the archive's order, which pg_dump chose by the foreign keys
      (``getTableDataFKConstraints``, ``processExtensionTables``). If ``triggers_fire`` is false, the server checks no foreign key, and
      these data needn't wait.

    Raises InvalidRequest if the archive has more dependencies than any archive of pg_dump.
    """
    by_id = {entry.dump_id: entry for entry in toc.entries}
    data = [entry for entry in toc.entries if entry.description == "TABLE DATA"]
    data_of = {entry.dependencies[0]: entry for entry in data if entry.dependencies}
    steps = count(1)
    wanted, roots = _data_by_base(toc, by_id, data_of, steps)
    missing = _attachments_in_turn(toc)
    gates = dict[int, int]()
    for entry in toc.entries:
        # An INDEX ATTACH needn't wait for data: it waits for the two indexes, and these wait for data.
        if entry.section == Section.POST_DATA and entry.description != "INDEX ATTACH":
            there = {data_of[other].dump_id for other in entry.dependencies if other in data_of} | set(
                entry.dependencies
            )
            found = dict[int, None]()
            for other in entry.dependencies:
                root = roots.get(other)
                gate = entry.dump_id if root is None else gates.setdefault(root, entry.dump_id)
                found |= dict.fromkeys(_counted(wanted.get(other, ()) if gate == entry.dump_id else [gate], steps))
            if more := tuple(data for data in found if data not in there):
                missing[entry.dump_id] = more
        elif entry.description == "STATISTICS DATA":
            missing[entry.dump_id] = tuple(data_of[other].dump_id for other in entry.dependencies if other in data_of)
    if triggers_fire:
        chain = outside_tables(toc)
        missing |= {after.dump_id: (before.dump_id,) for before, after in pairwise(chain)}
    return missing


def _attachments_in_turn(toc: Toc) -> dict[int, tuple[int, ...]]:
    """Return by dump ID of each attachment of an index the attachment before it in the same partitioned table, in the archive's order."""
    parents, last, turns = _parents(toc), dict[int | None, int](), dict[int, tuple[int, ...]]()
    roots = _roots(parents)
    for entry in toc.entries:
        if entry.description == "INDEX ATTACH":
            table = next((other for other in entry.dependencies if other in parents), None)
            root = None if table is None else roots[table]
            if root in last:
                turns[entry.dump_id] = (last[root],)
            last[root] = entry.dump_id
    return turns


def _parents(toc: Toc) -> dict[int, int]:
    """Return the dump ID of each partition's partitioned table, by the partition's dump ID."""
    attachments = [entry.dependencies for entry in toc.entries if entry.description == "TABLE ATTACH"]
    return {ids[0]: ids[1] for ids in attachments if len(ids) > 1}  # attachPartition(): partition, parent


def outside_tables(toc: Toc) -> list[TocEntry]:
    """Return the data entries of tables that the archive doesn't make, in the archive's order."""
    made = {entry.dump_id for entry in toc.entries if entry.description in _TABLES}
    return [
        entry
        for entry in toc.entries
        if entry.description == "TABLE DATA" and entry.dependencies and entry.dependencies[0] not in made
    ]


def _data_by_base(
    toc: Toc, by_id: Mapping[int, TocEntry], data_of: Mapping[int, TocEntry], steps: Iterator[int]
) -> tuple[Mapping[int, Collection[int]], Mapping[int, int]]:
    """Return by dump ID of each table and domain the dump IDs of all data for which an entry on it must wait.

    Also return the outermost table of each table whose rows are loaded via the partitioned table, by dump IDs.
    """
    bases: dict[int, list[int]] = defaultdict(list)
    parents = _parents(toc)
    for entry in toc.entries:
        if entry.description in _MADE_OF:
            bases[entry.dump_id] += [
                other for other in entry.dependencies if other in by_id and by_id[other].description in _MADE_OF
            ]
    for partition, parent in parents.items():
        bases[partition].append(parent)
    wanted: dict[int, list[int]] = defaultdict(list)
    for table, entry in data_of.items():
        for base in _reached(table, bases, steps):
            wanted[base].append(entry.dump_id)
    members, outermost = defaultdict(list), _roots(parents)
    for partition in parents:
        members[outermost[partition]].append(partition)
    roots = {}
    for root in {outermost.get(table, table) for table, entry in data_of.items() if _is_loaded_via_root(entry)}:
        for member in (root, *members[root]):
            wanted[member] = wanted[root]
            roots[member] = root
    return wanted, roots


def _reached(start: int, edges: Mapping[int, Sequence[int]], steps: Iterator[int]) -> Iterable[int]:
    """Return a node and all nodes that can be reached from it."""
    seen, waiting = {start}, [start]
    while waiting:
        for other in _counted(edges.get(waiting.pop(), ()), steps):
            if other not in seen:
                seen.add(other)
                waiting.append(other)
    return seen


def _counted(ids: Iterable[int], steps: Iterator[int]) -> Iterator[int]:
    for one in ids:
        if next(steps) > _MOST:
            raise InvalidRequest(
                f"The archive has more than {_MOST:,} dependencies between tables, their data and the entries after the data. "
                "Restore it with --jobs 1, which needs none of these dependencies."
            )
        yield one


def _roots(parents: Mapping[int, int]) -> Mapping[int, int]:
    """Return the dump ID of each partition's outermost table, by the partition's dump ID."""
    roots = dict[int, int]()
    for table in parents:
        path = dict[int, None]()
        while table in parents and table not in roots and table not in path:
            path[table] = None
            table = parents[table]
        roots |= dict.fromkeys(path, roots.get(table, table))
    return roots


def _is_loaded_via_root(entry: TocEntry) -> bool:
    """True if the rows are loaded via the partitioned table (``is_load_via_partition_root`` in pg_backup_archiver.c).

    Dumps from before 2023 show this only by COPY's target.
    """
    if entry.definition.startswith(_BY_ROOT):
        return True
    target = _COPY_TARGET.match(entry.copy_statement)
    if target is None:
        return False
    name = target["name"]
    return (name[1:-1].replace('""', '"') if name.startswith('"') else name) != entry.tag
