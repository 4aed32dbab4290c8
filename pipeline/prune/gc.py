"""Removes objects that interrupted runs left in a store. They belong to backups that have no manifest.

A store can't tell whether a backup without a manifest is still running. But the backup's ID says when the backup began, and the store's
clock says when the newest object was stored. If either time is less than the grace period ago, pgstow keeps the objects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.catalog.keys import ATTESTATIONS, DATA, MANIFESTS, SIGNATURE_SUFFIX, BackupRef, begun_at, is_of_check
from pipeline.catalog.listing import list_manifests, tell_odd
from pipeline.catalog.reader import CatalogEntry, read_catalog
from pipeline.counting import counted
from pipeline.events import Notice, Notify, Started
from pipeline.prune.deletion import Deleted, remove
from storage_backends import ObjectNotFound, StorageBackend, StorageError


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


def find_leftovers(request: GcRequest, store: StorageBackend, notify: Notify, now: datetime) -> list[Leftover]:
    """Return the leftovers of all backups without a manifest, in the order of the backups' keys. Nothing is changed.

    Raises StorageError if objects can't be listed or read, or if a listing leaves out a manifest that exists.
    """
    notify(Started("Listing objects"))
    stored = _list_objects(request, store, notify)
    # Manifests are listed after objects, so that a backup that was committed in between counts as committed.
    listing = list_manifests(store)
    tell_odd(listing, notify)
    entries = read_catalog(store, listing.manifests, now)
    users = {ref: entry.ref for entry in entries for ref in entry.uses}
    committed = {entry.ref for entry in entries}
    leftovers = [
        Leftover(ref, found.objects, found.size, found.newest, _why_kept(ref, found, request, now, users, entries))
        for ref, found in sorted(stored.items(), key=lambda item: item[0].manifest_key)
        if ref not in committed
    ]
    for one in leftovers:
        if one.kept is None:
            _require_no_manifest(store, one.ref)
    return leftovers


def collect(
    request: GcRequest, approved: Sequence[Leftover], store: StorageBackend, notify: Notify, now: datetime
) -> Deleted:
    """Look at the store again, and remove the leftovers that neither ``approved`` nor the new look keeps. Return the removed objects.

    Raises StorageError as :func:`find_leftovers` does. Also raises StorageError if the store refuses to delete, possibly after some objects
    were deleted.
    """
    agreed = {one.ref for one in approved if one.kept is None}
    doomed = [one.ref for one in find_leftovers(request, store, notify, now) if one.kept is None and one.ref in agreed]
    notify(Started(f"Removing the objects of {counted(len(doomed), 'interrupted run')}"))
    removed = Deleted()
    for ref in doomed:
        remove(store, (info for prefix in ref.prefixes for info in store.list(prefix)), removed)
    return removed


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


def _list_objects(request: GcRequest, store: StorageBackend, notify: Notify) -> dict[BackupRef, _Found]:
    """Return all stored objects except manifests, by backup. If a key is not pgstow's, leave its object out, and notify the user once."""
    stored: dict[BackupRef, _Found] = {}
    odd = list[str]()
    for top in (DATA, ATTESTATIONS, MANIFESTS):
        for info in store.list(top):
            ref = BackupRef.of_key(info.key)
            if ref is None and top != MANIFESTS and not is_of_check(info.key):
                odd.append(info.key)
            if ref is None or (top == MANIFESTS and not info.key.endswith(SIGNATURE_SUFFIX)):
                continue
            if request.cluster in (None, ref.cluster) and request.database in (None, ref.database):
                found = stored.setdefault(ref, _Found(info.modified))
                found.newest = max(found.newest, info.modified)
                found.objects += 1
                found.size += info.size
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


def _why_kept(
    ref: BackupRef,
    found: _Found,
    request: GcRequest,
    now: datetime,
    users: Mapping[BackupRef, BackupRef],
    entries: Sequence[CatalogEntry],
) -> str | None:
    if user := users.get(ref):
        return f"objects used by {user.backup_id}"
    for entry in entries:
        if entry.manifest is None and (entry.ref.cluster, entry.ref.database) == (ref.cluster, ref.database):
            return f"perhaps used by {entry.ref.backup_id}, whose manifest can't be read"
    if max(begun_at(ref.backup_id), found.newest) > now - request.grace:
        return "perhaps still running"
    return None
