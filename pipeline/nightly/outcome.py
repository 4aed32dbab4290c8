"""The results of a run: one for each database at each destination."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.catalog.attestation import Level
from pipeline.catalog.manifest import ManifestSummary


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of a run for one database at one destination."""

    database: str
    """The name of the database in the file."""
    destination: str
    """The name of the destination in the file."""
    ended_at: datetime
    """The time when the work ended, in UTC."""
    manifest: ManifestSummary | None = None
    """The manifest of the backup that was made; None if no backup was made."""
    verified: Level | None = None
    """The level at which the backup was verified and found good; None if it wasn't verified or isn't good."""
    removed: int | None = None
    """The number of backups that retention removed; None if retention wasn't applied."""
    error: Exception | None = None
    """The failure of the backup, its verification or the retention; None if nothing failed."""
    newest_before: datetime | None = None
    """After a failure, the snapshot's time of the newest backup of earlier runs, in UTC; None if there is no such backup or it is unknown."""

    @property
    def seconds(self) -> float | None:
        """The duration of the backup in seconds, from its beginning to its manifest; None if no backup was made."""
        made = self.manifest
        return None if made is None else round((made.finished_at - made.started_at).total_seconds(), 3)

    def describe(self) -> dict[str, Any]:
        """Return the result as values that JSON can represent."""
        made, totals = self.manifest, self.manifest and self.manifest.totals
        return {
            "database": self.database,
            "destination": self.destination,
            "good": self.error is None,
            "problem": None if self.error is None else str(self.error),
            "cluster": made and made.cluster,
            "backup_id": made and made.backup_id,
            "ended_at": self.ended_at.isoformat(),
            "snapshot_at": made and made.snapshot_at.isoformat(),
            "seconds": self.seconds,
            "tables": totals and totals.tables,
            "rows": totals and totals.rows,
            "dumped_bytes": totals and totals.size,
            "stored_bytes": totals and totals.stored_size,
            "objects": totals and totals.objects,
            "retained_until": made and made.retained_until and made.retained_until.isoformat(),
            "verified": self.verified,
            "newest_before": self.newest_before and self.newest_before.isoformat(),
            "removed": self.removed,
        }
