"""Chooses the backups to copy, and reads their records from the source."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.catalog.attestation import LONGEST_ATTESTATION, Level, load_attestation
from pipeline.catalog.find import BackupSelector, find_stored
from pipeline.catalog.keys import CLUSTER, SIGNATURE_SUFFIX, BackupRef, begun_at, is_attestation_name
from pipeline.catalog.listing import ListedManifest
from pipeline.catalog.manifest import Manifest, load_manifest
from pipeline.catalog.reader import describe_doubt, parse_summary, read_manifest_bytes
from pipeline.catalog.signature import read_envelope
from pipeline.copy.request import CopyRequest
from pipeline.errors import BackupNotFound, ManifestInvalid, Untrusted
from pipeline.events import Notice, Notify
from pipeline.trust.statement import Link, Verification
from storage_backends import ObjectNotFound, ObjectTooLarge, StorageBackend, StorageError, TransientStorageError


@dataclass(frozen=True, slots=True)
class SourceBackup:
    """A backup as the source has it."""

    ref: BackupRef
    data: bytes
    """The manifest's bytes."""
    manifest: Manifest
    envelope: bytes | None
    """The bytes of the manifest's signature; None if the backup isn't signed."""


def choose(
    request: CopyRequest, source: StorageBackend, listed: Sequence[ListedManifest], notify: Notify, now: datetime
) -> list[ListedManifest]:
    """Return the backups in the listing that the request asks for: first those of whole servers, then the others, the oldest first.

    If the request names a whole server's backup, its members are returned, too.

    Raises BackupNotFound if no backup fits. If the request names a backup, also raises as :func:`find_stored` does.
    """
    if request.backup is not None:
        wanted = BackupSelector(
            request.backup, request.cluster, request.database, trust=request.trust, unsigned=request.unsigned
        )
        found = find_stored(source, wanted, notify).manifest
        named = {BackupRef(found.cluster, found.database, found.backup_id)}
        named |= {BackupRef(found.cluster, member.database, member.backup_id) for member in found.members}
        return _in_order(one for one in listed if one.ref in named)
    since = None if request.at_most_age is None else now - request.at_most_age
    chosen = [
        one
        for one in listed
        if request.database in (None, one.ref.database) and (since is None or begun_at(one.ref.backup_id) >= since)
    ]
    if not chosen:
        raise BackupNotFound(f"There is no such backup in {source.url}; pgstow list shows what there is.")
    return _in_order(chosen)


def _in_order(chosen: Iterable[ListedManifest]) -> list[ListedManifest]:
    # The signature of a cluster manifest covers its members. So each member must first be looked at together with it.
    return sorted(chosen, key=lambda one: (one.ref.database != CLUSTER, one.ref.backup_id, one.ref.manifest_key))


def read_backup(
    request: CopyRequest, source: StorageBackend, listed: ListedManifest, vouched: str | None, now: datetime
) -> SourceBackup:
    """Return the backup. If its manifest has the SHA-256 ``vouched``, it needs no signature: a believed cluster manifest names it.

    Raises:
        Untrusted: there are trusted keys, and none of them signed the manifest.
        ManifestInvalid: the manifest is damaged. Or it can't be true, and the request doesn't name its backup.
        BackupNotFound: the backup is gone.
        StorageError: the source can't be read.
    """
    ref, signed, fault = listed.ref, None, None
    envelope: bytes | None = None
    try:
        envelope = read_envelope(source, ref.manifest_key + SIGNATURE_SUFFIX)
        signed = request.trust and request.trust.read(envelope, ref.manifest_key, Link)
    except ObjectNotFound:
        fault = Untrusted("unsigned", "it is not signed")
    except Untrusted as exc:
        fault = exc
    if fault and request.excuses(fault):
        fault = None
    if fault and vouched is None:  # before the manifest is read, since a stranger's may be huge
        raise Untrusted(fault.fault, describe_doubt(ref, str(fault)))
    data = read_manifest_bytes(source, ref)
    try:
        if signed:
            signed.check(data)
        elif fault and hashlib.sha256(data).hexdigest() != vouched:
            raise fault
    except Untrusted as exc:
        raise Untrusted(exc.fault, describe_doubt(ref, str(exc))) from exc
    reason = parse_summary(data, listed, now).doubt
    if reason and request.backup is None:
        raise ManifestInvalid(describe_doubt(ref, reason))
    return SourceBackup(ref, data, load_manifest(data, ref.manifest_key), envelope)


def read_attestations(
    request: CopyRequest, source: StorageBackend, backup: SourceBackup, notify: Notify
) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Yield key, bytes and signature of each attestation of the backup that also holds for a copy.

    An attestation of level objects or bytes that isn't good is left out: it says that the source has damaged objects, but only undamaged
    ones are copied. An attestation is also left out if it is invalid, is about another manifest, or isn't signed by a trusted key. If the
    source doesn't give an attestation, it is left out with a notice.

    Raises StorageError if attestations can't be listed, or if the source fails.
    """
    sha256 = hashlib.sha256(backup.data).hexdigest()
    prefix = backup.ref.attestations_prefix
    keys = [info.key for info in source.list(prefix) if is_attestation_name(info.key.removeprefix(prefix))]
    for key in keys:
        try:
            data, envelope = _read_signed(request, source, key)
            attestation = load_attestation(data, key)
        except (ManifestInvalid, Untrusted, ObjectNotFound, ObjectTooLarge):
            continue
        except TransientStorageError:
            raise
        except StorageError as exc:  # an attacker may store an object that nobody else can read
            notify(Notice(f"An attestation is not copied. {exc}"))
            continue
        of_content = attestation.level in (Level.ARCHIVE, Level.RESTORE)
        if attestation.manifest_sha256 == sha256 and (attestation.good or of_content):
            yield key, data, envelope


def _read_signed(request: CopyRequest, source: StorageBackend, key: str) -> tuple[bytes, bytes | None]:
    """Return the bytes of an attestation, and those of its signature; None if it isn't signed.

    If there are trusted keys, raises Untrusted or ObjectNotFound unless one of them signed the attestation. Raises StorageError.
    """
    envelope = None
    try:
        envelope = read_envelope(source, key + SIGNATURE_SUFFIX)
    except (ObjectNotFound, Untrusted):
        if request.trust:
            raise
    data = source.get(key, at_most=LONGEST_ATTESTATION)
    if envelope and request.trust:
        request.trust.read(envelope, key, Verification).check(data)
    return data, envelope
