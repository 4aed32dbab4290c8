"""Entries that a parallel restore must restore in a fixed order, although the archive's dependencies allow any order."""

from collections.abc import Collection, Iterable, Mapping

from pipeline.postgres.toc import Toc, TocEntry

_TABLES = frozenset({"TABLE", "FOREIGN TABLE"})
_LOCKS_FROM_ABOVE = frozenset({"CHECK CONSTRAINT", "FK CONSTRAINT", "POLICY", "ROW SECURITY", "RULE", "TRIGGER"})
"""Kinds of entries of a table that lock its partitions, too, or may."""

_INDEXES = frozenset({"CONSTRAINT", "INDEX"})
_ORDERED = (" USING brin ", " CLUSTER ON ")
"""Parts of the definition of an index or a constraint that depends on the order of the table's rows (``dumpIndex`` in pg_dump.c)."""


def turns_in_partition_trees(toc: Toc) -> dict[int, tuple[int, ...]]:
    """Return the entries that must wait for other entries, since several jobs would otherwise restore them at once.

    The keys are the dump IDs of the waiting entries. Each value has the dump IDs of the entries to wait for.

    Indexes of a partitioned table and of all tables below it are attached one after another, in the archive's order. If several jobs attach
    indexes at once, the partitioned table's index sometimes stays invalid for ever. A foreign key to the table then fails. Without a foreign
    key, the server reports no error. Stock pg_restore has this fault.

    Foreign keys, triggers and the like of these tables wait until the last of these indexes is attached. An attachment locks the partition
    before the partitioned table. A foreign key locks the partitioned table before the partition. If both ran at once, they could deadlock.
    """
    roots = _roots(_parents(toc.entries))
    roots |= {root: root for root in roots.values()}
    last, turns = dict[int | None, int](), dict[int, tuple[int, ...]]()
    for entry in toc.entries:
        if entry.description == "INDEX ATTACH":
            root = next((roots[other] for other in entry.dependencies if other in roots), None)
            if root in last:
                turns[entry.dump_id] = (last[root],)
            last[root] = entry.dump_id
    for entry in toc.entries:
        if entry.description in _LOCKS_FROM_ABOVE:
            trees = {roots[other] for other in entry.dependencies if other in roots}
            if waits := tuple(sorted(last[root] for root in trees if root in last)):
                turns[entry.dump_id] = waits
    return turns


def outside_tables(toc: Toc) -> list[TocEntry]:
    """Return the data entries of tables that the archive doesn't make, in its order.

    An extension makes these tables, or they exist before. Their foreign keys exist before their data. So their data must be loaded one
    after another in the archive's order, which pg_dump chose by the foreign keys (``getTableDataFKConstraints``,
    ``processExtensionTables``).
    """
    made = {entry.dump_id for entry in toc.entries if entry.description in _TABLES}
    return [
        entry
        for entry in toc.entries
        if entry.description == "TABLE DATA" and entry.dependencies and entry.dependencies[0] not in made
    ]


def in_order_of_an_index(toc: Toc) -> set[int]:
    """Return the dump IDs of the tables whose rows should be loaded in the archive's order: a BRIN index or CLUSTER depends on the order."""
    return {
        dump_id
        for entry in toc.entries
        if entry.description in _INDEXES and any(words in entry.definition for words in _ORDERED)
        for dump_id in entry.dependencies
    }


def partitions_of_others(entries: Iterable[TocEntry], made: Collection[int]) -> set[int]:
    """Return the dump IDs of the tables that ``entries`` attach below a partitioned table whose dump ID isn't in ``made``.

    Such a partition gets the triggers and foreign keys of that table before its rows.
    """
    parents = _parents(entries)
    found = {table for table, parent in parents.items() if parent not in made}
    while further := {table for table, parent in parents.items() if parent in found} - found:
        found |= further
    return found


def _parents(entries: Iterable[TocEntry]) -> dict[int, int]:
    """Return the dump ID of each partition's partitioned table."""
    attachments = [entry.dependencies for entry in entries if entry.description == "TABLE ATTACH"]
    return {ids[0]: ids[1] for ids in attachments if len(ids) > 1}  # attachPartition(): partition, parent


def _roots(parents: Mapping[int, int]) -> dict[int, int]:
    """Return the dump ID of each partition's outermost table."""
    roots = dict[int, int]()
    for table in parents:
        path = dict[int, None]()
        while table in parents and table not in roots and table not in path:
            path[table] = None
            table = parents[table]
        roots |= dict.fromkeys(path, roots.get(table, table))
    return roots
