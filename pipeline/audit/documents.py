"""Turns the bytes of documents into what an audit needs of them, and keeps this in few bytes.

The same bytes always give the same result. So a result may be kept for later audits: see :mod:`pipeline.audit.cache`.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pydantic import TypeAdapter

from pipeline.audit.facts import ManifestFacts, TableFacts
from pipeline.catalog.attestation import Attestation, load_attestation
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.plausibility import doubt_content
from pipeline.catalog.summary import load_details

if TYPE_CHECKING:
    from pipeline.trust.envelope import Verified

_T = TypeVar("_T")
_LENGTHS = struct.Struct("<II")
_FASTEST = 1
_FACTS: TypeAdapter[ManifestFacts] = TypeAdapter(ManifestFacts)
_TABLES: TypeAdapter[list[TableFacts]] = TypeAdapter(list[TableFacts])
_OBJECTS: TypeAdapter[list[tuple[str, int, str | None]]] = TypeAdapter(list[tuple[str, int, str | None]])


class _Packed(Sequence[_T], Generic[_T]):
    """A sequence that is compressed, and is unpacked at each pass. A database may have a year of backups with thousands of tables each."""

    __slots__ = ("_count", "_data", "_kind")

    def __init__(self, kind: TypeAdapter[list[_T]], data: bytes, count: int) -> None:
        self._kind, self._data, self._count = kind, data, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_T]:
        return iter(self._unpacked())

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_T]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._unpacked()[index]

    def _unpacked(self) -> list[_T]:
        return self._kind.validate_json(zlib.decompress(self._data))


def pack_manifest(data: bytes, key: str) -> bytes:
    """Return what the manifest that is stored under ``key`` says, packed. Raises ManifestInvalid."""
    details = load_details(data, key)
    summary, manifest = details.summary, details.summary.manifest
    tables = [
        TableFacts(table.schema_name, table.relation, table.rows, table.size, table.checksum, table.database)
        for table in details.tables
    ]
    tables.sort(key=lambda table: (table.schema, table.relation, table.database or ""))
    objects = [(stored.key, stored.size, stored.checksum) for stored in details.objects]
    # pgstow writes members only into cluster manifests. Elsewhere, they are forged.
    members = manifest.members if manifest.database == CLUSTER else ()
    facts = ManifestFacts(
        sha256=summary.sha256,
        job=manifest.job,
        kind=manifest.kind,
        partial=manifest.dump.partial,
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        snapshot_at=manifest.snapshot_at,
        size=manifest.totals.size,
        stored_size=sum(size for _, size, _ in objects),
        rows=manifest.totals.rows,
        tables=(),
        objects=(),
        members=[BackupRef(manifest.cluster, member.database, member.backup_id) for member in members],
        system_identifier=manifest.source.system_identifier,
        server_version=manifest.source.server_version,
        recipients=manifest.encryption.recipients if manifest.encryption else (),
        retained_until=manifest.retained_until,
        contradiction=doubt_content(manifest, summary.contents),
    )
    head = json.dumps([_FACTS.dump_python(facts, mode="json"), len(tables), len(objects)], separators=(",", ":"))
    parts = [head.encode(), _TABLES.dump_json(tables), _OBJECTS.dump_json(objects)]
    packed = [zlib.compress(part, _FASTEST) for part in parts]
    return b"".join((_LENGTHS.pack(len(packed[0]), len(packed[1])), *packed))


def unpack_manifest(packed: bytes) -> ManifestFacts:
    """Return what :func:`pack_manifest` packed. The tables and the objects stay packed. Raises ValueError, struct.error or zlib.error."""
    of_head, of_tables = _LENGTHS.unpack_from(packed)
    start = _LENGTHS.size
    middle = start + of_head
    head, tables, objects = json.loads(zlib.decompress(packed[start:middle]))
    end = middle + of_tables
    facts = _FACTS.validate_python(head)
    return replace(
        facts,
        tables=_Packed(_TABLES, packed[middle:end], tables),
        objects=_Packed(_OBJECTS, packed[end:], objects),
        started_at=facts.started_at.astimezone(UTC),
        finished_at=facts.finished_at.astimezone(UTC),
        snapshot_at=facts.snapshot_at.astimezone(UTC),
        retained_until=facts.retained_until and facts.retained_until.astimezone(UTC),
    )


def pack_attestation(data: bytes, key: str) -> bytes:
    """Return the bytes of the attestation that is stored under ``key``, packed. Raises ManifestInvalid if they are damaged."""
    load_attestation(data, key)
    return zlib.compress(data, _FASTEST)


def unpack_attestation(packed: bytes) -> tuple[Attestation, bytes]:
    """Return the attestation that :func:`pack_attestation` packed, and its bytes. Raises ValueError or zlib.error."""
    data = zlib.decompress(packed)
    return Attestation.model_validate_json(data), data


def pack_verified(verified: "Verified") -> bytes:
    """Return the payload of an envelope, and the ID of the key that signed it, packed."""
    return zlib.compress(verified.keyid.encode() + b"\n" + verified.payload, _FASTEST)


def unpack_verified(packed: bytes) -> "Verified":
    """Return what :func:`pack_verified` packed. Raises ValueError or zlib.error."""
    from pipeline.trust.envelope import (
        Verified,
    )  # the libraries for signatures are loaded only if there are trusted keys

    keyid, _, payload = zlib.decompress(packed).partition(b"\n")
    return Verified(payload, keyid.decode())
