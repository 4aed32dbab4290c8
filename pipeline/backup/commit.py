"""The last stage of a backup: its list of checksums, and then the manifest, with which it begins to exist."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from pipeline.archive.destinations import BackupResults, Destination, Destinations
from pipeline.catalog.find import newest_believed
from pipeline.catalog.keys import CHECKSUMS_NAME, BackupRef, new_backup_id
from pipeline.catalog.manifest import (
    LONGEST_MANIFEST,
    Compression,
    DumpOptions,
    File,
    Kind,
    Manifest,
    Previous,
    Source,
    StoredObject,
    TableData,
    Totals,
    dump_manifest,
)
from pipeline.catalog.plausibility import doubt, doubt_time
from pipeline.config import Labels
from pipeline.errors import DumpFailed, PipelineError
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.loading import has_money, session_default
from pipeline.postgres.programs import Program
from pipeline.postgres.server import Server
from pipeline.stages.upload import upload, upload_timed
from storage_backends import AccessDenied, StorageBackend, StorageError


@dataclass(slots=True)
class BackupInProgress:
    """A backup under way: which one it will be, and when each of its stages ended."""

    ref: BackupRef
    started_at: datetime
    labels: Labels
    durations: dict[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    _clock: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(cls, cluster: str, database: str, labels: Labels) -> "BackupInProgress":
        """A new backup's, that begins now."""
        now = datetime.now(UTC)
        return cls(BackupRef(cluster, database, new_backup_id(now)), now, labels)

    @property
    def session_name(self) -> str:
        """The application name of all its sessions on the server."""
        return f"pgstow {self.ref.backup_id}"

    def ended(self, stage: str) -> None:
        """A stage that began when the one before it ended."""
        now = time.monotonic()
        self.durations[stage] = round(now - self._clock, 3)
        self._clock = now


def commit(
    run: BackupInProgress,
    destinations: Destinations,
    notify: Notify,
    *,
    kind: Kind,
    snapshot_at: datetime,
    source: Source,
    dump: DumpOptions,
    level: int,
    files: Sequence[File] = (),
    tables: Sequence[TableData] = (),
    totals: Totals | None = None,
) -> BackupResults:
    """Store the manifest of a backup, in each destination that has all its objects by now.

    ``totals`` are the sums over the rest where none are given. Raises StorageError where it is committed nowhere.
    """
    notify(Started("Committing"))
    for destination in destinations.open:
        store = destination.store
        try:
            stored, stored_at = _finish_objects(destination, run.ref)
            manifest = Manifest(
                backup_id=run.ref.backup_id,
                cluster=run.ref.cluster,
                database=run.ref.database,
                kind=kind,
                tool=f"pgstow {version('pgstow')}",
                started_at=run.started_at,
                snapshot_at=snapshot_at,
                finished_at=datetime.now(UTC),
                source=source,
                dump=dump,
                compression=Compression(algorithm="zstd", level=level),
                files=list(files),
                tables=list(tables),
                objects=stored,
                members=destination.members,
                totals=totals or _totals(files, tables, stored),
                durations=run.durations,
                previous=_previous(store, run.ref, notify),
                tags=list(run.labels.tags),
                job=run.labels.job,
                retained_until=store.retained_until,
            )
            _check_clocks(manifest, stored_at)
            upload(store, run.ref.manifest_key, _dump(manifest))
        except StorageError as exc:
            destinations.drop(destination, exc)
        else:
            destination.outcome = manifest
    return destinations.copies


def check_server_clock(snapshot_at: datetime) -> None:
    """Raise DumpFailed if the database server's clock is so far ahead of this machine's that no reader would believe the backup."""
    now = datetime.now(UTC)
    if doubt_time(snapshot_at, now, now):
        raise DumpFailed(
            f"The database server's clock says {snapshot_at:%Y-%m-%d %H:%M:%S}Z, and this machine's {now:%Y-%m-%d %H:%M:%S}Z: no reader "
            "would believe a backup of the future. Correct the clock that is off."
        )


def _check_clocks(manifest: Manifest, now: datetime) -> None:
    """Raise StorageError if the store's clock is such that no reader would believe the backup."""
    if reason := doubt(manifest, now, now):
        raise StorageError(
            f"The backup {manifest.backup_id} isn't committed, since no reader would believe it: {reason}. "
            "Correct the clock of this machine or of the database server."
        )


def _dump(manifest: Manifest) -> bytes:
    """Return the manifest's bytes. Raises DumpFailed if there are more than pgstow reads."""
    data = dump_manifest(manifest)
    if len(data) > LONGEST_MANIFEST:
        raise DumpFailed(
            f"The manifest of {manifest.database} would have {len(data)} bytes, more than the {LONGEST_MANIFEST} that pgstow reads: "
            "it has too many tables and large objects for one backup, so back it up in parts."
        )
    return data


def default_cluster(server: Server) -> str:
    """The name of a cluster that the user gave no name: its host, and its port where it isn't the usual one."""
    host = "localhost" if server.host.startswith("/") else server.host
    return host if server.port == 5432 else f"{host}-{server.port}"


def describe_source(server: Server, program: Program, wal_lsn: str | None, *, for_script: bool = False) -> Source:
    """The server and the database that a session is on, as the manifest has them; with what a script may name of the server ``for_script``."""
    facts = server.describe()
    return Source(
        server_version=server.version,
        system_identifier=facts.system_identifier,
        pg_dump_version=program.version,
        encoding=facts.encoding,
        collation=facts.collation,
        character_type=facts.character_type,
        locale_provider=facts.locale_provider,
        locale=facts.locale,
        icu_rules=facts.icu_rules,
        tablespace=facts.tablespace,
        host=server.host,
        port=server.port,
        standby=facts.standby,
        wal_lsn=wal_lsn,
        time_zone=facts.time_zone,
        bytea_output=facts.bytea_output,
        lc_monetary=session_default(server, "lc_monetary") if not for_script or has_money(server) else None,
        quote_all_identifiers=session_default(server, "quote_all_identifiers") == "on",
        extensions=list(facts.extensions),
        roles=server.roles() if for_script else [],
        superusers=server.superusers() if for_script else [],
        tablespaces=server.tablespaces() if for_script else [],
    )


def _totals(files: Sequence[File], tables: Sequence[TableData], objects: Sequence[StoredObject]) -> Totals:
    with_rows: Sequence[File | TableData] = tables or [file for file in files if file.kind == "table"]
    return Totals(
        files=len(files),
        tables=len(with_rows),
        rows=sum(table.rows or 0 for table in with_rows),
        size=sum(file.size for file in files),
        objects=len(objects),
        stored_size=sum(stored.size for stored in objects),
    )


def _finish_objects(destination: Destination, ref: BackupRef) -> tuple[list[StoredObject], datetime]:
    """The destination's objects by index, with a list for ``sha256sum -c`` that is stored beside them, and the time by the store's clock."""
    objects = [destination.objects[number] for number in sorted(destination.objects)]
    if not objects:
        return [], datetime.now(UTC)  # a record of backups, each of which met the store's clock
    lines = [f"{stored.sha256}  {stored.key.removeprefix(ref.data_prefix)}\n" for stored in objects]
    sums, stored_at = upload_timed(destination.store, ref.data_prefix + CHECKSUMS_NAME, "".join(lines).encode())
    return [*objects, sums], stored_at


def _previous(store: StorageBackend, ref: BackupRef, notify: Notify) -> Previous | None:
    """Return the newest earlier manifest of this database that can be believed."""
    try:
        newest = newest_believed(store, ref.cluster, ref.database, notify)
    except AccessDenied:
        return None  # credentials that can only create; pgstow check tells
    except (StorageError, PipelineError) as exc:
        notify(Notice(f"The manifest names none before it, since that can't be read. {exc}"))
        return None
    return None if newest is None else Previous(backup_id=newest.manifest.backup_id, sha256=newest.sha256)
