"""The request for a backup of one database."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.catalog.origin import Format
from pipeline.config import Labels, Level, Limits
from pipeline.errors import InvalidRequest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.encodings import can_dump_in
from pipeline.selection import Selection

if TYPE_CHECKING:  # the libraries for signatures are loaded only by backups that are signed
    from pipeline.backup.signing import Signing


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """A database to back up, and how.

    Raises InvalidRequest if two objects of the largest size don't fit into the memory limit, or if an option of pg_dump doesn't fit the format.
    """

    source: Conninfo
    """The database. pgstow's sessions act as the selection's role."""
    cluster: str | None = None
    """The cluster's name in the store; None for the server's host, with its port if that isn't 5432."""
    selection: Selection = field(default_factory=Selection)
    format: Format = "directory"
    """The format, by pg_dump's name. Only the directory format allows several jobs."""
    level: Level = "auto"
    """zstd's compression level."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""
    lock_wait_timeout: int = 300
    """Seconds that pg_dump may wait for another session's lock on a table; 0 for no limit."""
    statement_timeout: int = 0
    """Seconds that a statement of pg_dump may run; 0 for no limit."""
    labels: Labels = field(default_factory=Labels)
    signing: "Signing | None" = None
    """How to sign the manifest; None to sign nothing."""
    password_file: Path | None = None
    """The file from which the source's password was read; None if it was read from no file."""

    def __post_init__(self) -> None:
        self.limits.check_memory(self.limits.object_size)
        for given in self.selection.options:
            if given.option.plain_only and self.format != "plain":
                raise InvalidRequest(
                    f"pg_dump ignores {given.option.name} unless the format is plain: give the option when you restore, or use --format plain."
                )
        if unknown := [name for name in self.selection.values("--encoding") if not can_dump_in(name)]:
            raise InvalidRequest(
                f"pgstow can't dump in the encoding {unknown[0]!r}: name an encoding that a database can have, such as UTF8 or LATIN1."
            )
        object.__setattr__(self, "source", self.source.acting_as(self.selection.role))
