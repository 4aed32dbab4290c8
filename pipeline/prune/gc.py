"""Removes objects that interrupted runs left in a store. They belong to backups that have no manifest.

A store can't tell whether a backup without a manifest is still running. But the backup's ID says when the backup began, and the store's
clock says when the newest object was stored. If either time is less than the grace period ago, pgstow keeps the objects.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from pipeline.catalog.keys import (
    KEYS,
    MANIFESTS,
    SIGNATURE_SUFFIX,
    BackupRef,
    attestations_prefix,
    begun_at,
    data_prefix,
    is_of_check,
    keys_prefix,
    manifests_prefix,
)
from pipeline.catalog.listing import list_manifests, tell_odd
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.events import Notice, Notify, Started
from pipeline.prune.deletion import Database, Deleted, remove_backups
from pipeline.prune.facts import Known, ReadManifest
from storage_backends import AccessDenied, ObjectInfo, ObjectNotFound, StorageBackend, StorageError

_REQUESTS = 8  # concurrent requests


@dataclass(frozen=True, slots=True)
class Leftover:
    """The objects of a backup that has no manifest."""

    ref: BackupRef
    objects: int
    """The number of objects."""
    size: int
    """Bytes of the objects."""
    newest: datetime
    """The time when the newest object was stored, by the store's clock, in UTC."""
    kept: str | None
    """Why the objects stay; None if they can be removed."""


@dataclass(frozen=True, slots=True)
class GcRequest:
    """The leftovers to remove."""

    grace: timedelta = timedelta(hours=24)
    """The time that must have passed since the backup began, and since its newest object was stored."""
    cluster: str | None = None
    """Remove only leftovers of this cluster; None for any cluster."""
    database: str | None = None
    """Remove only leftovers of databases with this name; None for any database."""


def find_leftovers(
    request: GcRequest, store: StorageBackend, notify: Notify, now: datetime, known: Known | None = None
) -> list[Leftover]:
    """Return the leftovers of all backups without a manifest, in the order of the backups' keys. Nothing is changed.

    ``known`` has what earlier calls read from the store, and gets what this call reads. Raises StorageError if objects can't be listed or
    read, or if a listing leaves out a manifest that exists.
    """
    return _look(request, store, notify, now, known)[0]


def collect(
    request: GcRequest,
    approved: Sequence[Leftover],
    store: StorageBackend,
    notify: Notify,
    now: datetime,
    known: Known | None = None,
) -> Deleted:
    """Look at the store again, and remove the leftovers that neither ``approved`` nor the new look keeps. Return the removed objects.

    ``known`` is as for :func:`find_leftovers`. Raises StorageError as :func:`find_leftovers` does. Also raises StorageError if the store
    refuses to delete, possibly after some objects were deleted.
    """
    agreed = {one.ref for one in approved if one.kept is None}
    leftovers, objects, sealed = _look(request, store, notify, now, known)
    doomed = [one.ref for one in leftovers if one.kept is None and one.ref in agreed]
    notify(Started(f"Removing the objects of {counted(len(doomed), 'interrupted run')}"))
    removed = Deleted()
    remove_backups(store, doomed, sealed, objects, removed)
    return removed


def _look(
    request: GcRequest, store: StorageBackend, notify: Notify, now: datetime, known: Known | None
) -> tuple[list[Leftover], Mapping[Database, int], Set[BackupRef]]:
    """Return the leftovers, the number of objects in each database, without manifests, and the backups with key objects."""
    notify(Started("Listing objects"))
    stored = _list_objects(request, store, notify)
    # Manifests are listed after objects, so that a backup that was committed in between counts as committed.
    listing = list_manifests(store, request.cluster, request.database)
    tell_odd(listing, notify)
    left = stored.keys() - {one.ref for one in listing.manifests}
    databases = {(ref.cluster, ref.database) for ref in left}
    near = [one for one in listing.manifests if (one.ref.cluster, one.ref.database) in databases]
    users = _find_users((Known() if known is None else known).read(store, near, now))
    leftovers = [
        Leftover(ref, found.objects, found.size, found.newest, _why_kept(ref, found, request, now, users))
        for ref in sorted(left, key=lambda ref: ref.manifest_key)
        for found in [stored[ref]]
    ]
    with Workers() as workers:
        going = [one.ref for one in leftovers if one.kept is None]
        for _ in workers.map(partial(_require_no_manifest, store), going, threads=_REQUESTS, name="manifest"):
            pass
    objects = Counter[Database]()
    for ref, found in stored.items():
        objects[ref.cluster, ref.database] += found.objects
    return leftovers, objects, {ref for ref, found in stored.items() if found.sealed}


def _require_no_manifest(store: StorageBackend, ref: BackupRef) -> None:
    """Raise StorageError if the manifest exists or can't be read. If a listing lacks a manifest, a good backup looks like a leftover."""
    try:
        store.get(ref.manifest_key, length=1)
    except ObjectNotFound:
        return
    raise StorageError(
        f"{store.url} has {ref.manifest_key}, but doesn't list it. Its listings can't be trusted, so nothing was removed."
    )


@dataclass(slots=True)
class _Found:
    newest: datetime
    objects: int = 0
    size: int = 0
    sealed: bool = False
    """True if there are key objects."""


def _list_objects(request: GcRequest, store: StorageBackend, notify: Notify) -> dict[BackupRef, _Found]:
    """Return all stored objects except manifests, by backup. If a key is not pgstow's, leave its object out, and notify the user once."""
    stored: dict[BackupRef, _Found] = {}
    odd = list[str]()
    database = None if request.cluster is None else request.database
    for prefix in (
        prefix_of(request.cluster, database)
        for prefix_of in (data_prefix, attestations_prefix, keys_prefix, manifests_prefix)
    ):
        for info in _list_below(store, prefix, notify):
            ref, is_manifest = BackupRef.of_key(info.key), info.key.startswith(MANIFESTS)
            if ref is None and not is_manifest and not is_of_check(info.key):
                odd.append(info.key)
            if ref is None or (is_manifest and not info.key.endswith(SIGNATURE_SUFFIX)):
                continue
            if request.database in (None, ref.database):
                found = stored.setdefault(ref, _Found(info.modified))
                found.newest = max(found.newest, info.modified)
                found.objects += 1
                found.size += info.size
                found.sealed |= info.key.startswith(KEYS)
    if odd:
        more = (
            f" {len(odd) - 1} more {'has such a name' if len(odd) == 2 else 'have such names'}." if len(odd) > 1 else ""
        )
        notify(
            Notice(
                f"{odd[0]!r} is not a name that pgstow gives to a backup's object. pgstow ignores the object and keeps it.{more}"
            )
        )
    return stored


def _list_below(store: StorageBackend, prefix: str, notify: Notify) -> Iterator[ObjectInfo]:
    """Yield the objects below a prefix. If the credentials may not list key objects, notify the user. Raises StorageError."""
    try:
        yield from store.list(prefix)
    except AccessDenied as exc:
        if not prefix.startswith(KEYS):
            raise
        # An older policy has no rule for key objects. A store without sealed backups has none.
        notify(Notice(f"pgstow can't look for key objects of interrupted runs. {exc}"))


@dataclass(frozen=True, slots=True)
class _Users:
    """The backups that use objects of other backups, or may use them."""

    of_backups: Mapping[BackupRef, BackupRef]
    """The user of each backup's objects."""
    unreadable: Mapping[Database, BackupRef]
    """For each database, a backup whose manifest can't be read. It may use all objects of the database."""


def _find_users(manifests: Mapping[BackupRef, ReadManifest | None]) -> _Users:
    of_backups, unreadable = dict[BackupRef, BackupRef](), dict[Database, BackupRef]()
    for ref, read in manifests.items():
        if read is None:
            unreadable.setdefault((ref.cluster, ref.database), ref)
        else:
            of_backups |= dict.fromkeys(read.backup.uses, ref)
    return _Users(of_backups, unreadable)


def _why_kept(ref: BackupRef, found: _Found, request: GcRequest, now: datetime, users: _Users) -> str | None:
    if user := users.of_backups.get(ref):
        return f"objects used by {user.backup_id}"
    if user := users.unreadable.get((ref.cluster, ref.database)):
        return f"perhaps used by {user.backup_id}, whose manifest can't be read"
    if max(begun_at(ref.backup_id), found.newest) > now - request.grace:
        return "perhaps still running"
    return None
