"""Copies tombstones. Without them, each removed backup would be a gap in the chains of a target."""

from collections.abc import Collection, Sequence
from functools import partial

from pipeline.catalog.keys import BackupRef, tombstones_prefix
from pipeline.catalog.signature import read_envelope
from pipeline.concurrency import Workers
from pipeline.copy.request import CopyRequest
from pipeline.copy.target import Target, put_record
from pipeline.errors import Untrusted
from pipeline.events import Notice, Notify
from pipeline.trust.statement import Removal
from storage_backends import StorageBackend, StorageError, TransientStorageError

_REQUESTS = 8  # concurrent requests


def copy_tombstones(
    request: CopyRequest,
    source: StorageBackend,
    targets: Sequence[Target],
    databases: Collection[tuple[str, str]],
    living: Collection[BackupRef],
    notify: Notify,
) -> int:
    """Copy the tombstones of these databases to each target that lacks them. Return how many were copied. In a dry run, copy nothing.

    The tombstone of a backup that the source or the target still has isn't copied: a manifest that comes after its tombstone is a replay.
    If there are trusted keys, a tombstone that none of them signed isn't copied either. If the source doesn't give a tombstone, a notice
    says that it isn't copied.

    If a target fails, it is down. Raises StorageError if the source can't be listed, or if it fails.
    """
    if request.dry_run:
        return 0
    removed = [
        ref
        for info in source.list(tombstones_prefix(request.cluster))
        if (ref := BackupRef.of_tombstone_key(info.key))
        and (ref.cluster, ref.database) in databases
        and ref not in living
    ]
    copied = 0
    for target in targets:
        missing = [ref for ref in removed if not target.knows(ref)]
        with Workers() as workers:
            work = partial(_copy, request, source, target, notify)
            copied += sum(done for _, done in workers.map(work, missing, threads=_REQUESTS, name="tombstone"))
    return copied


def _copy(request: CopyRequest, source: StorageBackend, target: Target, notify: Notify, ref: BackupRef) -> bool:
    """Copy a tombstone. Return False if it can't be read or isn't believed, or if the target is down."""
    try:
        envelope = read_envelope(source, ref.tombstone_key)
        if request.trust:
            request.trust.read(envelope, ref.manifest_key, Removal)
    except Untrusted:
        return False
    except TransientStorageError:
        raise
    except StorageError as exc:  # an attacker may store an object that nobody else can read
        notify(Notice(f"A tombstone is not copied. {exc}"))
        return False
    try:
        return target.down is None and put_record(target.store, ref.tombstone_key, envelope)
    except StorageError as exc:
        target.down = exc
        return False
