"""What to back up, from where, and how."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.catalog.manifest import Format
from pipeline.config import Labels, Limits, Selection
from pipeline.postgres.conninfo import Conninfo
from pipeline.stages.compress import DEFAULT_LEVEL


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """One database to back up."""

    source: Conninfo
    cluster: str | None = None
    """The name to file it under; None for the server's host."""
    selection: Selection = field(default_factory=Selection)
    format: Format = "directory"
    """pg_dump's; in the others it has a single job."""
    level: int = DEFAULT_LEVEL
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""
    lock_wait_timeout: int = 300
    """Seconds that pg_dump may wait for another session's lock on a table; 0 for ever."""
    statement_timeout: int = 0
    """Seconds that a statement of pg_dump may run; 0 for ever."""
    labels: Labels = field(default_factory=Labels)
    password_file: Path | None = None
    """The file that the source's password was read from, where it was."""

    def __post_init__(self) -> None:
        self.limits.check_memory(self.limits.object_size)
