"""Back up one database."""

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from pipeline.archive_writer import ArchivedFile, ArchiveWriter
from pipeline.catalog import list_backups, read_manifest_bytes
from pipeline.concurrency import Workers
from pipeline.config import Limits, Selection
from pipeline.errors import DumpFailed, PipelineError
from pipeline.events import Notice, Notify, Started
from pipeline.layout import CHECKSUMS_NAME, BackupRef, new_backup_id
from pipeline.manifest import (
    Compression,
    DumpOptions,
    File,
    FileKind,
    Manifest,
    Previous,
    Source,
    StoredObject,
    Totals,
    dump_manifest,
    load_manifest,
)
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.dump import COPY_END, Dump
from pipeline.postgres.programs import Program, find_program
from pipeline.postgres.server import DatabaseFacts, Server, Snapshot
from pipeline.postgres.toc import TOC_NAME, Toc, TocEntry, read_toc
from pipeline.postgres.workspace import Workspace
from pipeline.progress import BackupProgress
from pipeline.stages.compress import DEFAULT_LEVEL, Compressor
from pipeline.stages.spool import Spool
from pipeline.stages.upload import upload
from storage_backends import AccessDenied, StorageBackend, StorageError

_TICK = 0.02  # seconds between looks at the spool; at 1 GB/s pg_dump writes 20 MB meanwhile


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """One database to back up."""

    source: Conninfo
    cluster: str | None = None
    """The name to file it under; None for the server's host."""
    selection: Selection = field(default_factory=Selection)
    level: int = DEFAULT_LEVEL
    limits: Limits = field(default_factory=Limits)
    programs: Sequence[Path] = ()
    """Folders to look for PostgreSQL's programs in, instead of the usual ones."""

    def __post_init__(self) -> None:
        self.limits.check_memory(self.limits.object_size)


def back_up(request: BackupRequest, store: StorageBackend, notify: Notify) -> Manifest:
    """Dump the database into the store and commit it.

    The backup exists once this returns, and not before: its manifest is put last. Raises PipelineError or StorageError.
    """
    started_at, clock = datetime.now(UTC), time.monotonic()
    limits, compressor = request.limits, Compressor(request.level)
    with Workers() as workers, Workspace(limits.spool_parent) as workspace, Server(request.source) as server:
        program = find_program("pg_dump", at_least_major=server.major, search=request.programs)
        facts = server.describe()
        ref = BackupRef(request.cluster or default_cluster(server), facts.name, new_backup_id(started_at))
        snapshot = server.export_snapshot()
        notify(Started(f"Dumping {facts.name} with pg_dump {program.version}, {limits.jobs} jobs"))
        writer = ArchiveWriter(store, ref.data_prefix, workers, limits, compressor)
        dump = Dump(
            program,
            request.source.at(server.host, server.hostaddr, server.port),
            workspace,
            selection=request.selection,
            jobs=limits.jobs,
            snapshot=snapshot.name,
            name=f"pgstow {ref.backup_id}",
        )
        toc = _drain(dump, server, writer, workers, limits, notify)
        dumped = time.monotonic()
        archived, objects = writer.finish()
    files = _describe_files(archived, toc)
    uploaded = time.monotonic()
    notify(Started("Committing"))
    objects.append(_store_checksums(store, ref, objects))
    manifest = Manifest(
        backup_id=ref.backup_id,
        cluster=ref.cluster,
        database=ref.database,
        kind="database",
        tool=f"pgstow {version('pgstow')}",
        started_at=started_at,
        snapshot_at=snapshot.taken_at,
        finished_at=datetime.now(UTC),
        source=_describe_source(server, facts, snapshot, program),
        dump=_describe_dump(request),
        compression=Compression(algorithm="zstd", level=request.level),
        files=files,
        objects=objects,
        totals=_totals(files, objects),
        durations={"dump": round(dumped - clock, 3), "upload_after_dump": round(uploaded - dumped, 3)},
        previous=_previous(store, ref, notify),
    )
    upload(store, ref.manifest_key, dump_manifest(manifest))
    return manifest


def default_cluster(server: Server) -> str:
    """The name of a cluster that the user gave no name: its host, and its port where it isn't the usual one."""
    host = "localhost" if server.host.startswith("/") else server.host
    return host if server.port == 5432 else f"{host}-{server.port}"


def _drain(dump: Dump, server: Server, writer: ArchiveWriter, workers: Workers, limits: Limits, notify: Notify) -> Toc:
    """Move all that pg_dump writes into the writer while it writes; pg_dump is stopped whenever the spool is full."""
    spool = Spool(dump.folder, limit=limits.spool, piece_size=limits.piece_size, open_files=dump.open_files)
    if not spool.punches_holes:
        notify(
            Notice(
                "The spool's file system can't punch holes, so a table's whole file stays on disk until it is dumped."
            )
        )
    toc_data = bytearray()
    progress = BackupProgress(notify, workers)
    ended, next_look = False, 0.0
    while not (ended and not spool.files):
        if time.monotonic() >= next_look:
            ended = dump.has_ended()
            spool.finish() if ended else spool.look()
            dump.pause_if(spool.full)
            next_look = math.inf if ended else time.monotonic() + _TICK
        for file in spool.ready():
            if not writer.has_room(min(limits.piece_size, file.unread)) or time.monotonic() >= next_look:
                break
            piece = spool.read(file)
            if piece.name == TOC_NAME:
                toc_data += piece.data
                if piece.last:
                    progress.expect(bytes(toc_data), server)
            writer.write(piece)
        dump.pause_if(spool.full)
        workers.collect(timeout=min(_TICK, max(0.0, next_look - time.monotonic())))
        progress.report(writer, spool)
    while progress.asking:
        workers.collect(timeout=_TICK)
    server.close()  # no worker of pg_dump has the snapshot still to take
    for line in dump.warnings():
        notify(Notice(line))
    return read_toc(bytes(toc_data))


def _describe_files(archived: Sequence[ArchivedFile], toc: Toc) -> list[File]:
    """The archive's files as the manifest has them. Raises DumpFailed unless they are the whole archive."""
    entries = {entry.filename: entry for entry in toc.data_entries}
    passed = {file.path for file in archived}
    if missing := sorted(entries.keys() - passed):
        raise DumpFailed(f"pg_dump ended well, but left no {missing[0]} ({len(missing)} of its files are missing).")
    listed = sum(file.lines for file in archived if _kind(file, entries) == "large_object_toc")
    present = sum(1 for file in archived if _kind(file, entries) == "large_object")
    if listed != present:
        raise DumpFailed(f"pg_dump ended well, but left {present} of {listed} large objects.")
    return [_describe_file(file, entries) for file in archived]


def _describe_file(file: ArchivedFile, entries: Mapping[str, TocEntry]) -> File:
    kind = _kind(file, entries)
    described = File(path=file.path, kind=kind, size=file.size, checksum=file.checksum, segments=file.segments)
    entry = entries.get(file.path)
    if entry is None:
        return described
    if kind == "large_object_toc":
        return described.model_copy(update={"dump_id": entry.dump_id})
    if file.tail != COPY_END:
        raise DumpFailed(f"pg_dump ended well, but the data of {entry.namespace}.{entry.tag} is cut short.")
    return described.model_copy(
        update={
            "dump_id": entry.dump_id,
            "schema_name": entry.namespace,
            "relation": entry.tag,
            "rows": file.lines - COPY_END.count(b"\n"),
        }
    )


def _kind(file: ArchivedFile, entries: Mapping[str, TocEntry]) -> FileKind:
    entry = entries.get(file.path)
    if file.path == TOC_NAME:
        return "toc"
    if entry is None:
        return "large_object"
    return "table" if entry.description == "TABLE DATA" else "large_object_toc"


def _describe_source(server: Server, facts: DatabaseFacts, snapshot: Snapshot, program: Program) -> Source:
    return Source(
        server_version=server.version,
        system_identifier=facts.system_identifier,
        pg_dump_version=program.version,
        encoding=facts.encoding,
        collation=facts.collation,
        character_type=facts.character_type,
        locale_provider=facts.locale_provider,
        locale=facts.locale,
        host=server.host,
        port=server.port,
        standby=facts.standby,
        wal_lsn=snapshot.wal_lsn,
        time_zone=facts.time_zone,
        bytea_output=facts.bytea_output,
        extensions=list(facts.extensions),
    )


def _describe_dump(request: BackupRequest) -> DumpOptions:
    chosen = request.selection
    return DumpOptions(
        format="directory",
        jobs=request.limits.jobs,
        tables=list(chosen.tables),
        exclude_tables=list(chosen.exclude_tables),
        schemas=list(chosen.schemas),
        exclude_schemas=list(chosen.exclude_schemas),
        exclude_table_data=list(chosen.exclude_table_data),
    )


def _totals(files: Sequence[File], objects: Sequence[StoredObject]) -> Totals:
    tables = [file for file in files if file.kind == "table"]
    return Totals(
        files=len(files),
        tables=len(tables),
        rows=sum(file.rows or 0 for file in tables),
        size=sum(file.size for file in files),
        objects=len(objects),
        stored_size=sum(stored.size for stored in objects),
    )


def _store_checksums(store: StorageBackend, ref: BackupRef, objects: Sequence[StoredObject]) -> StoredObject:
    """A list for ``sha256sum -c``, beside the objects that it names."""
    lines = [f"{stored.sha256}  {stored.key.removeprefix(ref.data_prefix)}\n" for stored in objects]
    return upload(store, ref.data_prefix + CHECKSUMS_NAME, "".join(lines).encode())


def _previous(store: StorageBackend, ref: BackupRef, notify: Notify) -> Previous | None:
    """The newest manifest of this database that is there already."""
    try:
        earlier = list_backups(store, ref.cluster, ref.database)
        if not earlier:
            return None
        data = read_manifest_bytes(store, earlier[-1])
        load_manifest(data, earlier[-1].manifest_key)
    except AccessDenied:
        return None  # credentials that can only create; pgstow check tells
    except (StorageError, PipelineError) as exc:
        notify(Notice(f"The manifest names none before it, since that can't be read. {exc}"))
        return None
    return Previous(backup_id=earlier[-1].backup_id, sha256=hashlib.sha256(data).hexdigest())
