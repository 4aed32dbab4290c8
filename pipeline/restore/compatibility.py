"""Check that a server can take a backup, and find the program that restores it there."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.archive.reader import Archive
from pipeline.catalog.manifest import Source
from pipeline.errors import InvalidRequest, ProgramMissing
from pipeline.postgres.programs import Program, find_program, major_of, speaks_to
from pipeline.postgres.restricted_mode import find_psql
from pipeline.postgres.server import Server


def refuse_older(server: Server, source: Source) -> None:
    """Raise InvalidRequest if the server's major version is older than the backed-up server's."""
    if server.major < major_of(source.server_version):
        raise InvalidRequest(
            f"The backup is of PostgreSQL {source.server_version}, and the server to restore into is older ({server.version}), so it may not "
            "understand what is in it: restore into a newer one, or say --allow-older to try."
        )


def find_restorer(server: Server, archive: Archive, search: Sequence[Path]) -> Program:
    """Return the program that restores the archive into this server: pg_restore for an archive, psql for a plain script.

    ``search`` are folders in which to look for it; empty for the usual folders. Raises ProgramMissing if no version fits.
    """
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
