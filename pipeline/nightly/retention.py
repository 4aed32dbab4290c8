"""Retention after a backup. The one place that is still to be filled in: see :func:`apply_retention`."""

from pipeline.errors import InvalidRequest
from pipeline.events import Notify
from pipeline.manifest import Manifest
from pipeline.nightly.settings import Retention
from storage_backends import StorageBackend


def apply_retention(retention: Retention, made: Manifest, store: StorageBackend, notify: Notify) -> None:
    """Remove from the store what ``retention`` doesn't keep of the cluster and the database that ``made`` is of.

    SEAM: to be wired to pruning. Until then it raises InvalidRequest, so that nobody takes what is configured for done.
    """
    raise InvalidRequest(
        "pgstow can't prune yet: take [retention] out of the file, and let the bucket's lifecycle rules remove old backups."
    )
