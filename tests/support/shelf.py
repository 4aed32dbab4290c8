"""Fill stores with small backups, without a server: manifests as pgstow writes them, and their objects."""

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.catalog.attestation import Attestation, Level, store_attestation
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef
from pipeline.catalog.manifest import (
    MANIFEST_VERSION,
    Compression,
    Encryption,
    File,
    Manifest,
    Member,
    Segment,
    StoredObject,
    Totals,
    dump_manifest,
)
from pipeline.catalog.origin import DumpOptions, Source
from pipeline.stages.upload import upload
from pipeline.trust.envelope import Signer
from storage_backends import StorageBackend

NOW = datetime(2026, 11, 25, 4, tzinfo=UTC)

SOURCE = Source(
    server_version="15.18",
    system_identifier=None,
    pg_dump_version="15.18",
    encoding="UTF8",
    collation="C",
    character_type="C",
    locale_provider="c",
    locale=None,
    host="localhost",
    port=5432,
    standby=False,
    wal_lsn=None,
    extensions=[],
)


def _archive(database: str) -> File:
    """Return the one file that every archive must have."""
    segment = Segment(object=0, offset=0, length=4, size=9)
    path, kind = ("globals.sql", "script") if database in {GLOBALS, CLUSTER} else ("toc.dat", "toc")
    return File(path=path, kind=kind, size=9, checksum="0" * 64, segments=[segment])  # type: ignore[arg-type]


class BackupBuilder:
    """Puts backups into a store."""

    def __init__(self, store: StorageBackend) -> None:
        self.store = store
        self._number = 0

    def ref(self, age: timedelta, database: str = "shop", cluster: str = "prod") -> BackupRef:
        """Return the reference of a new backup, which began ``age`` before ``NOW``."""
        self._number += 1
        return BackupRef(cluster, database, f"{NOW - age:%Y%m%dT%H%M%SZ}-{self._number:06x}")

    def objects(self, ref: BackupRef, number: int = 2) -> list[StoredObject]:
        """Store so many objects for a backup, without a manifest, as an interrupted backup leaves them. Return the objects."""
        return [upload(self.store, f"{ref.data_prefix}{each}.dat.00000.zst", b"data") for each in range(number)]

    def add(
        self,
        age: timedelta,
        database: str = "shop",
        *,
        members: Sequence[BackupRef] = (),
        uses: Sequence[BackupRef] = (),
        only: str | None = None,
        number: int = 2,
        cluster: str = "prod",
        sealed: bool = False,
        **fields: Any,
    ) -> BackupRef:
        """Store a backup whose data is ``age`` older than ``NOW``. Return its reference.

        The backup has ``number`` objects of its own, and also uses the objects of the backups in ``uses``. A backup with ``members`` is a
        cluster's. A ``sealed`` backup has a key object. ``fields`` are further fields of the manifest.
        """
        ref = self.ref(age, database, cluster)
        objects = [] if members else self.objects(ref, number)
        for other in uses:
            objects += [stored for stored in self.manifest(other).objects if stored.key.startswith(other.data_prefix)]
        if sealed:
            fields |= {"manifest_version": MANIFEST_VERSION, "encryption": self._encryption(ref)}
        fields.setdefault("source", SOURCE)
        fields.setdefault("dump", DumpOptions(format="directory", jobs=1, only=only))  # type: ignore[arg-type]
        fields.setdefault("source", SOURCE)
        manifest = Manifest(
            backup_id=ref.backup_id,
            cluster=ref.cluster,
            database=database,
            kind={GLOBALS: "globals", CLUSTER: "cluster"}.get(database, "database"),  # type: ignore[arg-type]
            tool="a test",
            started_at=NOW - age,
            snapshot_at=NOW - age,
            finished_at=NOW - age,
            compression=Compression(algorithm="zstd", level=3),
            files=[] if members else [_archive(database)],
            objects=objects,
            members=[
                Member(database=member.database, backup_id=member.backup_id, sha256=self.digest(member))
                for member in members
            ],
            totals=Totals(files=0, tables=0, rows=0, size=0, objects=len(objects), stored_size=4 * len(objects)),
            durations={},
            previous=None,
            **fields,
        )
        upload(self.store, ref.manifest_key, dump_manifest(manifest))
        return ref

    def _encryption(self, ref: BackupRef) -> Encryption:
        key = upload(self.store, ref.key_object_key(NOW), b"key")
        return Encryption(
            scheme="age", epoch=ref.backup_id, recipient="age1", recipients=[], key=key, checksums="hmac-sha256"
        )

    def add_cluster(self, age: timedelta) -> list[BackupRef]:
        """Store the backup of a whole server: globals, one database, and the cluster manifest. Return their references, in this order."""
        members = [self.add(age, name) for name in (GLOBALS, "shop")]
        return [*members, self.add(age, CLUSTER, members=members)]

    def attest(
        self,
        ref: BackupRef,
        level: Level = Level.RESTORE,
        *,
        good: bool = True,
        unreadable: Sequence[str] = (),
        later: timedelta = timedelta(),
        signer: Signer | None = None,
    ) -> str:
        """Store an attestation of the backup, with a time ``later`` than NOW. Return its key.

        ``unreadable`` has sentences on objects that the store didn't give. ``signer`` signs the attestation.
        """
        return store_attestation(
            self.store,
            Attestation(
                cluster=ref.cluster,
                database=ref.database,
                backup_id=ref.backup_id,
                manifest_sha256=self.digest(ref),
                level=level.value,
                good=good and not unreadable,
                problems=[] if good else ["An object is missing."],
                unreadable=list(unreadable),
                objects=2,
                objects_without_checksum=0,
                files=0,
                restore=None,
                started_at=NOW,
                finished_at=NOW + later,
            ),
            signer,
        )

    def manifest(self, ref: BackupRef) -> Manifest:
        """Return the backup's manifest in the store, without checking its checksum."""
        return Manifest.model_validate_json(self.store.get(ref.manifest_key))

    def digest(self, ref: BackupRef) -> str:
        """Return the SHA-256 of the backup's manifest, in hexadecimal."""
        return hashlib.sha256(self.store.get(ref.manifest_key)).hexdigest()

    def committed(self) -> set[BackupRef]:
        """Return all backups in the store. Raises AssertionError unless each backup has all its objects."""
        keys = {info.key for info in self.store.list()}
        refs = {ref for key in keys if (ref := BackupRef.of_manifest_key(key))}
        for ref in refs:
            missing = {stored.key for stored in self.manifest(ref).stored} - keys
            assert not missing, f"{ref} lacks {missing}"
        return refs

    def all_keys(self) -> list[str]:
        """Return the keys of all objects in the store."""
        return [info.key for info in self.store.list()]
