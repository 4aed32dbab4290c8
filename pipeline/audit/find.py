"""Finds the backups that have the data of a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pipeline.audit.facts import DatabaseFacts, TableFacts
from pipeline.catalog.keys import BackupRef
from pipeline.postgres.patterns import compile_pattern


@dataclass(frozen=True, slots=True)
class FoundTable:
    """A table in a backup."""

    ref: BackupRef
    snapshot_at: datetime
    table: TableFacts
    problem: str | None
    """Why the backup can't be believed, as a sentence; None if it can."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search for a table."""

    tables: list[FoundTable]
    """By database, and the newest backup of each database first."""
    problems: list[str]
    """Why backups can't be read or believed, as sentences. A backup that can't be read may have the table, too."""


def find_tables(databases: Iterable[DatabaseFacts], pattern: str) -> Found:
    """Return the tables that fit a pattern of pg_dump's ``--table``, such as ``orders``, ``sales.*`` or ``"Orders"``.

    A pattern without a schema fits tables of all schemas. Only tables with data in the backup are found. Raises InvalidRequest if the pattern
    is invalid, and whatever the iteration over ``databases`` raises.
    """
    schema, name = compile_pattern(pattern)
    found = Found([], [])
    for facts in databases:
        for backup in reversed(facts.backups):
            if backup.problem:
                found.problems.append(backup.problem)
            if manifest := backup.manifest:
                found.tables.extend(
                    FoundTable(backup.ref, manifest.snapshot_at, table, backup.problem)
                    for table in manifest.tables
                    if name.fullmatch(table.relation) and (schema is None or schema.fullmatch(table.schema))
                )
    return found
