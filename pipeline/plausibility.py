"""Whether a backup can be what its manifest says, by the store's clock and this machine's.

Whoever may write to the bucket may put a manifest that no backup made. These checks find what can't be true; only a lock keeps a
forger from a manifest that could be.
"""

from datetime import datetime, timedelta

from pipeline.layout import BackupRef, begun_at
from pipeline.manifest import Manifest
from pipeline.postgres.toc import TOC_NAME

CLOCK_TOLERANCE = timedelta(minutes=15)
"""How far clocks may differ. S3 refuses requests from machines whose clocks differ by more (`RequestTimeTooSkewed`_).

.. _RequestTimeTooSkewed: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""


def doubt_time(moment: datetime, stored_at: datetime, now: datetime) -> str | None:
    """Return why nothing that was stored at ``stored_at``, by the store's clock, can tell of this time; None if it can."""
    latest = moment - CLOCK_TOLERANCE
    if latest > stored_at:
        return f"its time {_shown(moment)} is in the future: the store has it since {_shown(stored_at)}"
    if latest > now:
        return f"its time {_shown(moment)} is in the future: this machine's clock says {_shown(now)}"
    return None


def doubt_ref(ref: BackupRef, stored_at: datetime, now: datetime) -> str | None:
    """Return why there can be no such backup, by its ID alone; None if there can."""
    return doubt_time(begun_at(ref.backup_id), stored_at, now)


def doubt(manifest: Manifest, stored_at: datetime, now: datetime) -> str | None:
    """Return why a manifest that was stored at ``stored_at``, by the store's clock, can't be of a real backup; None if it can."""
    begun = begun_at(manifest.backup_id)
    if manifest.started_at.replace(microsecond=0) != begun:
        return f"its ID says that it began at {_shown(begun)}, and its manifest at {_shown(manifest.started_at)}"
    for moment in (manifest.started_at, manifest.snapshot_at, manifest.finished_at):
        if reason := doubt_time(moment, stored_at, now):
            return reason
    return _doubt_content(manifest)


def _doubt_content(manifest: Manifest) -> str | None:
    """Return what each backup of its kind has, and this one lacks."""
    if manifest.kind == "cluster" and not manifest.files:
        return None if manifest.members else "it names no backup that it is made of"
    if manifest.members:
        return "it names backups that it is made of, and is no record of a cluster"
    if manifest.kind == "database" and manifest.dump.format == "directory":
        if not any(file.path == TOC_NAME and file.size for file in manifest.files):
            return f"it names no {TOC_NAME}"
    elif not (len(manifest.files) == 1 and manifest.files[0].size):
        return "it doesn't name the one file that holds it"
    if manifest.totals.tables and not (manifest.tables or any(file.kind == "table" for file in manifest.files)):
        return f"it counts {manifest.totals.tables} tables, and names none"
    return None


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
