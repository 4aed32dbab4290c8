"""Plans a relocation from the archive alone: which objects to move, and which objects they need."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pipeline.archive.reader import Archive
from pipeline.archive.selection import EntrySelection
from pipeline.errors import InvalidRequest
from pipeline.postgres.patterns import RELATIONS, Name, choose_entries
from pipeline.postgres.renaming import LONGEST_NAME
from pipeline.postgres.toc import TocEntry

_OF_SPECIAL_CLASSES = re.compile(r"\bEXCLUDE USING\b|\bWITHOUT OVERLAPS\b")
"""Constraints that often need operator classes of an extension, such as btree_gist."""


@dataclass(frozen=True, slots=True)
class Relocation:
    """A new schema or a new name for the chosen objects. Names are taken literally. Raises InvalidRequest if a name is empty or too long."""

    schema: str | None = None
    """The new schema of all chosen objects; None if they stay in their schemas."""
    name: str | None = None
    """The new name of the one chosen table, view or similar relation; None if it keeps its name."""

    def __post_init__(self) -> None:
        for option, name in (("--to-schema", self.schema), ("--as", self.name)):
            if name is not None and not 0 < len(name.encode()) <= LONGEST_NAME:
                raise InvalidRequest(f"{option} needs a name of 1 to {LONGEST_NAME} bytes, not {name!r}.")


@dataclass(frozen=True, slots=True)
class Move:
    """The objects to move, their destination, and the entries that must be restored for the move."""

    schema: str | None
    """The schema to move to; None if the objects stay in their schemas."""
    rename: tuple[Name, str] | None
    """A relation and its new name; None if no relation is renamed."""
    relations: tuple[Name, ...]
    """The schema and name of each chosen relation."""
    whole_schema: str | None
    """The schema that can be renamed with everything in it; None if the relations must be moved one by one."""
    more: TocEntry | None
    """A chosen entry that isn't part of a relation. With such an entry, only the whole schema can be moved. None if there is none."""
    needed: frozenset[int]
    """Dump IDs of the entries to restore for the move: the chosen entries and all entries that they need, without entries that hold data."""

    def check_alone(self) -> None:
        """Raise InvalidRequest if a chosen object can't be moved by itself, or if no relation was chosen."""
        if self.more:
            raise InvalidRequest(
                f"{self.more.description} {self.more.namespace}.{self.more.tag} can't be moved by itself. Choose tables with -t, or choose one "
                "schema with -n and give it a name that no schema of the backup has."
            )
        if not self.relations:
            raise InvalidRequest("There is no table to move.")


def plan_move(archive: Archive, choice: EntrySelection, relocation: Relocation) -> Move:
    """Return the move. Raises InvalidRequest if several relations would get one name, or if an object can't be moved by itself."""
    chosen = frozenset(archive.choose(choice) or ())
    entries = [entry for entry in archive.toc.entries if entry.dump_id in chosen]
    relations = _relations(archive, chosen)
    names = tuple((entry.namespace, entry.tag) for entry in relations.values())
    schemas = {entry.tag if entry.description == "SCHEMA" else entry.namespace for entry in entries} - {""}
    parts = choose_entries(archive.toc, patterns_for(names), ()) if names else set()
    move = Move(
        schema=relocation.schema,
        rename=None if relocation.name is None else (_only_one(entries, relations), relocation.name),
        relations=names,
        whole_schema=min(schemas) if not choice.tables and len(schemas) == 1 and relocation.name is None else None,
        more=next(
            (
                entry
                for entry in entries
                if entry.dump_id not in parts and entry.namespace and entry.description != "DEFAULT ACL"
            ),
            None,
        ),
        needed=_needed(archive, chosen),
    )
    if move.whole_schema is None:
        move.check_alone()
    return move


def patterns_for(names: Iterable[Name]) -> tuple[str, ...]:
    """Return patterns that match only these relations, one pattern for each schema."""
    by_schema: dict[str, list[str]] = {}
    for schema, name in names:
        by_schema.setdefault(schema, []).append(pattern_for(name))
    return tuple(f"{pattern_for(schema)}.({'|'.join(quoted)})" for schema, quoted in by_schema.items())


def pattern_for(name: str) -> str:
    """Return a pattern that matches only this name."""
    return '"' + name.replace('"', '""') + '"'


def _relations(archive: Archive, chosen: Collection[int]) -> dict[int, TocEntry]:
    """Return the chosen relations by dump ID. Raises InvalidRequest if a chosen sequence belongs to a table that wasn't chosen."""
    relations = {entry.dump_id: entry for entry in archive.toc.entries if entry.description in RELATIONS}
    for entry in relations.values():
        if entry.dump_id in chosen and entry.description == "SEQUENCE":
            tables = [relations[other] for other in entry.dependencies if other in relations and other not in chosen]
            if tables:
                raise InvalidRequest(
                    f"The sequence {entry.namespace}.{entry.tag} belongs to {tables[0].namespace}.{tables[0].tag}: choose this table."
                )
    return {dump_id: entry for dump_id, entry in relations.items() if dump_id in chosen}


def _only_one(entries: Iterable[TocEntry], relations: Mapping[int, TocEntry]) -> Name:
    """Return the one chosen relation. Partitions and owned sequences don't count. Raises InvalidRequest if none or several were chosen."""
    partitions = {(entry.namespace, entry.tag) for entry in entries if entry.description == "TABLE ATTACH"}
    found = [
        (entry.namespace, entry.tag)
        for entry in relations.values()
        if (entry.namespace, entry.tag) not in partitions
        and not (entry.description == "SEQUENCE" and not relations.keys().isdisjoint(entry.dependencies))
    ]
    if len(found) != 1:
        names = [f"{schema}.{name}" for schema, name in found[:5]]
        raise InvalidRequest(f"--as renames one table, but {len(found)} were chosen: {', '.join(names)}.")
    return found[0]


def _needed(archive: Archive, chosen: Collection[int]) -> frozenset[int]:
    """Return the dump IDs of the chosen entries and of all entries that they need, without entries that hold data.

    An archive doesn't say which operator classes a constraint needs. So if a chosen constraint often needs operator classes of an extension
    (``_OF_SPECIAL_CLASSES``), all extensions and operator classes count as needed.
    """
    entries = (entry for entry in archive.toc.entries if not entry.filename and entry.description != "STATISTICS DATA")
    by_id = {entry.dump_id: entry for entry in entries}
    classes = [id_ for id_, entry in by_id.items() if entry.description in {"EXTENSION", "OPERATOR CLASS"}]
    needed: set[int] = set()
    waiting = [dump_id for dump_id in chosen if dump_id in by_id]
    while waiting:
        dump_id = waiting.pop()
        if dump_id in needed:
            continue
        needed.add(dump_id)
        entry = by_id[dump_id]
        waiting += [other for other in entry.dependencies if other in by_id]
        if entry.description == "CONSTRAINT" and _OF_SPECIAL_CLASSES.search(entry.definition):
            waiting += classes
    return frozenset(needed)
