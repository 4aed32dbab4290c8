"""Finds manifests that no backup can have made, by their content and by two clocks: the store's and this machine's.

An attacker who may write to the store can put a manifest there without a backup. The checks find a manifest that can't be true. They can't
find an invented manifest that could be true.
"""

from datetime import datetime, timedelta

from pipeline.catalog.keys import BackupRef, begun_at
from pipeline.catalog.manifest import TOC_NAME, Manifest
from pipeline.counting import counted

CLOCK_TOLERANCE = timedelta(minutes=15)
"""The largest difference between two clocks. S3 refuses requests from a machine whose clock differs by more (`RequestTimeTooSkewed`_).

.. _RequestTimeTooSkewed: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""


def doubt_time(moment: datetime, stored_at: datetime, now: datetime) -> str | None:
    """Return the reason why the time ``moment`` in a document can't be true; None if it can.

    The document was stored at ``stored_at`` by the store's clock. ``now`` is the time by this machine's clock.
    """
    latest = moment - CLOCK_TOLERANCE
    if latest > stored_at:
        reason = (
            f"its time {_shown(moment)} is in the future: it was stored at {_shown(stored_at)} by the store's clock"
        )
        return reason if latest > now else f"{reason}, unless copying the store changed the time when it was stored"
    if latest > now:
        return f"its time {_shown(moment)} is in the future: this machine's clock says {_shown(now)}"
    return None


def doubt_ref(ref: BackupRef, stored_at: datetime, now: datetime) -> str | None:
    """Return the reason why no backup can have this ID; None if one can. The times are as for :func:`doubt_time`."""
    return doubt_time(begun_at(ref.backup_id), stored_at, now)


def doubt(manifest: Manifest, stored_at: datetime, now: datetime) -> str | None:
    """Return the reason why no backup can have made this manifest; None if one can. The times are as for :func:`doubt_time`."""
    begun = begun_at(manifest.backup_id)
    if manifest.started_at.replace(microsecond=0) != begun:
        return f"by its ID, the backup began at {_shown(begun)}, but by its manifest at {_shown(manifest.started_at)}"
    for moment in (manifest.started_at, manifest.snapshot_at, manifest.finished_at):
        if reason := doubt_time(moment, stored_at, now):
            return reason
    return _doubt_content(manifest)


def _doubt_content(manifest: Manifest) -> str | None:
    """Return the reason why the content can't belong to a manifest of its kind; None if it can."""
    if manifest.kind == "cluster" and not manifest.files:
        return None if manifest.members else "it is a cluster manifest, but names no backup of a database"
    if manifest.members:
        return "it is not a cluster manifest, but names other backups as its members"
    if manifest.kind == "database" and manifest.dump.format == "directory":
        if not any(file.path == TOC_NAME and file.size for file in manifest.files):
            return f"it names no {TOC_NAME} with content"
    elif not (len(manifest.files) == 1 and manifest.files[0].size):
        return "it must name exactly one file, with content"
    if manifest.totals.tables and not (manifest.tables or any(file.kind == "table" for file in manifest.files)):
        return f"it counts {counted(manifest.totals.tables, 'table')}, but names none"
    return None


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
