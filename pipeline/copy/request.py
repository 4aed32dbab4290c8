"""The request for a copy, and its results."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from pipeline.catalog.keys import BackupRef
from pipeline.config import Limits
from pipeline.errors import Untrusted

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """The backups to copy, and how."""

    backup: str | None = None
    """A backup ID, the beginning of a single backup's ID, or ``latest``; None for all backups."""
    cluster: str | None = None
    """None for any cluster."""
    database: str | None = None
    """None for any database."""
    at_most_age: timedelta | None = None
    """Copy only backups that began at most this time ago; None for any age."""
    trust: "Trust | None" = None
    """Copy only what one of these keys signed. None if there are no trusted keys."""
    unsigned: bool = False
    """With trusted keys: copy backups without a signature, too."""
    limits: Limits = field(default_factory=Limits)
    dry_run: bool = False
    """Find out what would be copied, and copy nothing."""

    def excuses(self, fault: Untrusted) -> bool:
        """True if a backup is copied in spite of this fault of its signature."""
        return self.trust is None or (self.unsigned and fault.fault == "unsigned")


class CopyState(StrEnum):
    """What became of a backup in one target."""

    COPIED = "copied"
    """This run copied the backup."""
    MISSING = "missing"
    """In a dry run: the backup would be copied."""
    PRESENT = "present"
    """The target had the backup before."""
    REMOVED = "removed"
    """The target has a tombstone of the backup. So the backup was removed there on purpose, and isn't copied again."""
    FAILED = "failed"
    """The backup could not be copied. The target has no manifest of it."""


@dataclass(frozen=True, slots=True)
class CopyOutcome:
    """What became of a backup in one target."""

    ref: BackupRef
    target: str
    """The target's URL."""
    state: CopyState
    objects: int = 0
    """The number of objects that were sent. In a dry run, the number of the backup's objects."""
    size: int = 0
    """Bytes of these objects."""
    error: Exception | None = None
    """Why the copy failed; None if it didn't fail."""


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The result of a copy."""

    outcomes: Sequence[CopyOutcome]
    """One for each backup and target."""
    tombstones: int
    """The number of tombstones that were copied to all targets together."""
