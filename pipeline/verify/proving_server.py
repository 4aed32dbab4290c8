"""The server on which a backup is restored for a proof: a throwaway server that pgstow starts, or a scratch server that the user names."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.archive.reader import Archive
from pipeline.config import Limits
from pipeline.errors import (
    ConnectionFailed,
    InvalidRequest,
    LocalResourceExhausted,
    ProgramMissing,
)
from pipeline.events import Notify
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.encodings import ANY_BYTES
from pipeline.postgres.environment import without_servers
from pipeline.postgres.maintenance import maintenance_database
from pipeline.postgres.os_user import keep_out_same_user
from pipeline.postgres.prerequisites import (
    make_roles,
    make_tablespaces,
    missing_extensions,
    missing_roles,
    named_extensions,
    named_roles,
)
from pipeline.postgres.programs import TAKES_STATISTICS, major_of, speaks_to
from pipeline.postgres.scratch import scratch_database
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster

_SETTINGS = {"wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
"""Settings of a throwaway server. With them, rows that are loaded into a new table aren't also written to the write-ahead log."""
_NO_FILE = "/dev/null/none"  # can't exist


def _needed(archive: Archive) -> tuple[set[str], set[str]]:
    """Return the roles and extensions that the archive names. For a script, which has no table of contents, return all that it may name."""
    if archive.format == "plain":
        source = archive.manifest.source
        return set(source.roles), {extension.name for extension in source.extensions}
    return named_roles(archive.toc), named_extensions(archive.toc)


def _superusers(archive: Archive) -> Sequence[str]:
    """Return the superusers that a script may name. A manifest before version 1.2 doesn't list superusers, so return all its roles."""
    source = archive.manifest.source
    return source.superusers if "superusers" in source.model_fields_set else source.roles


@contextmanager
def on_scratch_server(scratch: Conninfo, archive: Archive, notify: Notify) -> Iterator[Conninfo]:
    """Yield the connection to a database to be made on the scratch server, and drop the database after the block.

    Raises InvalidRequest if the server is too old, or lacks roles or extensions that the archive needs. Also raises ConnectionFailed, or
    DatabaseLeft if the database can't be dropped.
    """
    roles, extensions = _needed(archive)
    with Server(maintenance_database(scratch)) as server:
        if server.major < (least := _fitting_major(archive)):
            raise InvalidRequest(
                f"The scratch server is too old for the backup: it has PostgreSQL {server.version}. Name a server of PostgreSQL {least} or "
                "newer, or verify without --scratch."
            )
        if lacking := missing_roles(server, roles):
            raise InvalidRequest(
                f"The scratch server lacks roles that the backup's owners and grants name: {', '.join(lacking)}. Make the roles there "
                "(pg_dumpall --roles-only prints the SQL), or verify without --scratch."
            )
        if lacking := missing_extensions(server, extensions):
            raise InvalidRequest(
                f"The scratch server lacks the backup's extensions: {', '.join(lacking)}. Install them."
            )
    with scratch_database(_in_english(scratch), "proof", notify) as target:
        yield target


def _in_english(server: Conninfo) -> Conninfo:
    """Return the connection with messages in English, if the role may choose the language. A database may set any language."""
    english = server.with_setting("lc_messages", "C")
    try:
        maintenance_database(english)
    except ConnectionFailed:
        return server
    return english


@contextmanager
def on_own_server(archive: Archive, limits: Limits, programs: Sequence[Path]) -> Iterator[Conninfo]:
    """Yield the connection to a database to be made on a throwaway server, which has the archive's roles and a script's tablespaces.

    Raises ProgramMissing if extensions are missing, or LocalResourceExhausted if the server fails.
    """
    roles, extensions = _needed(archive)
    major = _fitting_major(archive)
    keep_out_same_user()  # the backup's code may run as the same user, and pgstow's environment may hold the store's keys
    with (
        without_servers(),
        ThrowawayCluster(
            at_least_major=major,
            search=programs,
            settings=_SETTINGS,
            directory=limits.spool_parent,
            encoding=ANY_BYTES if archive.manifest.source.encoding == ANY_BYTES else "UTF8",
            # No other server has this role, so an attacker gains nothing by replacing this server's socket with another server's.
            superuser=f"pgstow_{secrets.token_hex(8)}",
            offline=True,
        ) as cluster,
    ):
        # The backup's code may answer in place of this server. It must not receive another server's password.
        own = Conninfo.parse(f"{cluster.conninfo()} passfile={_NO_FILE}").with_setting("lc_messages", "C")
        try:
            with Server(own) as server:
                if lacking := missing_extensions(server, extensions):
                    raise ProgramMissing(
                        f"PostgreSQL {cluster.major} on this machine lacks the backup's extensions: {', '.join(lacking)}. Install them, or "
                        "name a server that has them with --scratch."
                    )
                make_roles(server, missing_roles(server, roles), archive.toc, _superusers(archive))
                make_tablespaces(server, archive.manifest.source.tablespaces, cluster.make_folder)
            yield own.with_database("pgstow_proof")
        except ConnectionFailed as exc:
            raise LocalResourceExhausted(
                f"The throwaway server failed. This is no evidence against the backup. {exc} Name another server with --scratch."
            ) from exc


def _fitting_major(archive: Archive) -> int:
    """Return the lowest fitting major version: it is not older than the backed-up server, and a pg_restore that can read the archive can
    restore into it.
    """
    source = archive.manifest.source
    dumped_from, dumped_by = major_of(source.server_version), major_of(source.pg_dump_version)
    least = max(dumped_from, TAKES_STATISTICS) if archive.toc.has_statistics else dumped_from
    return next((major for major in range(least, dumped_by) if speaks_to(dumped_by, major)), dumped_by)
