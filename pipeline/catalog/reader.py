"""Reads manifests from a store: one of them, or the summaries of all manifests of a listing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import ListedManifest
from pipeline.catalog.manifest import LONGEST_MANIFEST, Manifest, ManifestSummary, load_manifest
from pipeline.catalog.plausibility import doubt
from pipeline.catalog.reading import read_each
from pipeline.catalog.signature import read_signature
from pipeline.catalog.summary import load_summary
from pipeline.errors import BackupNotFound, ManifestInvalid, SignatureFault, Untrusted
from pipeline.trust.statement import Link
from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust

_LARGE = 2 * 1024 * 1024
"""Manifests of more bytes are read one by one, so that only one of them is in memory."""


@dataclass(frozen=True, slots=True)
class StoredSummary:
    """The summary of a manifest that was read from a store."""

    manifest: ManifestSummary
    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    doubt: str | None
    """The reason why no backup can have made the manifest; None if one can."""
    uses: frozenset[BackupRef]
    """The other backups whose objects this backup uses."""


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest that was read from a store."""

    manifest: Manifest
    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    doubt: str | None = None
    """The reason why no backup can have made the manifest; None if one can."""


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A committed backup, and its manifest's summary if pgstow can read it."""

    ref: BackupRef
    manifest: ManifestSummary | None
    """None if pgstow can't read the manifest."""
    sha256: str | None
    """SHA-256 of the manifest's bytes, in hexadecimal. None if the manifest can't be read."""
    problem: str | None
    """The reason why pgstow can't read the manifest or doesn't believe it, in one sentence; None if there is no such reason."""
    uses: frozenset[BackupRef] = frozenset()
    """The other backups whose objects this backup uses."""
    implausible: str | None = None
    """The reason why no backup can have made the manifest, in one sentence; None if one can, or if the manifest can't be read."""
    fault: SignatureFault | None = None
    """What is wrong with the manifest's signature; None if a trusted key signed the manifest, or if there are no trusted keys."""


def read_manifest(store: StorageBackend, ref: BackupRef) -> Manifest:
    """Return the backup's manifest. Raises BackupNotFound if there is none, ManifestInvalid if it is damaged, or StorageError."""
    return load_manifest(read_manifest_bytes(store, ref), ref.manifest_key)


def read_manifest_bytes(store: StorageBackend, ref: BackupRef) -> bytes:
    """Return the bytes of the backup's manifest.

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
            f"The manifest {ref.manifest_key} is longer than {LONGEST_MANIFEST:,} bytes, which is the most that pgstow reads."
        ) from exc


def read_trusted_bytes(store: StorageBackend, ref: BackupRef, trust: "Trust | None") -> bytes:
    """Return the bytes of the backup's manifest. If there are trusted keys, one of them must have signed these bytes.

    The signature is read first, since a stranger's manifest may be huge. Raises Untrusted, or as :func:`read_manifest_bytes` does.
    """
    signed = None if trust is None else read_signature(store, ref.manifest_key, Link, trust)
    data = read_manifest_bytes(store, ref)
    if signed is not None:
        signed.check(data)
    return data


def read_listed(store: StorageBackend, listed: ListedManifest, now: datetime) -> StoredManifest:
    """Return the listed manifest. ``now`` is the time by this machine's clock. Raises as :func:`read_manifest` does."""
    data = read_manifest_bytes(store, listed.ref)
    summary = parse_summary(data, listed, now)
    return StoredManifest(load_manifest(data, listed.ref.manifest_key), summary.sha256, summary.doubt)


def read_summary(store: StorageBackend, listed: ListedManifest, now: datetime) -> StoredSummary:
    """Return the summary of the listed manifest. ``now`` is the time by this machine's clock. Raises as :func:`read_manifest` does."""
    return parse_summary(read_manifest_bytes(store, listed.ref), listed, now)


def parse_summary(data: bytes, listed: ListedManifest, now: datetime) -> StoredSummary:
    """Return the summary of the listed manifest from the manifest's bytes. Raises ManifestInvalid."""
    loaded = load_summary(data, listed.ref.manifest_key)
    reason = doubt(loaded.manifest, loaded.contents, listed.stored_at, now)
    return StoredSummary(loaded.manifest, loaded.sha256, reason, loaded.owners - {listed.ref})


def read_catalog(
    store: StorageBackend, listed: Sequence[ListedManifest], now: datetime, trust: "Trust | None" = None
) -> Iterator[CatalogEntry]:
    """Yield an entry for each listed manifest, in the same order. ``now`` is the time by this machine's clock.

    Only summaries are read: see :mod:`pipeline.catalog.summary`. From a network, several small manifests are read at once, and large
    manifests one by one. If a manifest is damaged, missing, not believed, or not signed by a trusted key, its entry says why. Raises
    StorageError.
    """
    read = partial(_read_entry, store, now, trust)
    small = [one for one in listed if one.size <= _LARGE]
    entries = dict(read_each(store, read, small, name="manifest"))
    for one in listed:
        yield entries.pop(one) if one in entries else read(one)


def _read_entry(store: StorageBackend, now: datetime, trust: "Trust | None", listed: ListedManifest) -> CatalogEntry:
    ref, fault, reason = listed.ref, None, None
    try:
        try:
            data = read_trusted_bytes(store, ref, trust)
        except Untrusted as exc:
            data, fault, reason = read_manifest_bytes(store, ref), exc.fault, str(exc)
        stored = parse_summary(data, listed, now)
    except (ManifestInvalid, BackupNotFound) as exc:
        return CatalogEntry(ref, None, None, str(exc), fault=fault)
    implausible = stored.doubt and describe_doubt(ref, stored.doubt)
    problem = describe_doubt(ref, reason) if reason else implausible
    return CatalogEntry(ref, stored.manifest, stored.sha256, problem, stored.uses, implausible, fault)


def describe_doubt(ref: BackupRef, reason: str) -> str:
    """Return the sentence that says why pgstow doesn't believe a backup."""
    return f"The manifest {ref.manifest_key} is not believed: {reason}."
