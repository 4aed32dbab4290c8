"""Whether the database to restore into is fit for what will come, and which pg_restore is."""

from collections.abc import Collection, Sequence
from pathlib import Path

from pipeline.archive.reader import Archive
from pipeline.catalog.manifest import Source
from pipeline.concurrency import Workers
from pipeline.config import Limits, RestoreOptions
from pipeline.errors import InvalidRequest, ProgramMissing, TargetNotEmpty
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.patterns import RELATIONS, parts_made
from pipeline.postgres.programs import Program, find_program, major_of, speaks_to
from pipeline.postgres.renaming import named_objects
from pipeline.postgres.restricted_mode import find_psql
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TocEntry
from pipeline.restore.rows import Counts, Table, count_rows, name_of


def refuse_older(server: Server, source: Source) -> None:
    """Raises InvalidRequest where the server is of an older major version than the one that was backed up."""
    if server.major < major_of(source.server_version):
        raise InvalidRequest(
            f"The backup is of PostgreSQL {source.server_version}, and the server to restore into is older ({server.version}), so it may not "
            "understand what is in it: restore into a newer one, or say --allow-older to try."
        )


def find_restorer(server: Server, archive: Archive, search: Sequence[Path]) -> Program:
    """The pg_restore for an archive, or the psql for a script, and for this server. Raises ProgramMissing where there is none."""
    dumped_by = archive.manifest.source.pg_dump_version
    least = max(server.major, major_of(dumped_by))
    if archive.format == "plain":
        return find_psql(at_least_major=least, search=search)
    program = find_program("pg_restore", at_least_major=least, search=search)
    if not speaks_to(program.major, server.major):
        raise ProgramMissing(
            f"pg_restore {program.version} can't restore into a server older than 17, which this one is ({server.version}): install "
            f"PostgreSQL {server.major}'s, which reads archives that were made by a pg_dump up to its own version (this one: {dumped_by})."
        )
    return program


def check_free(server: Server, archive: Archive, chosen: Collection[int] | None, options: RestoreOptions) -> None:
    """Raises TargetNotEmpty where something is in the way of what will be made."""
    if options.clean or not options.makes_tables:
        return
    if chosen is None:
        if count := server.count_objects():
            raise TargetNotEmpty(
                f"The database {server.name} is not empty: it holds {count} tables, functions or other objects. Restore into a new one "
                "with --create, drop what collides with --clean, or say --allow-nonempty."
            )
        return
    there = named_objects(server)
    tables = [("TABLE", entry.namespace, entry.tag) for entry in _made(archive, chosen, options)]
    taken = [name for name in tables if name in there] or [
        name for name in parts_made(archive.toc, chosen) if name in there
    ]
    if taken:
        names = [f"{schema}.{name}" for _, schema, name in taken]
        raise TargetNotEmpty(
            f"The database {server.name} has {_some(names)} already. Drop or rename it first, have it dropped with --clean, or restore into "
            "another database."
        )


def count_rows_before(
    server: Server,
    target: Conninfo,
    archive: Archive,
    chosen: Collection[int] | None,
    tables: Sequence[Table],
    options: RestoreOptions,
    workers: Workers,
    limits: Limits,
) -> Counts:
    """The rows in those tables that get data and aren't made. Raises RestoreFailed where one isn't there."""
    made = {(entry.namespace, entry.tag) for entry in _made(archive, chosen, options)}
    if archive.manifest.dump.only == "data":  # it makes nothing, and has no entries for its tables
        there = {name_of(table) for table in tables} - server.extension_tables()
    else:  # what has no entry of its own is an extension's, and comes with that
        there = {(entry.namespace, entry.tag) for entry in archive.toc.entries if entry.description in RELATIONS} - made
    return count_rows(target, [table for table in tables if name_of(table) in there], workers, limits.jobs)


def check_empty(server: Server, before: Counts) -> None:
    """Raises TargetNotEmpty where a table holds rows, which data would be added to."""
    if filled := [".".join(name) for name, rows in before.items() if rows]:
        raise TargetNotEmpty(
            f"In the database {server.name}, {_some(filled)} {'hold' if len(filled) > 1 else 'holds'} rows already. Empty it first, or say "
            "--allow-nonempty to add to them."
        )


def _made(archive: Archive, chosen: Collection[int] | None, options: RestoreOptions) -> list[TocEntry]:
    """The entries that make a table, a view or the like."""
    if not options.makes_tables:
        return []
    wanted = None if chosen is None else frozenset(chosen)
    return [
        entry
        for entry in archive.toc.entries
        if entry.description in RELATIONS and (wanted is None or entry.dump_id in wanted)
    ]


def _some(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', …' if len(names) > 5 else ''}"
