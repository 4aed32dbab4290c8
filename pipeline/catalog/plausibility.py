"""Finds manifests that no backup can have made, by their content and by two clocks: the store's and this machine's.

An attacker who may write to the store can put a manifest there without a backup. The checks find a manifest that can't be true. They can't
find an invented manifest that could be true.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, Self

from pipeline.catalog.keys import BackupRef, begun_at
from pipeline.catalog.manifest import TOC_NAME, ManifestSummary
from pipeline.counting import counted

CLOCK_TOLERANCE = timedelta(minutes=15)
"""The largest difference between two clocks. S3 refuses requests from a machine whose clock differs by more (`RequestTimeTooSkewed`_).

.. _RequestTimeTooSkewed: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""


class DescribedFile(Protocol):
    """The parts of a file's description that can show that a manifest can't be true."""

    @property
    def kind(self) -> str:
        """The file's kind."""

    @property
    def size(self) -> int:
        """Uncompressed bytes."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The facts about a manifest's lists that can show that the manifest can't be true."""

    has_files: bool
    """True if the list of files isn't empty."""
    is_one_file: bool
    """True if there is exactly one file, with content."""
    has_toc: bool
    """True if a table of contents is among the files, with content."""
    names_tables: bool
    """True if the manifest names a table."""

    @classmethod
    def of(cls, files: Sequence[DescribedFile], *, tables: bool) -> Self:
        """Return the facts about these files. ``tables`` is true if the manifest's list of tables isn't empty."""
        return cls(
            has_files=bool(files),
            is_one_file=len(files) == 1 and files[0].size > 0,
            has_toc=any(file.kind == "toc" and file.size > 0 for file in files),
            names_tables=tables or any(file.kind == "table" for file in files),
        )


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


def doubt(manifest: ManifestSummary, contents: Contents, stored_at: datetime, now: datetime) -> str | None:
    """Return the reason why no backup can have made this manifest; None if one can. The times are as for :func:`doubt_time`."""
    return doubt_times(times_of(manifest), stored_at, now) or doubt_content(manifest, contents)


def times_of(manifest: ManifestSummary) -> Sequence[datetime]:
    """Return the times in a manifest that :func:`doubt_times` looks at."""
    return manifest.started_at, manifest.snapshot_at, manifest.finished_at


def doubt_times(moments: Iterable[datetime], stored_at: datetime, now: datetime) -> str | None:
    """Return the reason why one of the times in a document can't be true; None if all can. See :func:`doubt_time`."""
    return next(filter(None, (doubt_time(moment, stored_at, now) for moment in moments)), None)


def doubt_content(manifest: ManifestSummary, contents: Contents) -> str | None:
    """Return the reason why no backup can have made this manifest, whatever the clocks say; None if one can."""
    begun = begun_at(manifest.backup_id)
    if manifest.started_at.replace(microsecond=0) != begun:
        return f"by its ID, the backup began at {_shown(begun)}, but by its manifest at {_shown(manifest.started_at)}"
    if manifest.kind == "cluster" and not contents.has_files:
        return None if manifest.members else "it is a cluster manifest, but names no backup of a database"
    if manifest.members:
        return "it is not a cluster manifest, but names other backups as its members"
    if manifest.kind == "database" and manifest.dump.format == "directory":
        if not contents.has_toc:
            return f"it names no {TOC_NAME} with content"
    elif not contents.is_one_file:
        return "it must name exactly one file, with content"
    if manifest.totals.tables and not contents.names_tables:
        return f"it counts {counted(manifest.totals.tables, 'table')}, but names none"
    return None


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
