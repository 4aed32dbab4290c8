"""Examines whether the role may read everything that pg_dump reads."""

from collections.abc import Iterator, Sequence

from pipeline.check.finding import Finding, Severity, some
from pipeline.counting import counted
from pipeline.postgres.locks import Blocker, find_blockers
from pipeline.postgres.privileges import (
    Relation,
    grant_large_objects,
    grant_reading,
    relations_to_dump,
    unreadable_large_objects,
    without_excluded_data,
)
from pipeline.postgres.server import Server
from pipeline.postgres.server_state import ServerState
from pipeline.selection import Selection

LOCKS = "locks"
_LISTED = 20
_GRANTED_ONE_BY_ONE = 10
_READ_ALL_SINCE = 14
"""The first PostgreSQL version with the role pg_read_all_data."""


def examine_privileges(server: Server, condition: ServerState, selection: Selection) -> Iterator[Finding]:
    """Yield findings on the role's rights to read every table, sequence and large object of the selection.

    Raises InvalidRequest if a pattern is invalid, or ConnectionFailed.
    """
    relations = relations_to_dump(server, selection)
    yield judge_privileges(relations, condition, read_all=server.major >= _READ_ALL_SINCE)
    if not selection.has("--enable-row-security"):
        yield from judge_row_security(without_excluded_data(relations, selection), condition)
    dumped = {relation.quoted for relation in relations}
    yield from judge_locks([blocker for blocker in find_blockers(server) if blocker.table in dumped])
    if selection.takes_large_objects:
        yield from examine_large_objects(server, condition)


def judge_privileges(relations: Sequence[Relation], condition: ServerState, *, read_all: bool) -> Finding:
    """Return a finding on the role's SELECT on tables and sequences, and its USAGE on their schemas.

    ``read_all`` is true if the server has the role ``pg_read_all_data``.
    """
    sequences = [relation for relation in relations if relation.sequence]
    tables = [relation for relation in relations if not relation.sequence]
    schemas = sorted({relation.quoted_schema for relation in relations if not relation.schema_usable})
    lacking = [
        f"{privilege} on {counted(len(names), noun)} ({some(names, most=_LISTED)})"
        for privilege, noun, names in (
            ("USAGE", "schema", schemas),
            ("SELECT", "table", [table.quoted for table in tables if not table.readable]),
            ("SELECT", "sequence", [sequence.quoted for sequence in sequences if not sequence.readable]),
        )
        if names
    ]
    if not lacking:
        every = f"{counted(len(tables), 'table')} and {counted(len(sequences), 'sequence')}"
        return Finding(
            "privileges", Severity.OK, f"{condition.role} may read everything that pg_dump would dump: {every}."
        )
    everything = f"GRANT pg_read_all_data TO {condition.quoted_role}, which also covers future tables, or grant"
    return Finding(
        "privileges",
        Severity.PROBLEM,
        f"{condition.role} lacks {'; '.join(lacking)}: pg_dump would fail.",
        f"As a superuser, {everything if read_all else 'grant'} only the missing privileges:",
        grant_reading(relations, condition.quoted_role, at_most=_GRANTED_ONE_BY_ONE),
    )


def judge_row_security(tables: Sequence[Relation], condition: ServerState) -> Iterator[Finding]:
    """Yield a problem if row security would hide rows from the role, because pg_dump then fails."""
    if hidden := [table.quoted for table in tables if table.rows_hidden]:
        yield Finding(
            "row-level security",
            Severity.PROBLEM,
            f"Row-level security would hide rows of {counted(len(hidden), 'table')} ({some(hidden, most=_LISTED)}) from "
            f"{condition.role}: pg_dump would fail.",
            "As a superuser, let the role see all rows:",
            (f"ALTER ROLE {condition.quoted_role} BYPASSRLS;",),
        )


def judge_locks(blockers: Sequence[Blocker]) -> Iterator[Finding]:
    """Yield a warning if there are ``blockers``: sessions whose locks, held or awaited, would make pg_dump wait."""
    if blockers:
        # A prepared transaction may never end by itself, so it comes first.
        first = next((blocker for blocker in blockers if blocker.prepared), blockers[0])
        others = f", and there {'is' if len(blockers) == 2 else 'are'} {counted(len(blockers) - 1, 'more such lock')}"
        yield Finding(
            LOCKS,
            Severity.WARNING,
            f"{first}{others if len(blockers) > 1 else ''}: pg_dump would wait.",
            f"{first.remedy[0].upper()}{first.remedy[1:]}.",
        )


def examine_large_objects(server: Server, condition: ServerState) -> Iterator[Finding]:
    """Yield a problem if the role lacks SELECT on a large object. Up to PostgreSQL 18, pg_read_all_data doesn't include this right.

    Raises ConnectionFailed.
    """
    lacking = unreadable_large_objects(server, _LISTED)
    if lacking.count:
        yield Finding(
            "large objects",
            Severity.PROBLEM,
            f"{condition.role} lacks SELECT on {counted(lacking.count, 'large object')} "
            f"({some([str(oid) for oid in lacking.examples], lacking.count)}): pg_dump would fail.",
            "As a superuser, grant SELECT, and repeat this after other roles have made new large objects:",
            (grant_large_objects(lacking, condition.quoted_role),),
        )
