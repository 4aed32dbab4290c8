"""Verifies a backup: checks that all objects and files in its manifest still exist and are unchanged."""

from datetime import UTC, datetime

from pipeline.archive.reader import dump_format
from pipeline.catalog.attestation import Attestation, Level, shortened, store_attestation
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.reader import StoredManifest
from pipeline.concurrency import Workers
from pipeline.errors import DatabaseLeft
from pipeline.events import Notice, Notify, Started
from pipeline.verify.archive import verify_archive, verify_bytes
from pipeline.verify.objects import check_objects
from pipeline.verify.proof import Proof, prove
from pipeline.verify.request import Verification, VerifyRequest
from pipeline.verify.unreadable import ObjectUnreadable, UnreadableTracker, objects_of_others
from storage_backends import AccessDenied, StorageBackend, StorageError, TransientStorageError


def verify(stored: StoredManifest, request: VerifyRequest, store: StorageBackend, notify: Notify) -> Verification:
    """Verify one backup and return the result. Continue to the end even if something is damaged or can't be read.

    For a cluster manifest with members, use :class:`pipeline.verify.cluster.ClusterVerification` instead.

    Raises DatabaseLeft if the backup is good, but the scratch database could not be dropped. Raises another PipelineError if the backup
    can't be verified here, and StorageError if the store is down or refuses access.
    """
    started_at, manifest = datetime.now(UTC), stored.manifest
    # A script of globals or of a cluster makes roles and tablespaces, which a server may already have. So pgstow doesn't restore the script,
    # and verifies it only up to level archive.
    of_server = manifest.kind != "database"
    if of_server and (request.proof.checksums or request.proof.assertions):
        notify(
            Notice(
                f"{manifest.database} is a script of a whole server, which verify can't restore: no content was compared, and no assertion "
                "was checked."
            )
        )
    level = Level.ARCHIVE if of_server and request.level is Level.RESTORE else request.level
    found = Verification(stored, level, problems=doubts(stored))
    notify(Started(f"Verifying {manifest.cluster}/{manifest.database} {manifest.backup_id} at {store.url}: {level}"))
    try:
        _examine(request, found, store, notify)
        found.attestation = attest(request, found, started_at, store, notify)
    except BaseException:
        _tell_left(found, notify)
        raise
    if found.proof and found.proof.left and found.good:
        raise DatabaseLeft(f"The backup {manifest.backup_id} is proven. {found.proof.left}") from found.proof.left
    _tell_left(found, notify)
    return found


def doubts(stored: StoredManifest) -> list[str]:
    """Return a sentence on why the manifest isn't believed. The backup then can't be good. Return an empty list if it is believed."""
    return [f"The manifest of {stored.manifest.backup_id} is not believed: {stored.doubt}."] if stored.doubt else []


def _tell_left(found: Verification, notify: Notify) -> None:
    """Notify the user if a scratch database could not be dropped. Call this function unless DatabaseLeft is raised."""
    if found.proof and found.proof.left:
        notify(Notice(str(found.proof.left)))


def _examine(request: VerifyRequest, found: Verification, store: StorageBackend, notify: Notify) -> None:
    """Examine the backup at its level, and add the results to ``found``. Raises as :func:`verify` does, except DatabaseLeft."""
    manifest = found.manifest
    tracker = UnreadableTracker(store, [stored.key for stored in manifest.objects])
    with Workers() as workers:
        match found.level:
            case Level.OBJECTS:
                check = check_objects(tracker, manifest.objects, workers, 4 * request.limits.transfers, notify)
                found.objects, found.without_checksum = check.objects, check.without_checksum
                found.problems += check.problems
            case Level.BYTES:
                verify_bytes(tracker, manifest.objects, found, workers, request.limits, notify)
            case Level.ARCHIVE:
                verify_archive(tracker, request, found, workers, notify)
            case Level.RESTORE:
                _verify_restore(tracker, request, found, workers, notify)
    found.replaced = sorted(set(found.replaced))
    own = BackupRef(manifest.cluster, manifest.database, manifest.backup_id)
    try:
        found.unreadable = tracker.conclude(objects_of_others(tracker.hurried, own))
    except TransientStorageError as exc:
        if not found.problems:
            raise
        notify(Notice(str(exc)))  # the damage that was found decides the exit code
    if found.proof and found.proof.hindrance and found.good:
        raise found.proof.hindrance


def _verify_restore(
    store: UnreadableTracker, request: VerifyRequest, found: Verification, workers: Workers, notify: Notify
) -> None:
    try:
        proof = prove(found.manifest, request.proof, store, request.limits, request.programs, notify)
    except ObjectUnreadable:
        proof = Proof()  # the other objects are still read below
    found.proof = proof
    # A restore checks each file of a directory. If the dump is a single file, a restore doesn't notice a table that the manifest lacks.
    is_directory = dump_format(found.manifest) == "directory"
    checked = {file.path for file in proof.restored.files} if proof.restored and is_directory else set[str]()
    if proof.restored:
        found.read += proof.restored.fetched
        found.replaced += proof.restored.replaced
    verify_archive(store, request, found, workers, notify, checked, proof.archive)
    # The restore names only the first damaged object. The check of the archive names all damaged objects.
    told = " ".join(found.problems)
    found.problems += [problem for problem in proof.problems if problem not in told]
    if proof.hindrance and found.problems:
        notify(Notice(str(proof.hindrance)))


def attest(
    request: VerifyRequest, found: Verification, started_at: datetime, store: StorageBackend, notify: Notify
) -> str | None:
    """Put an attestation of the result into the store, if the request asks for one. Return its key; None if no attestation was put.

    If the attestation can't be put, this must not hide the result. So if the backup isn't good, or if the credentials don't allow
    attestations, only notify the user. Otherwise raise StorageError.
    """
    if not (request.attest or (request.attest is None and request.level is Level.RESTORE)):
        return None
    manifest, proof = found.manifest, found.proof
    ref = BackupRef(manifest.cluster, manifest.database, manifest.backup_id)
    try:
        attestation = Attestation(
            cluster=ref.cluster,
            database=ref.database,
            backup_id=ref.backup_id,
            manifest_sha256=found.stored.sha256,
            level=found.level.value,
            good=found.good,
            problems=shortened(found.problems),
            unreadable=found.unreadable,
            replaced=shortened(found.replaced),
            objects=found.objects,
            objects_without_checksum=found.without_checksum,
            files=found.files,
            restore=proof.describe() if proof else None,
            started_at=started_at,
            finished_at=datetime.now(UTC),
        )
        return store_attestation(store, attestation, request.signer)
    except StorageError as exc:
        if found.good and not isinstance(exc, AccessDenied):
            raise
        notify(Notice(f"The attestation of this result could not be put into the store. {exc}"))
        return None
