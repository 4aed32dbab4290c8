"""Finds the entries of an archive that a user names by a pattern of psql and pg_dump.

The rules are in https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS: ``*`` stands for any characters, and ``?`` for any
one character. Text in double quotes is literal, and isn't folded to lower case. A dot separates schema and name. All other characters are
those of a regular expression.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from pipeline.errors import InvalidRequest
from pipeline.postgres.toc import Section, Toc, TocEntry

RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"})
"""Kinds of entries that make a relation. ``--table`` selects these kinds."""
_NAMED_AFTER_TABLE = frozenset(
    {"DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "ROW SECURITY"}
)
"""Kinds of entries whose tag is ``table name``. They may also depend on tables other than their own."""
_BUILT_ON_A_RELATION = frozenset({"INDEX", "STATISTICS"})
"""Kinds of entries that depend on their table, and maybe on other parts: a partition's index may depend on the partitioned table's index."""
_OF_A_PUBLICATION = frozenset({"PUBLICATION TABLE", "PUBLICATION TABLES IN SCHEMA"})
"""Kinds of entries that put a table or schema into a publication. They can't exist without the publication."""
_ATTACHMENTS = frozenset({"TABLE ATTACH", "INDEX ATTACH"})
"""Kinds of entries that depend on a partition and its table, or on the indexes of both."""
_OTHER_PARTS = frozenset(
    {
        "TABLE DATA",
        "MATERIALIZED VIEW DATA",
        "COMMENT",
        "SECURITY LABEL",
        "ACL",
        "STATISTICS DATA",
        "SEQUENCE",
        "SEQUENCE OWNED BY",
        "SEQUENCE SET",
    }
)
"""Kinds of entries that are a part of the object on which they depend."""

_FOLLOWING = _ATTACHMENTS | {"COMMENT", "SECURITY LABEL", "ACL", "STATISTICS DATA"}
"""Kinds of entries that have no meaning without the objects on which they depend."""
_NAMED = {
    "index": frozenset({"INDEX"}),
    "function": frozenset({"FUNCTION", "AGGREGATE", "PROCEDURE"}),
    "trigger": frozenset({"TRIGGER"}),
}
"""Kinds of entries by the option that names them (``_tocEntryRequired`` in pg_backup_archiver.c)."""
_SPELLED = {
    "index": "name",
    "function": "name(types)",
    "trigger": "'table trigger' (to leave out a table, say --exclude-table)",
}

_LONGEST_NAME = 1024  # characters: far more than NAMEDATALEN, which an archive made by hand may exceed

Name = tuple[str, str]
"""Schema and name of a relation."""


def choose_entries(
    toc: Toc, tables: Sequence[str], schemas: Sequence[str], others: Collection[int] = (), *, must_match: bool = True
) -> set[int]:
    """Return the dump IDs of the entries that the patterns name and of ``others``, with all of their parts.

    The parts of a table are its partitions, data, defaults, owned sequences, indexes, constraints, triggers, rules, policies, comments and
    grants. (``pg_restore --table`` leaves out the indexes and everything in this list after them.) Other objects to which a table refers
    must already exist. Entries that put the table into a publication are left out.

    Raises InvalidRequest if a pattern is invalid. If ``must_match`` is true, also raises it if a pattern matches nothing.
    """
    chosen = set(others)
    relations: set[Name] = set()
    for pattern in tables:
        schema, name = compile_pattern(pattern)
        found = [
            entry
            for entry in toc.entries
            if entry.description in RELATIONS
            and name.fullmatch(entry.tag)
            and (schema is None or schema.fullmatch(entry.namespace))
        ]
        _check_found(found or not must_match, "table", pattern)
        chosen.update(entry.dump_id for entry in found)
        relations.update((entry.namespace, entry.tag) for entry in found)
    for pattern in schemas:
        name = compile_name_pattern(pattern)
        found = [
            entry
            for entry in toc.entries
            if name.fullmatch(entry.namespace) or (entry.description == "SCHEMA" and name.fullmatch(entry.tag))
        ]
        _check_found(found or not must_match, "schema", pattern)
        chosen.update(entry.dump_id for entry in found)
    _add_partitions(toc, chosen, relations)
    _add_parts(toc, chosen, relations)
    indexes = _indexes(toc)
    return chosen - {entry.dump_id for entry in toc.entries if _needs_another(entry, chosen, indexes)}


def find_named(toc: Toc, kind: str, name: str) -> set[int]:
    """Return the dump IDs of the entries of this kind with this name. A schema and a dot may come before the name.

    ``kind`` is ``index``, ``function`` or ``trigger``. The name is literal: it is the entry's tag, as for pg_restore's ``--index``,
    ``--function`` and ``--trigger``. Raises InvalidRequest if there is no such entry.
    """
    found = {
        entry.dump_id
        for entry in toc.entries
        if entry.description in _NAMED[kind] and name in {entry.tag, f"{entry.namespace}.{entry.tag}"}
    }
    if not found:
        raise InvalidRequest(
            f"The backup holds no {kind} {name}. Name it as pgstow show --toc does: {_SPELLED[kind]}, with or without the schema and a dot."
        )
    return found


def leave_out(toc: Toc, dump_ids: Collection[int], excluded: Collection[int]) -> tuple[set[int], list[TocEntry]]:
    """Return the dump IDs that remain, and the entries that are lost because they need an excluded entry.

    The lost entries are post-data entries, such as a foreign key to an excluded table. The server would refuse them only after all rows are
    loaded. Other entries that need an excluded entry stay: if the target lacks the excluded object, the server refuses them at once.
    """
    kept, gone = set(dump_ids).difference(excluded), set(excluded)
    lost = []
    for entry in toc.entries:
        if entry.dump_id not in kept or gone.isdisjoint(entry.dependencies):
            continue
        if entry.section == Section.POST_DATA or entry.description in _FOLLOWING:
            kept.remove(entry.dump_id)
            gone.add(entry.dump_id)
            if entry.description not in _FOLLOWING | _OF_A_PUBLICATION:
                lost.append(entry)
    return kept, lost


def first_needing(toc: Toc, kept: Collection[int], excluded: Collection[int]) -> tuple[TocEntry, TocEntry] | None:
    """Return a kept entry, and an excluded entry that it needs; None if there are no such entries. Only definitions are looked at."""
    gone = {entry.dump_id: entry for entry in toc.entries if entry.dump_id in excluded}
    made = (entry for entry in toc.entries if entry.dump_id in kept and entry.section == Section.PRE_DATA)
    return next(((entry, gone[other]) for entry in made for other in entry.dependencies if other in gone), None)


def parts_made(toc: Toc, dump_ids: Collection[int]) -> list[tuple[str, str, str]]:
    """Return kind, schema and name of each index and statistics object that the entries make. The kind of an index is ``TABLE``."""
    names = {(entry.namespace, entry.tag) for entry in toc.entries if entry.description in RELATIONS}
    wanted = frozenset(dump_ids)
    made = []
    for entry in toc.entries:
        if entry.dump_id not in wanted:
            continue
        if entry.description in _BUILT_ON_A_RELATION:
            made.append(("TABLE" if entry.description == "INDEX" else "STATISTICS", entry.namespace, entry.tag))
        elif entry.description == "CONSTRAINT" and (own := _own_table(entry, names)):
            made.append(
                ("TABLE", entry.namespace, entry.tag.removeprefix(f"{own[1]} "))
            )  # the index has the constraint's name
    return made


def belongs_elsewhere(entry: TocEntry) -> bool:
    """True if the entry, such as a foreign key, may belong to two objects.

    A restore of only one of the objects may leave out such an entry, and must report it.
    """
    return entry.description == "FK CONSTRAINT" or entry.description in _OF_A_PUBLICATION


def _needs_another(entry: TocEntry, chosen: set[int], indexes: set[int]) -> bool:
    """True if the entry attaches an object to another object that isn't chosen. The other object may be missing in the target."""
    if entry.description in _ATTACHMENTS:
        return not _joins_chosen(entry, chosen, indexes)
    return entry.description in _OF_A_PUBLICATION


def _joins_chosen(entry: TocEntry, chosen: set[int], indexes: set[int]) -> bool:
    """True if a partition and its table are both chosen, or the indexes of both.

    An index's attachment may depend on further indexes, but two chosen indexes are enough.
    """
    if entry.description == "TABLE ATTACH":
        return chosen.issuperset(entry.dependencies)
    return len(chosen.intersection(entry.dependencies) & indexes) > 1


def _indexes(toc: Toc) -> set[int]:
    return {entry.dump_id for entry in toc.entries if entry.description in {"INDEX", "CONSTRAINT"}}


def _add_partitions(toc: Toc, chosen: set[int], relations: set[Name]) -> None:
    """Add the partitions of chosen partitioned tables, at every level. They hold the rows of the partitioned tables."""
    tables = {(entry.namespace, entry.tag): entry for entry in toc.entries if entry.description in RELATIONS}
    partitions: dict[int, list[TocEntry]] = defaultdict(list)
    for entry in toc.entries:
        if entry.description == "TABLE ATTACH" and (partition := tables.get((entry.namespace, entry.tag))):
            for parent in set(entry.dependencies) - {partition.dump_id}:
                partitions[parent].append(partition)
    waiting = list(chosen)
    while waiting:
        for partition in partitions.pop(waiting.pop(), ()):
            relations.add((partition.namespace, partition.tag))
            if partition.dump_id not in chosen:
                chosen.add(partition.dump_id)
                waiting.append(partition.dump_id)


def _add_parts(toc: Toc, chosen: set[int], relations: set[Name]) -> None:
    there = {entry.dump_id: (entry.namespace, entry.tag) for entry in toc.entries if entry.description in RELATIONS}
    names, indexes = set(there.values()), _indexes(toc)
    dependents: dict[int, list[TocEntry]] = defaultdict(list)
    lacking: dict[int, int] = {}
    """The number of tables or indexes that must still be chosen for an attachment, by the attachment's dump ID."""
    for entry in toc.entries:
        others = dict.fromkeys(entry.dependencies)
        lacking[entry.dump_id] = len(others) if entry.description == "TABLE ATTACH" else 2
        for other in others:
            dependents[other].append(entry)
    parts_of_relations = {
        entry.dump_id
        for entry in toc.entries
        if entry.description in _NAMED_AFTER_TABLE and _own_table(entry, names) in relations
    }
    waiting = list(chosen)
    while waiting:  # each dependency is looked at once, since an archive made by hand may have chains of any length
        fresh = waiting.pop()
        for entry in dependents.pop(fresh, ()):
            match entry.description:
                case kind if kind in _ATTACHMENTS:
                    lacking[entry.dump_id] -= kind == "TABLE ATTACH" or fresh in indexes
                    is_part = lacking[entry.dump_id] <= 0
                case kind if kind in _NAMED_AFTER_TABLE:
                    is_part = entry.dump_id in parts_of_relations
                case kind if kind in _BUILT_ON_A_RELATION:
                    is_part = fresh in there
                case kind:
                    is_part = kind in _OTHER_PARTS
            if is_part and entry.dump_id not in chosen:
                chosen.add(entry.dump_id)
                waiting.append(entry.dump_id)


def _own_table(entry: TocEntry, names: set[Name]) -> Name | None:
    """Return the table whose name is the beginning of the entry's tag (``table name``); None if there is no such table.

    Both names may have spaces. If several tables fit, return the table with the longest name.
    """
    words = entry.tag[:_LONGEST_NAME].split(" ")
    starts = (" ".join(words[:count]) for count in range(len(words), 0, -1))
    return next((name for start in starts if (name := (entry.namespace, start)) in names), None)


def _check_found(found: object, kind: str, pattern: str) -> None:
    if not found:
        raise InvalidRequest(f"The backup holds no {kind} that matches {pattern}.")


def compile_pattern(pattern: str) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """Return regular expressions for the whole name of a schema and of an object. The first is None if the pattern names no schema.

    Raises InvalidRequest if the pattern is invalid.
    """
    parts, quoted, at = [""], False, 0
    while at < len(pattern):
        char = pattern[at]
        if char == '"':
            if quoted and pattern[at : at + 2] == '""':
                parts[-1] += '"'
                at += 1
            else:
                quoted = not quoted
        elif quoted:
            parts[-1] += re.escape(char)
        elif char == ".":
            parts.append("")
        else:
            parts[-1] += {"*": ".*", "?": ".", "$": r"\$"}.get(char, char.lower() if char.isascii() else char)
        at += 1
    if quoted or len(parts) > 2:
        raise InvalidRequest(f"{pattern!r} is not a pattern: write name or schema.name, with double quotes in pairs.")
    try:
        *schema, name = [re.compile(part, re.DOTALL) for part in parts]
    except re.error as exc:
        raise InvalidRequest(f"{pattern!r} is not a pattern: {exc}.") from exc
    return schema[0] if schema else None, name


def compile_name_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression for a whole name that has no schema: the name of a schema or a database.

    Raises InvalidRequest if the pattern is invalid, or has a schema before a dot.
    """
    qualifier, name = compile_pattern(pattern)
    if qualifier is not None:
        raise InvalidRequest(
            f"{pattern!r} has a dot, but no schema can stand before this name: a dot in a name needs double quotes around it."
        )
    return name
