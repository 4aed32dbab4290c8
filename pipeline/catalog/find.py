"""Find the backups that a store holds. A backup exists if, and only if, its manifest does."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import groupby

from pipeline.catalog.keys import (
    CLUSTER,
    MANIFESTS,
    RESERVED,
    BackupRef,
    is_backup_id,
    is_foreign,
    is_odd,
    manifests_prefix,
)
from pipeline.catalog.manifest import LONGEST_MANIFEST, Manifest, load_manifest
from pipeline.catalog.plausibility import doubt, doubt_ref
from pipeline.concurrency import Workers
from pipeline.errors import BackupNotFound, InvalidRequest, ManifestInvalid
from pipeline.events import Notice, Notify
from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend

LATEST = "latest"
_READERS = 8  # manifests read at once
_LARGE = 2 * 1024 * 1024
"""Bytes above which manifests are read one by one. Parsed, an attacker's manifest takes many times its size in memory."""
_ODD_NAMED = 5


@dataclass(frozen=True, slots=True)
class BackupSelector:
    """Which backup a user means."""

    backup: str = LATEST
    """A backup ID, its beginning if no other ID begins so, or ``latest``."""
    cluster: str | None = None
    """None for any cluster."""
    database: str | None = None
    """None for any database."""
    at: datetime | None = None
    """With ``latest``: select the newest backup whose data is of this moment or before."""
    partial: bool = False
    """With ``latest``: also select a backup that leaves something out."""


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """A manifest that a listing names."""

    ref: BackupRef
    stored_at: datetime
    """The time when the manifest was stored, by the store's clock, in UTC."""
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Listing:
    """The manifests that a store lists."""

    manifests: Sequence[ListedManifest]
    """The manifests in the order of their keys: oldest first within each database."""
    odd: Sequence[str]
    """Keys that look like a manifest's, but that pgstow never writes. They name no backups."""
    foreign: Sequence[str]
    """Other keys under :data:`MANIFESTS` that pgstow never writes."""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest that was read from a store."""

    manifest: Manifest
    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    doubt: str | None = None
    """Why no backup can have made the manifest; None if one can."""


def list_manifests(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> Listing:
    """Return the committed backups: of the store, of a cluster, or of a database. Costs one LIST per thousand backups. Raises StorageError."""
    found, odd, foreign = list[ListedManifest](), list[str](), list[str]()
    for info in store.list(manifests_prefix(cluster, database if cluster is not None else None)):
        if is_odd(info.key):
            odd.append(info.key)
        elif is_foreign(info.key):
            foreign.append(info.key)
        elif (ref := BackupRef.of_manifest_key(info.key)) and database in (None, ref.database):
            found.append(ListedManifest(ref, info.modified, info.size))
    return Listing(found, odd, foreign)


def list_backups(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> list[BackupRef]:
    """Return the committed backups: of the store, of a cluster, or of a database. The oldest comes first within each database.

    Raises StorageError.
    """
    return [listed.ref for listed in list_manifests(store, cluster, database).manifests]


def tell_foreign(listing: Listing, notify: Notify) -> None:
    """Notify of the foreign keys in one sentence, if there are any."""
    if keys := listing.foreign:
        are = "1 object has a name that is" if len(keys) == 1 else f"{len(keys):,} objects have names that are"
        notify(Notice(f"Under {MANIFESTS}, {are} not pgstow's, such as {keys[0]!r}. pgstow ignores and keeps them."))


def tell_odd(listing: Listing, notify: Notify) -> None:
    """Notify of the foreign keys by their number, and of the odd keys: the first five by name, the others by number."""
    tell_foreign(listing, notify)
    for key in listing.odd[:_ODD_NAMED]:
        notify(Notice(f"{key!r} is no name that pgstow gives to a manifest. pgstow ignores the object and keeps it."))
    if (more := len(listing.odd) - _ODD_NAMED) > 0:
        notify(Notice(f"{more} more names under {MANIFESTS} are not pgstow's either."))


def sources(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> list[tuple[str, str]]:
    """Return the cluster and the database of all backups in the store, sorted, each pair once.

    Leave out ``@cluster`` if the cluster's latest backup is a cluster manifest without data of its own. Raises BackupNotFound if nothing
    remains, or StorageError.
    """
    all_sources = sorted({(ref.cluster, ref.database) for ref in list_backups(store, cluster, database)})
    found = [source for source in all_sources if source[1] != CLUSTER or not _latest_is_record(store, source[0])]
    if not found:
        described = _described(BackupSelector(cluster=cluster, database=database))
        raise BackupNotFound(f"There is no backup {described}in {store.url}; pgstow list shows what there is.")
    return found


def _latest_is_record(store: StorageBackend, cluster: str) -> bool:
    """True if the cluster's latest backup only names other backups. False if its manifest can't be read: the backup may have data."""
    try:
        return bool(find_backup(store, BackupSelector(cluster=cluster, database=CLUSTER, partial=True)).members)
    except (ManifestInvalid, BackupNotFound):
        return False


def read_manifest(store: StorageBackend, ref: BackupRef) -> Manifest:
    """Return the backup's manifest, checked. Raises BackupNotFound if there is none, ManifestInvalid if it is damaged, or StorageError."""
    return load_manifest(read_manifest_bytes(store, ref), ref.manifest_key)


def read_manifest_bytes(store: StorageBackend, ref: BackupRef) -> bytes:
    """Return the manifest's bytes as stored.

    Raises BackupNotFound if there is none, ManifestInvalid if it is longer than any manifest that pgstow writes, or StorageError.
    """
    try:
        return store.get(ref.manifest_key, at_most=LONGEST_MANIFEST)
    except ObjectNotFound as exc:
        raise BackupNotFound(
            f"There is no backup {ref.backup_id} of {ref.cluster}/{ref.database} in {store.url}."
        ) from exc
    except ObjectTooLarge as exc:
        raise ManifestInvalid(
            f"The manifest {ref.manifest_key} is longer than the {LONGEST_MANIFEST} bytes that pgstow reads."
        ) from exc


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A committed backup, and its manifest if pgstow can read it."""

    ref: BackupRef
    manifest: Manifest | None
    """The manifest without its files, tables and objects, which would take gigabytes of memory for a year of backups. None if unreadable."""
    sha256: str | None
    """SHA-256 of the manifest's bytes, in hexadecimal. None if the manifest can't be read."""
    problem: str | None
    """Why the manifest can't be read or believed, in one sentence; None if it can."""
    uses: frozenset[BackupRef] = frozenset()
    """The other backups that stored some of this backup's objects."""


def read_catalog(store: StorageBackend, listed: Sequence[ListedManifest], now: datetime) -> list[CatalogEntry]:
    """Return an entry for each listed manifest, in the same order. ``now`` is the time by this machine's clock.

    Small manifests are read several at once. Large manifests are read one by one: parsed, they take many times their size in memory.
    A manifest that is damaged, missing or not believed raises nothing: its entry says why. Raises StorageError.
    """
    read = partial(_read_entry, store, now)
    small, large = ([one for one in listed if (one.size > _LARGE) is is_large] for is_large in (False, True))
    with Workers() as workers:
        entries = dict(workers.map(read, small, threads=_READERS, name="manifest"))
        entries |= workers.map(read, large, threads=1, name="large manifest")
    return [entries[one] for one in listed]


def _read_entry(store: StorageBackend, now: datetime, listed: ListedManifest) -> CatalogEntry:
    ref = listed.ref
    try:
        stored = _read_stored(store, listed, now)
    except (ManifestInvalid, BackupNotFound) as exc:
        return CatalogEntry(ref, None, None, str(exc))
    manifest = stored.manifest
    owners = {owner for one in manifest.objects if (owner := BackupRef.of_key(one.key))}
    return CatalogEntry(
        ref,
        manifest.model_copy(update={"files": [], "objects": [], "tables": []}),
        stored.sha256,
        stored.doubt and _not_believed(ref, stored.doubt),
        frozenset(owners - {ref}),
    )


def _read_stored(store: StorageBackend, listed: ListedManifest, now: datetime) -> StoredManifest:
    data = read_manifest_bytes(store, listed.ref)
    manifest = load_manifest(data, listed.ref.manifest_key)
    return StoredManifest(manifest, hashlib.sha256(data).hexdigest(), doubt(manifest, listed.stored_at, now))


def _not_believed(ref: BackupRef, reason: str) -> str:
    return f"The manifest {ref.manifest_key} is not believed: {reason}."


def find_backup(store: StorageBackend, wanted: BackupSelector, notify: Notify | None = None) -> Manifest:
    """Return the manifest of the one backup that ``wanted`` means. Raises as :func:`find_stored` does."""
    return find_stored(store, wanted, notify).manifest


def find_stored(store: StorageBackend, wanted: BackupSelector, notify: Notify | None = None) -> StoredManifest:
    """Return the one backup that ``wanted`` means, with the SHA-256 of its manifest's bytes.

    With ``latest``, pgstow considers only backups that can be believed. A backup that is named by its ID is returned even if it isn't
    believed, since perhaps a machine with a wrong clock made it. ``notify`` is then told why.

    Raises BackupNotFound if no backup fits, ManifestInvalid if a manifest is damaged, InvalidRequest if several databases or backups fit
    or ``wanted`` contradicts itself, or StorageError.
    """
    if wanted.backup != LATEST and wanted.at is not None:
        raise InvalidRequest(f"Say which backup either by {wanted.backup} or by --at, not by both.")
    now = datetime.now(UTC)
    listed = list_manifests(store, wanted.cluster, wanted.database).manifests
    if wanted.database is None and wanted.backup == LATEST:
        listed = [one for one in listed if one.ref.database not in RESERVED]
    if wanted.backup != LATEST:
        listed = [one for one in listed if one.ref.backup_id.startswith(wanted.backup)]
    if not listed:
        raise BackupNotFound(f"There is no backup {_described(wanted)}in {store.url}; pgstow list shows what there is.")
    _check_unambiguous([one.ref for one in listed], wanted)
    if wanted.backup == LATEST:
        return _find_latest(store, listed, wanted, now)
    found = _read_stored(store, listed[0], now)
    if found.doubt and notify:
        notify(Notice(_not_believed(listed[0].ref, found.doubt)))
    return found


def _find_latest(
    store: StorageBackend, listed: Sequence[ListedManifest], wanted: BackupSelector, now: datetime
) -> StoredManifest:
    partials, doubted = list[Manifest](), list[str]()
    for _, same_second in groupby(sorted(listed, key=_second, reverse=True), key=_second):
        timely = list[StoredManifest]()
        for one in same_second:
            if reason := doubt_ref(one.ref, one.stored_at, now):
                doubted.append(_not_believed(one.ref, reason))
                continue
            stored = _read_stored(store, one, now)
            if stored.doubt:
                doubted.append(_not_believed(one.ref, stored.doubt))
            elif wanted.at is None or stored.manifest.snapshot_at <= wanted.at:
                timely.append(stored)
        if fitting := [stored for stored in timely if wanted.partial or not stored.manifest.dump.partial]:
            return max(fitting, key=lambda stored: stored.manifest.snapshot_at)
        partials += [stored.manifest for stored in timely]
    if partials:
        raise BackupNotFound(
            f"There are only partial backups {_described(wanted)}in {store.url}, such as {partials[0].backup_id}: say which by its ID, "
            "or --partial for the latest of them."
        )
    if doubted:
        raise BackupNotFound(
            f"There is no backup {_described(wanted)}in {store.url} that can be believed. {doubted[0]} "
            "If such a backup is yours, name it by its ID."
        )
    raise BackupNotFound(f"There is no backup {_described(wanted)}in {store.url}; pgstow list shows what there is.")


def newest_believed(store: StorageBackend, cluster: str, database: str, notify: Notify) -> StoredManifest | None:
    """Return the newest backup of a database whose manifest can be read and believed; None if there is none. Raises StorageError.

    ``notify`` is told of newer manifests that can't be read.
    """
    now = datetime.now(UTC)
    for one in reversed(list_manifests(store, cluster, database).manifests):
        if doubt_ref(one.ref, one.stored_at, now):
            continue
        try:
            stored = _read_stored(store, one, now)
        except (ManifestInvalid, BackupNotFound) as exc:
            notify(Notice(str(exc)))
            continue
        if not stored.doubt:
            return stored
    return None


def _check_unambiguous(refs: Sequence[BackupRef], wanted: BackupSelector) -> None:
    sources = sorted({(ref.cluster, ref.database) for ref in refs})
    if len(sources) > 1:
        names = ", ".join(f"--cluster {cluster!r} --database {database!r}" for cluster, database in sources[:5])
        raise InvalidRequest(
            f"Backups of several databases fit; say which: {names}{', …' if len(sources) > 5 else ''}."
        )
    if wanted.backup != LATEST and not is_backup_id(wanted.backup) and len(refs) > 1:
        raise InvalidRequest(f"{len(refs)} backups begin with {wanted.backup}; give more of the ID.")


def _second(listed: ListedManifest) -> str:
    """Return the part of a backup's ID that says when the backup began."""
    return listed.ref.backup_id.partition("-")[0]


def _described(wanted: BackupSelector) -> str:
    parts = [] if wanted.backup == LATEST else [wanted.backup]
    if wanted.database is not None:
        parts.append(f"of {wanted.database}")
    if wanted.cluster is not None:
        parts.append(f"on {wanted.cluster}")
    if wanted.at is not None:
        parts.append(f"from {wanted.at:%Y-%m-%d %H:%M:%S%z} or before")
    return "".join(f"{part} " for part in parts)
