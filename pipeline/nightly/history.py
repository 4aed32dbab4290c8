"""Finds the newest backup that an earlier run made."""

from datetime import UTC, datetime

from pipeline.catalog.keys import CLUSTER
from pipeline.catalog.listing import list_manifests
from pipeline.catalog.manifest import ManifestSummary
from pipeline.catalog.plausibility import doubt_ref
from pipeline.catalog.reader import parse_summary, read_trusted_bytes
from pipeline.errors import BackupNotFound, ManifestInvalid, Untrusted
from pipeline.nightly.jobs import Job
from storage_backends import StorageBackend

_MOST_READ = 20  # manifests


def newest_before(job: Job, store: StorageBackend, made: ManifestSummary | None) -> datetime | None:
    """Return the snapshot's time of the job's newest backup in the store, not counting the backup ``made``.

    A backup counts only if its manifest is believed. If the job trusts keys, one of them must have signed it. Return None if the newest 20
    manifests describe no such backup. Raises StorageError.
    """
    now = datetime.now(UTC)
    database = CLUSTER if job.whole_server else job.request.source.database
    listed = [
        one
        for one in list_manifests(store, job.request.cluster, database).manifests
        if (made is None or one.ref.backup_id != made.backup_id) and not doubt_ref(one.ref, one.stored_at, now)
    ]
    for one in sorted(listed, key=lambda one: one.ref.backup_id, reverse=True)[:_MOST_READ]:
        try:
            stored = parse_summary(read_trusted_bytes(store, one.ref, job.signatures.trust), one, now)
        except (ManifestInvalid, BackupNotFound, Untrusted):
            continue
        if stored.manifest.job == job.name and not stored.doubt:
            return stored.manifest.snapshot_at
    return None
