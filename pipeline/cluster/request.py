"""The requests for backups of a whole server, and the server to restore onto."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.backup.request import BackupRequest
from pipeline.config import Limits
from pipeline.errors import InvalidRequest
from pipeline.postgres.conninfo import Conninfo

OnlyGlobals = Literal["roles", "tablespaces"]


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """A cluster to back up, and how. Raises InvalidRequest if the request contradicts itself."""

    each: BackupRequest
    """How to back up each database. Its source may be any database of the cluster."""
    exclude: tuple[str, ...] = ()
    """Patterns of databases to leave out."""
    role_passwords: bool = True
    """Dump the hashes of roles' passwords, if the session's role may read them."""
    at_once: int = 1
    """The number of databases to dump at the same time. They share jobs, memory, disk and transfers."""
    retries: int = 0
    """The most times to retry a database's backup after an error that may be temporary."""

    def __post_init__(self) -> None:
        if not self.each.selection.is_all_tables:
            raise InvalidRequest(
                "A backup of all databases can't select parts of them: leave out what chooses or excludes tables and schemas."
            )
        for given in self.each.selection.options:
            if self.each.format == "plain" and not given.option.in_pg_dumpall:
                raise InvalidRequest(
                    f"pg_dumpall, which writes one script of all databases, has no {given.option.name}: use another format."
                )
        if self.each.format == "plain" and self.each.selection.only == "data":
            raise InvalidRequest(
                "pg_dumpall's script with only rows can't be restored onto a new server: back up the definitions, too."
            )
        if self.each.format == "plain" and self.at_once > 1:
            raise InvalidRequest(
                "pg_dumpall dumps one database after another: use another format, or dump one database at a time."
            )


@dataclass(frozen=True, slots=True)
class GlobalsRequest:
    """The globals of a cluster to back up, and how."""

    backup: BackupRequest
    """How to back up. Its source may be any database of the cluster."""
    only: OnlyGlobals | None = None
    """The only kind of globals to dump; None for roles and tablespaces."""
    role_passwords: bool = True
    """Dump the hashes of roles' passwords, if the session's role may read them."""
    retries: int = 0
    """The most times to retry the backup after an error that may be temporary."""


@dataclass(frozen=True, slots=True)
class ServerTarget:
    """The server to restore onto, and how."""

    server: Conninfo
    """The connection to any database of the server."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""
    allow_older: bool = False
    """Try to restore even if the server has an older major version than the backed-up server."""
    server_settings: bool = False
    """As for a restore of one database (:attr:`RestoreRequest.server_settings`)."""
    lock_wait_timeout: int = 0
    """As for a restore of one database (:attr:`RestoreRequest.lock_wait_timeout`)."""
