"""Lists the backups in a store. A backup exists if, and only if, its manifest exists."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from pipeline.catalog.keys import MANIFESTS, SIGNATURE_SUFFIX, BackupRef, is_foreign, is_odd, manifests_prefix
from pipeline.counting import counted
from pipeline.events import Notice, Notify
from storage_backends import StorageBackend

_ODD_NAMED = 5


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """A manifest in a listing, not yet read."""

    ref: BackupRef
    stored_at: datetime
    """The time when the manifest was stored, by the store's clock, in UTC."""
    size: int
    """Bytes."""
    checksum: str | None = None
    """The manifest's checksum in the listing; None if the store lists none."""
    version: str | None = None
    """The manifest's version in the listing; None if the store lists none."""
    signed: bool = False
    """True if an object is listed where the manifest's signature belongs. Nobody checked the signature."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The manifests in a store."""

    manifests: Sequence[ListedManifest]
    """The manifests in the order of their keys: oldest first within each database."""
    odd: Sequence[str]
    """Keys that look like a manifest's, but that pgstow never writes. They stand for no backups."""
    foreign: Sequence[str]
    """Other keys under :data:`MANIFESTS` that pgstow never writes."""


def list_manifests(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> Listing:
    """Return the manifests of the store, of a cluster, or of a database. Costs one LIST per thousand backups. Raises StorageError."""
    found, odd, foreign = list[ListedManifest](), list[str](), list[str]()
    for info in store.list(manifests_prefix(cluster, database if cluster is not None else None)):
        if ref := BackupRef.of_manifest_key(info.key):
            if database in (None, ref.database):
                found.append(ListedManifest(ref, info.modified, info.size, info.checksum, info.version))
        elif found and info.key == found[-1].ref.manifest_key + SIGNATURE_SUFFIX:
            found[-1] = replace(found[-1], signed=True)
        elif is_odd(info.key):
            odd.append(info.key)
        elif is_foreign(info.key):
            foreign.append(info.key)
    return Listing(found, odd, foreign)


def list_backups(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> list[BackupRef]:
    """Return the backups of the store, of a cluster, or of a database. The oldest comes first within each database.

    Raises StorageError.
    """
    return [listed.ref for listed in list_manifests(store, cluster, database).manifests]


def tell_foreign(listing: Listing, notify: Notify) -> None:
    """Report the foreign keys in one notice, if there are any."""
    if keys := listing.foreign:
        are = "1 object has a name that is" if len(keys) == 1 else f"{len(keys):,} objects have names that are"
        notify(Notice(f"Under {MANIFESTS}, {are} not pgstow's, such as {keys[0]!r}. pgstow ignores and keeps them."))


def tell_odd(listing: Listing, notify: Notify) -> None:
    """Report the number of foreign keys, the first five odd keys by name, and the number of the other odd keys."""
    tell_foreign(listing, notify)
    for key in listing.odd[:_ODD_NAMED]:
        notify(Notice(f"{key!r} is no name that pgstow gives to a manifest. pgstow ignores the object and keeps it."))
    if (more := len(listing.odd) - _ODD_NAMED) > 0:
        notify(
            Notice(
                f"{counted(more, 'more name')} under {MANIFESTS} {'is' if more == 1 else 'are'} not pgstow's either."
            )
        )
