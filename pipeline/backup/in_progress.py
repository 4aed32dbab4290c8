"""A backup from its beginning to its manifest. The backup exists once the manifest is stored."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

from pipeline.archive.destinations import BackupResults, Committed, Destination, Destinations
from pipeline.archive.dump_context import TICK, DumpContext
from pipeline.archive.file_list import FileList
from pipeline.archive.writer import ArchiveWriter
from pipeline.backup.request import BackupRequest
from pipeline.backup.source import default_cluster
from pipeline.catalog.document import dump_document
from pipeline.catalog.find import newest_believed
from pipeline.catalog.keys import CHECKSUMS_NAME, BackupRef, new_backup_id
from pipeline.catalog.manifest import (
    LISTS,
    LONGEST_MANIFEST,
    MANIFEST_VERSION,
    UNSEALED_VERSION,
    Compression,
    Encryption,
    Kind,
    ManifestSummary,
    Previous,
    StoredObject,
    TableData,
    Totals,
)
from pipeline.catalog.origin import DumpOptions, Source
from pipeline.catalog.plausibility import Contents, doubt
from pipeline.concurrency import Pool, Workers
from pipeline.errors import DumpFailed, PipelineError
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.dump import DumpCall
from pipeline.postgres.programs import Program
from pipeline.postgres.server import Server
from pipeline.postgres.statement_timeout import StatementTimeout
from pipeline.postgres.workspace import Workspace
from pipeline.stages.compress import Compressor
from pipeline.stages.upload import upload, upload_timed
from pipeline.trust.seal import UNSEALED, Epoch
from storage_backends import AccessDenied, StorageBackend, StorageError, open_now


@dataclass(frozen=True, slots=True)
class ManifestDraft:
    """The facts about a dump that the backup's manifest records."""

    kind: Kind
    snapshot_at: datetime
    source: Source
    options: DumpOptions
    files: FileList = field(default_factory=FileList)
    tables: Sequence[TableData] = ()
    totals: Totals | None = None
    """The sums over a cluster's members. If None, pgstow sums up ``files``, ``tables`` and the stored objects."""


@dataclass(slots=True)
class BackupInProgress:
    """A running backup: its reference, its destinations, and the durations of its stages."""

    request: BackupRequest
    ref: BackupRef
    destinations: Destinations
    compressor: Compressor
    notify: Notify
    started_at: datetime
    epoch: Epoch | None
    """The keys of a sealed backup; None if the backup isn't sealed."""
    durations: dict[str, float] = field(default_factory=dict)
    """The duration of each stage in seconds, by the stage's name."""
    _clock: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(
        cls,
        request: BackupRequest,
        server: Server,
        database: str,
        stores: Sequence[StorageBackend],
        notify: Notify,
    ) -> "BackupInProgress":
        """Return a new backup that begins now. It is stored under the name ``database``.

        Raises InvalidRequest if ``stores`` is empty, and StorageError if no store can take the backup. Also raises as
        :meth:`pipeline.backup.signing.Signing.check` does.
        """
        now = datetime.now(UTC)
        ref = BackupRef(request.cluster or default_cluster(server), database, new_backup_id(now))
        compressor = Compressor(request.level, memory=request.limits.quarter(request.copies))
        if request.signing:
            for store in stores:
                request.signing.check(store, ref)
        epoch = Epoch.new() if request.recipients else None
        return cls(request, ref, Destinations(stores, database, notify), compressor, notify, now, epoch)

    @property
    def session_name(self) -> str:
        """The application name of the backup's sessions on the server."""
        return f"pgstow {self.ref.backup_id}"

    def ended(self, stage: str) -> None:
        """Record the duration of a stage that has ended. The stage began when the previous stage ended, or when the backup began."""
        now = time.monotonic()
        self.durations[stage] = round(now - self._clock, 3)
        self._clock = now

    @contextmanager
    def dump_context(self, server: Server, program: Program) -> Iterator[DumpContext]:
        """Yield the parts that a dump by ``program`` needs. After the block, the threads have ended and the working folder is removed.

        Raises LocalResourceExhausted if the folder can't be made.
        """
        request, limits, seal = self.request, self.request.limits, self.epoch or UNSEALED
        with Workers() as workers, Workspace(limits.spool_parent) as workspace, ExitStack() as stack:
            reached = request.source.at(server.host, server.hostaddr, server.port)
            if server.is_direct():
                # The server would compile code (JIT) for pg_dump's queries on large catalogs. That costs more time than it saves.
                reached = reached.with_setting("jit", "off")
            watcher = server
            if reached.role and request.statement_timeout:  # another role can't see the statements of the login role
                watcher = stack.enter_context(Server(reached.acting_as(None)))
            opening = workers.pool(len(self.destinations.open), "open")
            yield DumpContext(
                DumpCall(program, reached, workspace, server, self.session_name, request.lock_wait_timeout),
                StatementTimeout(watcher, self.session_name, request.statement_timeout, workers),
                ArchiveWriter(
                    self.destinations, self.ref.data_prefix, workers, limits, self.compressor, seal, self.notify
                ),
                workers,
                limits.piece_size,
                seal,
                self.notify,
                partial(self._open_stores, opening),
            )
            while opening.pending:
                workers.collect(timeout=TICK)

    def _open_stores(self, opening: Pool[StorageError | None]) -> None:
        """Open each store in a thread of the pool. ``workers.collect`` drops a store that can't be opened."""
        for destination in self.destinations.open:
            opening.submit(partial(_open, destination.store), partial(self._opened, destination))

    def _opened(self, destination: Destination, error: StorageError | None) -> None:
        if error is not None and destination.outcome is None:
            self.destinations.drop(destination, error)

    def commit(self, draft: ManifestDraft) -> BackupResults:
        """Put the backup's manifest into each open destination. Return each store's result.

        All objects must be stored before. Raises DumpFailed if the manifest is too long, and StorageError if all stores fail.
        """
        self.notify(Started("Committing"))
        for destination in self.destinations.open:
            try:
                destination.outcome = self._commit_to(destination, draft)
            except StorageError as exc:
                self.destinations.drop(destination, exc)
        return self.destinations.copies

    def _commit_to(self, destination: Destination, draft: ManifestDraft) -> Committed:
        store, labels = destination.store, self.request.labels
        stored, stored_at = _finish_objects(destination, self.ref)
        draft.files.check_objects(stored)
        encryption = self._store_key(store) if stored else None
        manifest = ManifestSummary(
            manifest_version=MANIFEST_VERSION if encryption else UNSEALED_VERSION,
            encryption=encryption,
            backup_id=self.ref.backup_id,
            cluster=self.ref.cluster,
            database=self.ref.database,
            kind=draft.kind,
            tool=f"pgstow {version('pgstow')}",
            started_at=self.started_at,
            snapshot_at=draft.snapshot_at,
            finished_at=datetime.now(UTC),
            source=draft.source,
            dump=draft.options,
            compression=Compression(algorithm="zstd", level=self.compressor.level, levels=sorted(self.compressor.used)),
            members=destination.members,
            totals=draft.totals or _totals(draft.files, draft.tables, stored),
            durations=self.durations,
            previous=_previous(store, self.ref, self.notify),
            tags=list(labels.tags),
            job=labels.job,
            retained_until=store.retained_until,
        )
        _check_clocks(manifest, draft.files.contents(tables=bool(draft.tables)), stored_at)
        lists: dict[str, bytes | memoryview] = {
            "files": draft.files.json(),
            "objects": LISTS["objects"].dump_json(stored),
            "tables": LISTS["tables"].dump_json(list(draft.tables)),
        }
        put = self.request.signing.commit if self.request.signing else _put_unsigned
        committed = put(store, self.ref, _dump(manifest, lists), self.notify)
        return Committed(manifest, committed.sha256, (self.epoch,) if encryption and self.epoch else ())

    def _store_key(self, store: StorageBackend) -> Encryption | None:
        """Store the epoch's key object. Return the manifest's facts about the sealing; None if the backup isn't sealed. Raises StorageError."""
        if (recipients := self.request.recipients) is None or (epoch := self.epoch) is None:
            return None
        key = self.ref.key_object_key(datetime.now(UTC))
        return Encryption(
            scheme="age",
            epoch=self.ref.backup_id,
            recipient=epoch.recipient,
            recipients=list(recipients.texts),
            key=upload(store, key, recipients.seal(epoch.key_file)),
            checksums="hmac-sha256",
        )


def _open(store: StorageBackend) -> StorageError | None:
    """Open the store. Return the error if it can't be opened."""
    try:
        open_now(store)
    except StorageError as exc:
        return exc
    return None


def _put_unsigned(store: StorageBackend, ref: BackupRef, manifest: bytes, _notify: Notify) -> StoredObject:
    return upload(store, ref.manifest_key, manifest)


def _check_clocks(manifest: ManifestSummary, contents: Contents, now: datetime) -> None:
    """Raise StorageError if a time in the manifest is so far after the store's ``now`` that readers would reject the manifest."""
    if reason := doubt(manifest, contents, now, now):
        raise StorageError(
            f"The backup {manifest.backup_id} isn't committed, because pgstow would reject its manifest: {reason}. "
            "Correct the clock that is wrong: this machine's, the database server's or the store's."
        )


def _dump(manifest: ManifestSummary, lists: Mapping[str, bytes | memoryview]) -> bytes:
    """Return the manifest's bytes. Raises DumpFailed if the manifest is longer than :data:`LONGEST_MANIFEST`."""
    data = dump_document(manifest, "manifest", lists)
    if len(data) > LONGEST_MANIFEST:
        raise DumpFailed(
            f"The manifest of {manifest.database} would have {len(data)} bytes, and pgstow reads at most {LONGEST_MANIFEST}. "
            "The database has too many tables and large objects for one backup: back it up in parts."
        )
    return data


def _totals(files: FileList, tables: Sequence[TableData], objects: Sequence[StoredObject]) -> Totals:
    return Totals(
        files=files.number,
        tables=len(tables) or files.tables,
        rows=sum(table.rows for table in tables) or files.rows,
        size=files.size,
        objects=len(objects),
        stored_size=sum(stored.size for stored in objects),
    )


def _finish_objects(destination: Destination, ref: BackupRef) -> tuple[list[StoredObject], datetime]:
    """Store a list for ``sha256sum -c`` beside the destination's objects. Return all objects, with the list, and the store's time.

    If there are no objects, store nothing, and return an empty list and this machine's time. Raises StorageError.
    """
    objects = [destination.objects[number] for number in sorted(destination.objects)]
    if not objects:
        return [], datetime.now(UTC)  # a cluster manifest, whose members were already compared with the store's clock
    lines = [f"{stored.sha256}  {stored.key.removeprefix(ref.data_prefix)}\n" for stored in objects]
    sums, stored_at = upload_timed(destination.store, ref.data_prefix + CHECKSUMS_NAME, "".join(lines).encode())
    return [*objects, sums], stored_at


def _previous(store: StorageBackend, ref: BackupRef, notify: Notify) -> Previous | None:
    """Return the newest earlier manifest of this database that pgstow can read and believes (``plausibility.py``); None if there is none."""
    try:
        newest = newest_believed(store, ref.cluster, ref.database, notify)
    except AccessDenied:
        return None  # the credentials can only create objects; pgstow check reports this
    except (StorageError, PipelineError) as exc:
        notify(
            Notice(
                f"The new manifest names no previous backup, because the earlier manifests can't be listed or read. {exc}"
            )
        )
        return None
    return None if newest is None else Previous(backup_id=newest.manifest.backup_id, sha256=newest.sha256)
