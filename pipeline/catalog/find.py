"""Finds the backup that a user means, among the backups in a store."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.catalog.keys import CLUSTER, RESERVED, BackupRef, begun_at, is_backup_id
from pipeline.catalog.listing import ListedManifest, list_backups, list_manifests
from pipeline.catalog.manifest import Manifest, ManifestSummary, load_manifest
from pipeline.catalog.plausibility import CLOCK_TOLERANCE, doubt_ref
from pipeline.catalog.reader import (
    StoredManifest,
    StoredSummary,
    describe_doubt,
    parse_summary,
    read_summary,
    read_trusted_bytes,
)
from pipeline.catalog.summary import LoadedDetails, load_details
from pipeline.errors import BackupNotFound, InvalidRequest, ManifestInvalid, Untrusted
from pipeline.events import Notice, Notify
from storage_backends import StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class BackupSelector:
    """The conditions by which a user selects one backup."""

    backup: str = LATEST
    """A backup ID, the beginning of a single backup's ID, or ``latest``."""
    cluster: str | None = None
    """None for any cluster."""
    database: str | None = None
    """None for any database."""
    at: datetime | None = None
    """With ``latest``: select the newest backup whose snapshot was taken at this time or before."""
    partial: bool = False
    """With ``latest``: partial backups count, too."""
    trust: "Trust | None" = None
    """Select only a backup that one of these keys signed. None if there are no trusted keys."""
    unsigned: bool = False
    """With a backup ID: select the backup even if no trusted key signed it."""


def sources(
    store: StorageBackend, cluster: str | None = None, database: str | None = None, trust: "Trust | None" = None
) -> list[tuple[str, str]]:
    """Return the cluster and the database of all backups in the store, sorted, each pair once.

    Leave out ``@cluster`` if its latest backup only names backups of databases, and has no data itself. ``trust`` decides which backup
    is the latest. Raises BackupNotFound if no pair remains, or StorageError.
    """
    all_sources = sorted({(ref.cluster, ref.database) for ref in list_backups(store, cluster, database)})
    found = [
        source for source in all_sources if source[1] != CLUSTER or not _latest_has_members(store, source[0], trust)
    ]
    if not found:
        raise _not_found(store, BackupSelector(cluster=cluster, database=database))
    return found


def _latest_has_members(store: StorageBackend, cluster: str, trust: "Trust | None") -> bool:
    """True if the latest backup of ``@cluster`` only names other backups. False if its manifest can't be read: the backup may have data."""
    try:
        found = _find(store, BackupSelector(cluster=cluster, database=CLUSTER, partial=True, trust=trust), None)
        return bool(found.summary.manifest.members)
    except (ManifestInvalid, BackupNotFound):
        return False


def find_backup(store: StorageBackend, wanted: BackupSelector, notify: Notify | None = None) -> Manifest:
    """Return the manifest of the backup that ``wanted`` selects. Raises as :func:`find_stored` does."""
    return find_stored(store, wanted, notify).manifest


def find_details(store: StorageBackend, wanted: BackupSelector, notify: Notify | None = None) -> LoadedDetails:
    """Return what the manifest of the selected backup says, without a model for each file. Raises as :func:`find_stored` does."""
    found = _find(store, wanted, notify)
    return load_details(found.data, found.ref.manifest_key)


def find_stored(store: StorageBackend, wanted: BackupSelector, notify: Notify | None = None) -> StoredManifest:
    """Return the manifest of the backup that ``wanted`` selects, with the SHA-256 of the manifest's bytes.

    With ``latest``, pgstow considers only backups that it believes. A backup with the given ID is returned even if pgstow doesn't believe
    it, since a machine with a wrong clock may have made it. A notice then says why pgstow doesn't believe the backup.

    If there are trusted keys, ``latest`` ignores the backups that none of them signed. Notices name the ignored backups that are newer than
    the selected one.

    Raises:
        Untrusted: no trusted key signed the backup with the given ID.
        BackupNotFound: no backup fits.
        ManifestInvalid: a manifest is damaged, and ``wanted`` may mean its backup.
        InvalidRequest: several databases or backups fit, or ``wanted`` contradicts itself.
        StorageError: the store can't be read.
    """
    found = _find(store, wanted, notify)
    manifest = load_manifest(found.data, found.ref.manifest_key)
    return StoredManifest(manifest, found.summary.sha256, found.summary.doubt)


@dataclass(frozen=True, slots=True)
class _Found:
    """A manifest of which only the summary is parsed."""

    ref: BackupRef
    data: bytes
    summary: StoredSummary


def _find(store: StorageBackend, wanted: BackupSelector, notify: Notify | None) -> _Found:
    """Return the manifest that :func:`find_stored` returns. Raises as it does, but only for faults in the manifests' summaries."""
    if wanted.backup != LATEST and wanted.at is not None:
        raise InvalidRequest(f"Select the backup either by {wanted.backup} or by --at, not by both.")
    now = datetime.now(UTC)
    listed = list_manifests(store, wanted.cluster, wanted.database).manifests
    if wanted.database is None and wanted.backup == LATEST:
        listed = [one for one in listed if one.ref.database not in RESERVED]
    if wanted.backup != LATEST:
        listed = [one for one in listed if one.ref.backup_id.startswith(wanted.backup)]
    if not listed:
        raise _not_found(store, wanted)
    _check_unambiguous([one.ref for one in listed], wanted)
    if wanted.backup == LATEST:
        return _find_latest(store, listed, wanted, now, notify)
    try:
        found = _read(store, listed[0], now, wanted.trust)
    except Untrusted as exc:
        sentence = describe_doubt(listed[0].ref, str(exc))
        if not wanted.unsigned:
            raise Untrusted(exc.fault, f"{sentence} To use the backup all the same, add --unsigned.") from exc
        if notify:
            notify(Notice(sentence))
        found = _read(store, listed[0], now, None)
    if found.summary.doubt and notify:
        notify(Notice(describe_doubt(found.ref, found.summary.doubt)))
    return found


def _find_latest(
    store: StorageBackend,
    listed: Sequence[ListedManifest],
    wanted: BackupSelector,
    now: datetime,
    notify: Notify | None,
) -> _Found:
    partials, doubted, untrusted = list[ManifestSummary](), list[str](), list[str]()
    timely = [one for one in listed if not _began_after(one.ref, wanted.at)]
    for _, same_second in groupby(sorted(timely, key=_second, reverse=True), key=_second):
        newest: _Found | None = None
        for one in same_second:
            if reason := doubt_ref(one.ref, one.stored_at, now):
                doubted.append(describe_doubt(one.ref, reason))
                continue
            try:
                found = _read(store, one, now, wanted.trust)
            except Untrusted as exc:
                untrusted.append(describe_doubt(one.ref, str(exc)))
                continue
            manifest = found.summary.manifest
            if found.summary.doubt:
                doubted.append(describe_doubt(one.ref, found.summary.doubt))
            elif wanted.at is None or manifest.snapshot_at <= wanted.at:
                if manifest.dump.partial and not wanted.partial:
                    partials.append(manifest)
                elif newest is None or manifest.snapshot_at > newest.summary.manifest.snapshot_at:
                    newest = found
            del found  # the bytes of two large manifests would take twice the memory
        if newest is not None:
            if notify:
                for sentence in untrusted:
                    notify(Notice(f"{sentence} pgstow ignores the backup."))
            return newest
    if partials:
        raise BackupNotFound(
            f"There are only partial backups {_described(wanted)}in {store.url}, such as {partials[0].backup_id}: name one by its ID, "
            "or say --partial for the latest of them."
        )
    if doubted := untrusted + doubted:
        raise BackupNotFound(
            f"There is no backup {_described(wanted)}in {store.url} that can be believed. {doubted[0]} "
            f"If such a backup is yours, name it by its ID{', and add --unsigned' if untrusted else ''}."
        )
    raise _not_found(store, wanted)


def _read(store: StorageBackend, listed: ListedManifest, now: datetime, trust: "Trust | None") -> _Found:
    data = read_trusted_bytes(store, listed.ref, trust)
    return _Found(listed.ref, data, parse_summary(data, listed, now))


def _began_after(ref: BackupRef, at: datetime | None) -> bool:
    """True if the backup surely began after ``at``, so that its snapshot is later, too. False without ``at``.

    The ID has the time of the machine that backed up. The snapshot has the time of the database server, whose clock may be behind.
    """
    return at is not None and begun_at(ref.backup_id) - CLOCK_TOLERANCE > at


def newest_believed(store: StorageBackend, cluster: str, database: str, notify: Notify) -> StoredSummary | None:
    """Return the newest backup of a database whose manifest pgstow can read and believes; None if there is none. Raises StorageError.

    A notice names each newer manifest that can't be read.
    """
    now = datetime.now(UTC)
    for one in reversed(list_manifests(store, cluster, database).manifests):
        if doubt_ref(one.ref, one.stored_at, now):
            continue
        try:
            stored = read_summary(store, one, now)
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
            f"Backups of several databases fit; choose one: {names}{', …' if len(sources) > 5 else ''}."
        )
    if wanted.backup != LATEST and not is_backup_id(wanted.backup) and len(refs) > 1:
        raise InvalidRequest(f"The IDs of {len(refs)} backups begin with {wanted.backup}; give more of the ID.")


def _second(listed: ListedManifest) -> str:
    """Return the part of a backup's ID that holds its time, to the second."""
    return listed.ref.backup_id.partition("-")[0]


def _not_found(store: StorageBackend, wanted: BackupSelector) -> BackupNotFound:
    return BackupNotFound(f"There is no backup {_described(wanted)}in {store.url}; pgstow list shows what there is.")


def _described(wanted: BackupSelector) -> str:
    parts = [] if wanted.backup == LATEST else [wanted.backup]
    if wanted.database is not None:
        parts.append(f"of {wanted.database}")
    if wanted.cluster is not None:
        parts.append(f"on {wanted.cluster}")
    if wanted.at is not None:
        parts.append(f"from {wanted.at:%Y-%m-%d %H:%M:%S%z} or before")
    return "".join(f"{part} " for part in parts)
