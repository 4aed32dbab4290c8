"""Reads a backup's objects and files, for the verification levels bytes and archive."""

from collections.abc import Callable, Iterator, Sequence, Set
from functools import partial

from pipeline.archive.reader import Archive, dump_format, open_archive
from pipeline.archive.single_file import read_stream
from pipeline.catalog.key_objects import open_seal, tell_unneeded
from pipeline.catalog.manifest import TOC_NAME, File, Manifest, StoredObject, TableData
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged, DumpFailed, RestoreFailed
from pipeline.events import Notify, Progress
from pipeline.postgres.pg_restore import check_toc
from pipeline.postgres.programs import find_program, major_of
from pipeline.postgres.restricted_mode import RestrictedMode
from pipeline.postgres.workspace import Workspace
from pipeline.stages.download import ObjectReader, download, objects_at_once
from pipeline.trust.seal import Seal
from pipeline.verify.request import Verification, VerifyRequest
from pipeline.verify.unreadable import ObjectUnreadable, UnreadableTracker
from storage_backends import StorageBackend


def verify_bytes(
    store: StorageBackend,
    objects: Sequence[StoredObject],
    found: Verification,
    workers: Workers,
    limits: Limits,
    notify: Notify,
) -> None:
    """Read every object, and add problems to ``found``. Raises StorageError if the store is down or refuses access."""
    at_once = min(limits.transfers, objects_at_once(objects, limits))
    total = sum(stored.size for stored in objects)
    read = partial(_read_object, store, found.replaced)

    def report() -> None:
        notify(Progress(found.read, total, found.read))

    for stored, outcome in workers.map(read, objects, threads=at_once, name="read", tick=report):
        if outcome is not False:
            found.objects += 1
            found.read += stored.size
        found.problems += [outcome] if isinstance(outcome, str) else []


def _read_object(store: StorageBackend, replaced: list[str], stored: StoredObject) -> str | bool:
    """Return True if the object is whole, a sentence if it is damaged, and False if the store fails to give it."""
    try:
        download(store, stored, replaced)
    except BackupDamaged as exc:
        return str(exc)
    except ObjectUnreadable:
        return False
    return True


def verify_archive(
    store: UnreadableTracker,
    request: VerifyRequest,
    found: Verification,
    workers: Workers,
    notify: Notify,
    checked: Set[str] = frozenset(),
    archive: Archive | None = None,
) -> None:
    """Check every file except those in ``checked``, which has paths. Read every object that no file uses. Add problems to ``found``.

    ``archive`` is the backup's archive if it is already open.

    Raises PipelineError if the archive can't be checked here, and StorageError if the store is down or refuses access.
    """
    manifest, limits = found.manifest, request.limits
    others = [file for file in manifest.files if file.path not in checked]
    tell_unneeded(manifest, request.keys, notify)
    try:
        seal = archive.seal if archive else open_seal(store, manifest, request.keys)
    except (BackupDamaged, ObjectUnreadable) as exc:
        # Without the backup's key, only the objects can be checked.
        verify_bytes(store, manifest.stored, found, workers, limits, notify)
        found.problems += [str(exc)] if isinstance(exc, BackupDamaged) else []
        return
    reader = ObjectReader(store, manifest.objects, others, workers, limits, seal)
    done, total = 0, sum(file.size for file in others)

    def report() -> None:
        notify(Progress(done, total, reader.fetched))

    is_directory = dump_format(manifest) == "directory"
    read_file: Callable[[ObjectReader, File], str | bool] = _read_globals
    if manifest.kind != "globals":
        read_file = _read_file if is_directory else partial(_read_stream, manifest, seal, request)
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
    # A file isn't read beyond its first damaged object, so its problem doesn't name later damaged objects.
    told = {problem.partition(": ")[2] for problem in found.problems}
    found.problems += [problem for problem in reader.damaged.values() if problem not in told]
    # Checking the files did not read these objects. SHA256SUMS and a key object, for example, belong to no file.
    remaining = [stored for index, stored in enumerate(manifest.stored) if index not in read]
    verify_bytes(store, remaining, found, workers, limits, notify)
    if not (found.problems or store.any_unreadable) and manifest.kind == "database" and is_directory:
        try:
            _parse(archive or open_archive(store, manifest, request.keys, workers, limits), request)
        except (BackupDamaged, DumpFailed, RestoreFailed) as exc:
            found.problems.append(str(exc))


def _read_file(
    reader: ObjectReader, file: File, through: Callable[[Iterator[bytes]], Iterator[bytes]] = iter
) -> str | bool:
    """Return True if the file is whole, a sentence if it is damaged, and False if the store fails to give an object of it."""
    try:
        for _ in through(reader.read_checked(file)):
            pass
    except BackupDamaged as exc:
        return f"{file.path}: {exc}"
    except ObjectUnreadable:
        return False
    return True


def _read_globals(reader: ObjectReader, file: File) -> str | bool:
    """Check a script of roles and tablespaces as :func:`_read_file` does. Also check that it has no psql command, which a restore refuses."""
    return _read_file(reader, file, through=RestrictedMode().of)


def _read_stream(
    manifest: Manifest, seal: Seal, request: VerifyRequest, reader: ObjectReader, file: File
) -> str | bool:
    """Check a single file, an archive or a script, as :func:`_read_file` does. Also check that its rows match the manifest."""
    try:
        tables = read_stream(manifest, seal, reader, request.limits, request.programs)
    except (BackupDamaged, DumpFailed, RestoreFailed) as exc:
        return f"{file.path}: {exc}"
    except ObjectUnreadable:
        return False
    if [_digest(table) for table in tables] != [_digest(table) for table in manifest.tables]:
        return f"{file.path} doesn't have the rows that the manifest says."
    return True


def _digest(table: TableData) -> tuple[str | None, str, str, int, str]:
    return table.database, table.schema_name, table.relation, table.rows, table.checksum


def _parse(archive: Archive, request: VerifyRequest) -> None:
    """Check that pg_restore finds the same data entries in the archive as pgstow. Raises as :func:`check_toc` does, or ProgramMissing."""
    major = major_of(archive.manifest.source.pg_dump_version)
    program = find_program("pg_restore", at_least_major=major, search=request.programs)
    with Workspace(request.limits.spool_parent) as workspace:
        workspace.write_private(TOC_NAME, archive.toc_data)
        check_toc(program, workspace.path, archive.toc)
