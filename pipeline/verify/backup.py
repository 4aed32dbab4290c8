"""Verify a backup: check that all objects and files in its manifest still exist, and are unchanged."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from pipeline.archive.reader import Archive, dump_format, open_archive
from pipeline.archive.stream import read_stream
from pipeline.catalog.attestation import Attestation, Level, shortened, store_attestation
from pipeline.catalog.find import StoredManifest
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import TOC_NAME, File, Manifest, StoredObject, TableData
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged, DatabaseLeft, DumpFailed, RestoreFailed
from pipeline.events import Notice, Notify, Progress, Started
from pipeline.postgres.pg_restore import check_toc
from pipeline.postgres.programs import find_program, major_of
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.workspace import Workspace
from pipeline.stages.download import ObjectReader, check_content, download, objects_at_once
from pipeline.verify.objects import check_objects
from pipeline.verify.proof import Proof, ProofRequest, prove
from pipeline.verify.unreadable import ObjectUnreadable, UnreadableTracker, objects_of_others
from storage_backends import AccessDenied, StorageBackend, StorageError, TransientStorageError


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """How far to verify a backup, and with which means."""

    level: Level = Level.BYTES
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders in which to look for PostgreSQL's programs; empty for the usual folders."""
    proof: ProofRequest = field(default_factory=ProofRequest)
    """How to restore at level restore."""
    attest: bool | None = None
    """True to put an attestation into the store, False to put none, None to put one only at level restore."""


@dataclass(slots=True)
class Verification:
    """What a verification found."""

    stored: StoredManifest
    level: Level
    """The level that was verified. A script of globals or of a cluster is verified up to level archive, even if more is asked for."""
    objects: int = 0
    """The number of objects that were examined."""
    files: int = 0
    """The number of the archive's files that were examined."""
    read: int = 0
    """Bytes read from the store."""
    without_checksum: int = 0
    """The number of objects for which the store reports no checksum. Only their presence and size are known."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each thing that is wrong."""
    unreadable: list[str] = field(default_factory=list)
    """One sentence for each object that the store failed to give, though it gave others."""
    replaced: list[str] = field(default_factory=list)
    """One sentence for each overwritten or deleted object whose stored version is still whole."""
    proof: Proof | None = None
    """The result of the restore; None below level restore."""
    attestation: str | None = None
    """The key of the attestation in the store; None if none was put."""

    @property
    def manifest(self) -> Manifest:
        """The backup's manifest."""
        return self.stored.manifest

    @property
    def good(self) -> bool:
        """True if nothing is wrong, and everything that ``level`` asks for could be read where it was stored."""
        return not (self.problems or self.unreadable or self.replaced)


def verify(stored: StoredManifest, request: VerifyRequest, store: StorageBackend, notify: Notify) -> Verification:
    """Verify one backup to its end, even if something is wrong or can't be read. Return what was found.

    A cluster manifest with members is for :class:`pipeline.verify.cluster.ClusterVerification` instead.

    Raises DatabaseLeft if the backup is good, but the scratch database could not be dropped. Raises another PipelineError if the backup
    can't be tried here, and StorageError if the store is down or refuses.
    """
    started_at, manifest = datetime.now(UTC), stored.manifest
    # A server has its own roles and tablespaces, beside which others can't be restored. Their script is verified up to level archive.
    of_server = manifest.kind != "database"
    if of_server and (request.proof.checksums or request.proof.assertions):
        notify(
            Notice(
                f"{manifest.database} is a script of a whole server, which isn't restored: no content was compared, nothing asserted."
            )
        )
    level = Level.ARCHIVE if of_server and request.level is Level.RESTORE else request.level
    found = Verification(stored, level, problems=doubts(stored))
    notify(Started(f"Verifying {manifest.cluster}/{manifest.database} {manifest.backup_id}: {level}"))
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
    """Return a sentence on why the manifest isn't believed, so that the backup can't be good; empty if it is believed."""
    return [f"The manifest of {stored.manifest.backup_id} is not believed: {stored.doubt}."] if stored.doubt else []


def _tell_left(found: Verification, notify: Notify) -> None:
    """Notify of a scratch database that could not be dropped, if another result decides the exit code."""
    if found.proof and found.proof.left:
        notify(Notice(str(found.proof.left)))


def _examine(request: VerifyRequest, found: Verification, store: StorageBackend, notify: Notify) -> None:
    """Examine the backup up to its level, and put the results into ``found``. Raises as :func:`verify` does, except DatabaseLeft."""
    manifest = found.manifest
    tracker = UnreadableTracker(store, [stored.key for stored in manifest.objects])
    with Workers() as workers:
        match found.level:
            case Level.OBJECTS:
                check = check_objects(tracker, manifest.objects, workers, 4 * request.limits.transfers, notify)
                found.objects, found.without_checksum = check.objects, check.without_checksum
                found.problems += check.problems
            case Level.BYTES:
                _verify_bytes(tracker, manifest.objects, found, workers, request.limits, notify)
            case Level.ARCHIVE:
                _verify_archive(tracker, request, found, workers, notify)
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


def _verify_bytes(
    store: StorageBackend,
    objects: Sequence[StoredObject],
    found: Verification,
    workers: Workers,
    limits: Limits,
    notify: Notify,
) -> None:
    at_once = min(limits.transfers, objects_at_once(objects, limits))
    total = sum(stored.size for stored in objects)
    read = partial(_read_object, store, found.replaced)

    def report() -> None:
        notify(Progress(found.read, total, found.read, ()))

    for stored, outcome in workers.map(read, objects, threads=at_once, name="read", tick=report):
        if outcome is not False:
            found.objects += 1
            found.read += stored.size
        found.problems += [outcome] if isinstance(outcome, str) else []


def _read_object(store: StorageBackend, replaced: list[str], stored: StoredObject) -> str | bool:
    """Return a sentence if the object is damaged, else True if it could be read."""
    try:
        download(store, stored, replaced)
    except BackupDamaged as exc:
        return str(exc)
    except ObjectUnreadable:
        return False
    return True


def _verify_archive(
    store: UnreadableTracker,
    request: VerifyRequest,
    found: Verification,
    workers: Workers,
    notify: Notify,
    checked: Collection[str] = (),
) -> None:
    """Check every file whose path isn't in ``checked``, and read every object that belongs to no file."""
    manifest, limits = found.manifest, request.limits
    others = [file for file in manifest.files if file.path not in checked]
    reader = ObjectReader(store, manifest.objects, others, workers, limits)
    done, total = 0, sum(file.size for file in others)

    def report() -> None:
        notify(Progress(done, total, reader.fetched, ()))

    is_directory = dump_format(manifest) == "directory"
    read_file: Callable[[ObjectReader, File], str | bool] = _read_globals
    if manifest.kind != "globals":
        read_file = _read_file if is_directory else partial(_read_stream, manifest, request)
    found.files += len(manifest.files) - len(others)
    for file, outcome in workers.map(
        partial(read_file, reader), others, threads=limits.threads, name="archive", tick=report
    ):
        found.files += outcome is not False
        done += file.size
        found.problems += [outcome] if isinstance(outcome, str) else []
    found.replaced += reader.replaced
    read = reader.checked | reader.damaged.keys()
    read |= {segment.object for file in manifest.files if file.path in checked for segment in file.segments}
    found.objects += len(read)
    found.read += reader.fetched
    # A file isn't read beyond its first damaged object, and the list of checksums belongs to no file.
    told = {problem.partition(": ")[2] for problem in found.problems}
    found.problems += [problem for problem in reader.damaged.values() if problem not in told]
    remaining = [stored for index, stored in enumerate(manifest.objects) if index not in read]
    _verify_bytes(store, remaining, found, workers, limits, notify)
    if not (found.problems or store.any_unreadable) and manifest.kind == "database" and is_directory:
        try:
            _parse(open_archive(store, manifest, workers, limits), request)
        except (BackupDamaged, DumpFailed, RestoreFailed) as exc:
            found.problems.append(str(exc))


def _read_file(
    reader: ObjectReader, file: File, through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> str | bool:
    """Return a sentence if the file is damaged, else True if all of it could be read."""
    try:
        for _ in through(check_content(file, reader.read(file))):
            pass
    except BackupDamaged as exc:
        return f"{file.path}: {exc}"
    except ObjectUnreadable:
        return False
    return True


def _read_globals(reader: ObjectReader, file: File) -> str | bool:
    """Check a script of roles and tablespaces as :func:`_read_file` does, and that it has no command of psql: a restore refuses commands."""
    return _read_file(reader, file, through=RestrictedMode().of)


def _read_stream(manifest: Manifest, request: VerifyRequest, reader: ObjectReader, file: File) -> str | bool:
    """Check an archive or a script that is a single file as :func:`_read_file` does, and that it has the rows in the manifest."""
    try:
        tables = read_stream(manifest, reader, request.limits, request.programs)
    except (BackupDamaged, DumpFailed, RestoreFailed) as exc:
        return f"{file.path}: {exc}"
    except ObjectUnreadable:
        return False
    if [_digest(table) for table in tables] != [_digest(table) for table in manifest.tables]:
        return f"{file.path} doesn't have the rows in it that the manifest says."
    return True


def _digest(table: TableData) -> tuple[str | None, str, str, int, str]:
    return table.database, table.schema_name, table.relation, table.rows, table.checksum


def _verify_restore(
    store: UnreadableTracker, request: VerifyRequest, found: Verification, workers: Workers, notify: Notify
) -> None:
    try:
        proof = prove(found.manifest, request.proof, store, request.limits, request.programs, notify)
    except ObjectUnreadable:
        proof = Proof()  # the other objects are still read
    found.proof = proof
    # A restore shows that each file of a directory is whole, but not which tables the manifest of a stream should name.
    is_directory = dump_format(found.manifest) == "directory"
    checked = [file.path for file in proof.restored.files] if proof.restored and is_directory else []
    if proof.restored:
        found.read += proof.restored.fetched
        found.replaced += proof.restored.replaced
    _verify_archive(store, request, found, workers, notify, checked)
    told = " ".join(found.problems)  # the restore names the first damaged object, the check of the archive names all
    found.problems += [problem for problem in proof.problems if problem not in told]
    if proof.hindrance and found.problems:
        notify(Notice(str(proof.hindrance)))


def attest(
    request: VerifyRequest, found: Verification, started_at: datetime, store: StorageBackend, notify: Notify
) -> str | None:
    """Put an attestation of the result into the store, if the request says so. Return its key; None if none was put.

    A failure to put the attestation must not hide the result. So it is only a notice if the backup isn't good, or if the credentials don't
    allow attestations. Otherwise raises StorageError.
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
        return store_attestation(store, attestation)
    except StorageError as exc:
        if found.good and not isinstance(exc, AccessDenied):
            raise
        notify(Notice(f"What was found could not be put into the store. {exc}"))
        return None


def _parse(archive: Archive, request: VerifyRequest) -> None:
    """Check that pg_restore finds the archive's data entries, as pgstow does. Raises as :func:`check_toc` does, or ProgramMissing."""
    major = major_of(archive.manifest.source.pg_dump_version)
    program = find_program("pg_restore", at_least_major=major, search=request.programs)
    with Workspace(request.limits.spool_parent) as workspace:
        workspace.write_private(TOC_NAME, archive.toc_data)
        check_toc(program, workspace.path, archive.toc)
