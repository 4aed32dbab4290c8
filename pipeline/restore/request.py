"""What to restore, where to, and how."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.archive.selection import EntrySelection
from pipeline.catalog.find import BackupSelector
from pipeline.config import Limits
from pipeline.errors import InvalidRequest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.restore_options import RestoreOptions
from pipeline.restore.relocation_plan import Relocation


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """A restore of one database. Raises InvalidRequest if it contradicts itself."""

    wanted: BackupSelector
    target: Conninfo
    """The database to restore into. Without a name, the database has the name that it had."""
    create: bool = False
    """Make the target database with the encoding, locale, tablespace and settings of the backed-up database. If all entries are restored, set
    its owner, comment and grants, too."""
    database_tablespace: bool = True
    """With ``create``: put the database into its old tablespace, unless ``options`` leave out tablespaces."""
    properties: bool = False
    """Give an existing target the settings of the backed-up database, too. If all entries are restored, set owner, comment and grants."""
    choice: EntrySelection = field(default_factory=EntrySelection)
    relocation: Relocation | None = None
    """Restore what patterns choose into another schema, or under another name."""
    options: RestoreOptions = field(default_factory=RestoreOptions)
    roles: Mapping[str, str] = field(default_factory=dict)
    """The new name of each role that the backup names as an owner, in a grant, in a policy or the like."""
    allow_nonempty: bool = False
    """Restore even if the target holds something. An object that exists already still makes the restore fail."""
    allow_older: bool = False
    """Try a restore into an older major version than the backed-up server's."""
    allowed_errors: Sequence[str] = ()
    """With ``options.keep_going``: regular expressions. An error of pg_restore that contains a match is no failure."""
    check_files: bool = False
    """Check each file against its own size, SHA-256 and rows, and not only the objects in which it lies."""
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""

    def __post_init__(self) -> None:
        if self.create and self.options.clean:
            raise InvalidRequest(
                "--create makes a new database, and pgstow drops none that is there: leave out --clean."
            )
        if self.create and not self.options.makes_tables:
            raise InvalidRequest("--create makes an empty database, which lacks the tables that this restore needs.")
        if self.relocation and (self.choice.excludes or not (self.choice.tables or self.choice.schemas)):
            raise InvalidRequest(
                "--to-schema and --as are about what you choose with -t or -n, and exclude nothing of it."
            )
        if self.options.single_transaction and self.limits.jobs > 1:
            raise InvalidRequest("--single-transaction is for a single job: say --jobs 1.")
        if self.allowed_errors and not self.options.keep_going:
            raise InvalidRequest("--allow-error is about errors after which --keep-going goes on: say both.")
        for pattern in self.allowed_errors:
            try:
                re.compile(pattern)
            except re.error as exc:
                raise InvalidRequest(f"{pattern!r} is not a regular expression: {exc}.") from exc

    @property
    def sets_properties(self) -> bool:
        """True if the target gets the settings of the backed-up database, and its owner, comment and grants if all entries are restored."""
        return self.create or self.properties
