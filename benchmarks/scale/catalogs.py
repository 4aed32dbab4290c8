"""Fill a folder with very many backups: copies of one real backup, with other names and times."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import File, Manifest, Segment, StoredObject, dump_manifest, load_manifest

CLUSTER = "bench"
_BETWEEN = timedelta(hours=1)
"""The time from each backup of a database to the next."""
_LARGE_OBJECT = 256  # bytes
_COMPRESSED = 640
"""The bytes that a large object takes in a pack: a tar header and the content, each as a zstd frame."""
_IN_A_PACK = 50_000
"""The number of large objects in a pack of 32 MB."""


@dataclass(frozen=True, slots=True)
class Template:
    """A backup to copy."""

    manifest: Manifest
    bodies: Sequence[bytes]
    """The content of the manifest's first objects, in their order. Copies get no other objects."""

    @classmethod
    def read(cls, folder: Path) -> "Template":
        """Return the only backup in the folder."""
        [path] = (folder / "manifests").rglob("*.json")
        manifest = load_manifest(path.read_bytes(), path.relative_to(folder).as_posix())
        return cls(manifest, [(folder / stored.key).read_bytes() for stored in manifest.objects])

    def with_large_objects(self, count: int) -> "Template":
        """Return a backup that has ``count`` large objects, too."""
        own = self.manifest
        files = [_large_object(number, first_pack=len(own.objects)) for number in range(count)]
        packs = [_pack(own, number) for number in range(-(-count // _IN_A_PACK))]
        size = own.totals.size + sum(file.size for file in files)
        totals = own.totals.model_copy(update={"files": len(own.files) + count, "size": size})
        changed = {"files": [*own.files, *files], "objects": [*own.objects, *packs], "totals": totals}
        return Template(own.model_copy(update=changed), self.bodies)

    def copy(self, folder: Path, databases: Sequence[str], backups: int) -> None:
        """Write backups of each database into a folder, without pgstow's fsyncs. Each backup began an hour before the next.

        The backups seem to be made by ``pgstow run``, by a job with the database's name.
        """
        newest = datetime.now(UTC).replace(microsecond=0) - _BETWEEN
        for database in databases:
            for number in range(backups):
                self._copy_one(folder, database, newest - number * _BETWEEN)

    def _copy_one(self, folder: Path, database: str, began: datetime) -> None:
        ref = BackupRef(CLUSTER, database, f"{began:%Y%m%dT%H%M%SZ}-abcdef")
        objects = [
            replace(stored, key=ref.data_prefix + stored.key.rpartition("/")[2]) for stored in self.manifest.objects
        ]
        names = {"cluster": ref.cluster, "database": ref.database, "backup_id": ref.backup_id, "job": ref.database}
        times = dict.fromkeys(("started_at", "snapshot_at", "finished_at"), began)
        manifest = self.manifest.model_copy(update={**names, **times, "objects": objects})
        for stored, body in zip(objects, self.bodies, strict=False):
            _write(folder / stored.key, body, began)
        _write(folder / ref.manifest_key, dump_manifest(manifest), began)


def _large_object(number: int, *, first_pack: int) -> File:
    pack, place = divmod(number, _IN_A_PACK)
    segment = Segment(object=first_pack + pack, offset=place * _COMPRESSED, length=_COMPRESSED, size=_LARGE_OBJECT)
    return File(
        path=f"blob_{16384 + number}.dat",
        kind="large_object",
        size=_LARGE_OBJECT,
        checksum=f"{number:064x}",
        segments=(segment,),
    )


def _pack(manifest: Manifest, number: int) -> StoredObject:
    prefix = BackupRef(manifest.cluster, manifest.database, manifest.backup_id).data_prefix
    digest = f"{number:064x}"
    return StoredObject(
        key=f"{prefix}large-{number:05}.tar.zst",
        size=_IN_A_PACK * _COMPRESSED,
        sha256=digest,
        checksum=f"sha256:{digest}",
        version=None,
    )


def _write(path: Path, body: bytes, moment: datetime) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    os.utime(path, (moment.timestamp(), moment.timestamp()))
