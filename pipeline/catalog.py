"""Which backups a store holds: the manifests, and nothing else, say so."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby

from pipeline.concurrency import Workers
from pipeline.errors import BackupNotFound, InvalidRequest, ManifestInvalid
from pipeline.layout import RESERVED, WHOLE, BackupRef, is_backup_id, manifests_prefix
from pipeline.manifest import Manifest, load_manifest
from storage_backends import ObjectNotFound, StorageBackend

LATEST = "latest"
_READERS = 8  # manifests read at once


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which backup a user means."""

    backup: str = LATEST
    """A backup ID, the beginning of one that is unique, or ``latest``."""
    cluster: str | None = None
    database: str | None = None
    at: datetime | None = None
    """With ``latest``: the newest whose data is of this moment or before."""
    partial: bool = False
    """With ``latest``: also one that something was left out of."""


def list_backups(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> list[BackupRef]:
    """Every committed backup, oldest first within each database. Costs one LIST per thousand."""
    prefix = manifests_prefix(cluster, database if cluster is not None else None)
    refs = [ref for info in store.list(prefix) if (ref := BackupRef.of_manifest_key(info.key))]
    if database is not None:
        refs = [ref for ref in refs if ref.database == database]
    return refs


def sources(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> list[tuple[str, str]]:
    """Cluster and database of everything that there are backups of, but for clusters whose latest one is a record of others.

    Raises BackupNotFound where there is none.
    """
    latest = {(ref.cluster, ref.database): ref for ref in list_backups(store, cluster, database)}
    found = [source for source, ref in sorted(latest.items()) if ref.database != WHOLE or not _is_record(store, ref)]
    if not found:
        described = _described(Wanted(cluster=cluster, database=database))
        raise BackupNotFound(f"There is no backup {described}in {store.url}; pgstow list shows what there is.")
    return found


def _is_record(store: StorageBackend, ref: BackupRef) -> bool:
    """Whether a cluster's backup has no data of its own; one that can't be read may have."""
    try:
        return not read_manifest(store, ref).files
    except ManifestInvalid:
        return False


def read_manifest(store: StorageBackend, ref: BackupRef) -> Manifest:
    """The backup's manifest, checked. Raises BackupNotFound or ManifestInvalid."""
    return load_manifest(read_manifest_bytes(store, ref), ref.manifest_key)


def read_manifest_bytes(store: StorageBackend, ref: BackupRef) -> bytes:
    """The manifest as it is stored. Raises BackupNotFound."""
    try:
        return store.get(ref.manifest_key)
    except ObjectNotFound as exc:
        raise BackupNotFound(
            f"There is no backup {ref.backup_id} of {ref.cluster}/{ref.database} in {store.url}."
        ) from exc


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A committed backup and what can be read of its manifest."""

    ref: BackupRef
    manifest: Manifest | None
    """Without its files, tables and objects: of a year of backups, these would take gigabytes of memory."""
    sha256: str | None
    """Of the manifest's bytes, in hexadecimal."""
    problem: str | None
    """Why there is no manifest: one sentence."""
    uses: frozenset[BackupRef] = frozenset()
    """Other backups under which some of its objects lie."""


def read_catalog(store: StorageBackend, refs: Sequence[BackupRef]) -> list[CatalogEntry]:
    """The backups' manifests, several at once. Raises StorageError, but tells of an invalid manifest in its entry."""
    entries: dict[BackupRef, CatalogEntry] = {}
    with Workers() as workers:
        reading = workers.pool(_READERS, "manifest")
        for ref in refs:
            reading.submit(partial(_read_entry, store, ref), lambda entry: entries.update({entry.ref: entry}))
        while reading.pending:
            workers.collect(timeout=1.0)
    return [entries[ref] for ref in refs]


def _read_entry(store: StorageBackend, ref: BackupRef) -> CatalogEntry:
    try:
        data = read_manifest_bytes(store, ref)
        manifest = load_manifest(data, ref.manifest_key)
    except (ManifestInvalid, BackupNotFound) as exc:
        return CatalogEntry(ref, None, None, str(exc))
    owners = {owner for stored in manifest.objects if (owner := BackupRef.of_key(stored.key))}
    return CatalogEntry(
        ref,
        manifest.model_copy(update={"files": [], "objects": [], "tables": []}),
        hashlib.sha256(data).hexdigest(),
        None,
        frozenset(owners - {ref}),
    )


def find_backup(store: StorageBackend, wanted: Wanted) -> Manifest:
    """The one backup that ``wanted`` means.

    Raises BackupNotFound where there is none, and InvalidRequest where several databases or backups fit.
    """
    if wanted.backup != LATEST and wanted.at is not None:
        raise InvalidRequest(f"Say which backup either by {wanted.backup} or by --at, not by both.")
    refs = list_backups(store, wanted.cluster, wanted.database)
    if wanted.database is None and wanted.backup == LATEST:
        refs = [ref for ref in refs if ref.database not in RESERVED]
    if wanted.backup != LATEST:
        refs = [ref for ref in refs if ref.backup_id.startswith(wanted.backup)]
    if not refs:
        raise BackupNotFound(f"There is no backup {_described(wanted)}in {store.url}; pgstow list shows what there is.")
    _check_unambiguous(refs, wanted)
    if wanted.backup != LATEST:
        return read_manifest(store, refs[0])
    by_second = groupby(sorted(refs, key=_second, reverse=True), key=_second)
    passed_over: list[Manifest] = []
    for _, same_second in by_second:
        manifests = [read_manifest(store, ref) for ref in same_second]
        timely = [manifest for manifest in manifests if wanted.at is None or manifest.snapshot_at <= wanted.at]
        if fitting := [manifest for manifest in timely if wanted.partial or not manifest.dump.partial]:
            return max(fitting, key=lambda manifest: manifest.snapshot_at)
        passed_over += timely
    if passed_over:
        raise BackupNotFound(
            f"There are only partial backups {_described(wanted)}in {store.url}, such as {passed_over[0].backup_id}: say which by its ID, "
            "or --partial for the latest of them."
        )
    raise BackupNotFound(f"There is no backup {_described(wanted)}in {store.url}; pgstow list shows what there is.")


def _check_unambiguous(refs: Sequence[BackupRef], wanted: Wanted) -> None:
    sources = sorted({(ref.cluster, ref.database) for ref in refs})
    if len(sources) > 1:
        names = ", ".join(f"--cluster {cluster!r} --database {database!r}" for cluster, database in sources[:5])
        raise InvalidRequest(
            f"Backups of several databases fit; say which: {names}{', …' if len(sources) > 5 else ''}."
        )
    if wanted.backup != LATEST and not is_backup_id(wanted.backup) and len(refs) > 1:
        raise InvalidRequest(f"{len(refs)} backups begin with {wanted.backup}; give more of the ID.")


def _second(ref: BackupRef) -> str:
    """The part of a backup's ID that says when it began."""
    return ref.backup_id.partition("-")[0]


def _described(wanted: Wanted) -> str:
    parts = [] if wanted.backup == LATEST else [wanted.backup]
    if wanted.database is not None:
        parts.append(f"of {wanted.database}")
    if wanted.cluster is not None:
        parts.append(f"on {wanted.cluster}")
    if wanted.at is not None:
        parts.append(f"from {wanted.at:%Y-%m-%d %H:%M:%S%z} or before")
    return "".join(f"{part} " for part in parts)
