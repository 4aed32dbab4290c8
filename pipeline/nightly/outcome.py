"""What came of a run: one outcome for each database at each destination."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.catalog.attestation import Level
from pipeline.catalog.manifest import Manifest


@dataclass(frozen=True, slots=True)
class JobResult:
    """What came of one database at one destination."""

    database: str
    """By its name in the file, as the destination."""
    destination: str
    ended_at: datetime
    manifest: Manifest | None = None
    """The backup that was made, without its files and objects; None where there is none."""
    verified: Level | None = None
    """How far it was verified, and found good."""
    removed: int | None = None
    """How many backups retention removed; None where it wasn't applied."""
    error: Exception | None = None
    """What failed, verification and retention among it; None where all went well."""

    @property
    def seconds(self) -> float | None:
        """What the backup took, from its beginning to its manifest."""
        made = self.manifest
        return None if made is None else round((made.finished_at - made.started_at).total_seconds(), 3)

    def describe(self) -> dict[str, Any]:
        """In JSON's types."""
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
            "removed": self.removed,
        }
