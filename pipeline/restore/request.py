"""The request for a restore of one database."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.archive.selection import EntrySelection
from pipeline.catalog.find import BackupSelector
from pipeline.config import Limits
from pipeline.errors import InvalidRequest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.restore_options import RestoreOptions, option_of
from pipeline.restore.relocation_plan import Relocation


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """A restore of one database. Raises InvalidRequest if it contradicts itself."""

    wanted: BackupSelector
    target: Conninfo
    """The database to restore into. If it names no database, the backed-up database's name is used."""
    create: bool = False
    """Make the target database with the encoding, locale, tablespace and settings of the backed-up database. If all entries are restored, set
    its owner, comment and grants, too."""
    database_tablespace: bool = True
    """With ``create``, make the database in its old tablespace, unless ``options`` leave out tablespaces."""
    properties: bool = False
    """Also give an existing target the settings of the backed-up database. If all entries are restored, set owner, comment and grants, too."""
    choice: EntrySelection = field(default_factory=EntrySelection)
    relocation: Relocation | None = None
    """Restore the objects that patterns choose into another schema, or under another name."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    roles: Mapping[str, str] = field(default_factory=dict)
    """The new names of roles, by the names in the backup. They apply to owners, grants, policies and similar."""
    allow_nonempty: bool = False
    """Restore even if the target holds objects or rows. If the restore makes an object that exists already, it still fails."""
    allow_older: bool = False
    """Try to restore even if the server has an older major version than the backed-up server."""
    allowed_errors: Sequence[str] = ()
    """Regular expressions, for use with ``options.keep_going``. If an error of pg_restore contains a match, the restore doesn't fail."""
    server_settings: bool = False
    """Restore with the server's own settings. Otherwise, the sessions get faster settings; see :func:`fast_sessions`."""
    lock_wait_timeout: int = 0
    """Seconds that the restore may wait for another session's lock; 0 for no limit."""
    check_files: bool = False
    """Check the size, SHA-256 and rows of each file, and not only the objects that hold the file."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""

    def __post_init__(self) -> None:
        if self.create and self.options.clean:
            raise InvalidRequest(
                "--create makes a new database, so there is nothing for --clean to drop: leave out --clean."
            )
        if self.create and not self.options.makes_tables:
            raise InvalidRequest("--create makes an empty database, which lacks the tables that this restore needs.")
        if self.relocation and (self.choice.excludes or not (self.choice.tables or self.choice.schemas)):
            raise InvalidRequest(
                "--to-schema and --as need objects chosen with -t or -n, and can't be used with options that exclude objects."
            )
        if self.options.single_transaction and self.limits.jobs > 1:
            raise InvalidRequest("--single-transaction needs a single job: give --jobs 1.")
        if self.limits.split_tables not in ("auto", "never"):
            for name in ("keep_going", "disable_triggers"):
                if getattr(self.options, name):
                    raise InvalidRequest(
                        f"--split-tables with a size and {option_of(name)} exclude each other: say one of them."
                    )
        if self.allowed_errors and not self.options.keep_going:
            raise InvalidRequest("--allow-error works only with --keep-going: give both.")
        for pattern in self.allowed_errors:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise InvalidRequest(f"{pattern!r} is not a regular expression: {exc}.") from exc

    @property
    def sets_properties(self) -> bool:
        """True if the target gets the backed-up database's settings. If all entries are restored, it also gets owner, comment and grants."""
        return self.create or self.properties
