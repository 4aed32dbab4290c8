"""Attestations: the results of verifications. The store keeps them beside the backups.

pgstow writes an attestation as it writes a manifest, in canonical bytes and create-only. pgstow never changes an attestation. A later
verification adds its own.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from pipeline.catalog.canonical_json import Model, document_schema
from pipeline.catalog.document import dump_document, open_document
from pipeline.catalog.fields import Count, Moment, Sha256
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef, attestations_prefix, is_attestation_name
from pipeline.catalog.plausibility import doubt_time
from pipeline.catalog.reading import read_each
from pipeline.catalog.signature import read_signature
from pipeline.counting import counted
from pipeline.errors import ManifestInvalid, Untrusted
from pipeline.events import Notice, Notify
from pipeline.trust.statement import Verification, make_statement
from storage_backends import AccessDenied, ObjectInfo, ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.envelope import Signer
    from pipeline.trust.policy import Trust

ATTESTATION_VERSION = "1.2"
LONGEST_ATTESTATION = 16 * 1024 * 1024
"""The most bytes of an attestation."""
_MOST_PROBLEMS = 1000  # in an attestation, so that its length stays below LONGEST_ATTESTATION


class Level(StrEnum):
    """The depth of a verification. Each level includes all levels before it."""

    OBJECTS = "objects"
    """Every object exists with the size in the manifest, and with its checksum if the store reports one. No data is read."""
    BYTES = "bytes"
    """Every object is read, and has the SHA-256 in the manifest."""
    ARCHIVE = "archive"
    """pg_restore parses the archive, and each of its files decompresses to the size, SHA-256 and rows in the manifest."""
    RESTORE = "restore"
    """The whole backup is restored into a server, and each table there has the number of rows in the manifest."""


class RestoreProof(Model):
    """The results of restoring the backup."""

    server_version: str = Field(description="Version of the server into which the backup was restored")
    pg_restore_version: str
    tables: Count = Field(description="Number of tables whose number of rows was the one in the manifest")
    rows: Count = Field(description="Number of rows in these tables")
    compared: Count | None = Field(
        description="Number of tables whose content was compared with the archive; null if no comparison was requested"
    )
    assertions: list[str] = Field(description="The user's assertions that were checked: SQL, or the name of a SQL file")


class Attestation(Model):
    """The result of one verification of one backup."""

    attestation_version: str = Field(default=ATTESTATION_VERSION, pattern=r"^\d+\.\d+$")
    cluster: str
    database: str
    backup_id: str
    manifest_sha256: Sha256 = Field(
        description="SHA-256 of the manifest's bytes. The attestation counts only for a manifest with these bytes"
    )
    level: Literal["objects", "bytes", "archive", "restore"]
    good: bool = Field(description="True if pgstow could read everything and found no problem")
    problems: list[str] = Field(
        description="One sentence for each problem. After 1,000 problems, one sentence gives the number of the others"
    )
    unreadable: list[str] = Field(
        default=[],
        description="One sentence for each object that the store failed to return, while it returned others. "
        "If problems is empty, the backup is neither good nor damaged, but unproven. Since 1.1",
    )
    replaced: list[str] = Field(
        default=[],
        description="One sentence for each object that was overwritten or deleted, but whose original version the store still has. "
        "If problems is empty, the backup can be restored, but is unproven: the store may remove the original version. Since 1.2",
    )
    objects: Count = Field(description="Number of objects that were checked")
    objects_without_checksum: Count = Field(
        description="Number of objects that were not read and for which the store reported no checksum"
    )
    files: Count = Field(description="Number of the archive's files that were decompressed and checked")
    restore: RestoreProof | None = Field(
        description="The results of restoring a database at level restore; null at other levels, or if the restore failed"
    )
    started_at: Moment
    finished_at: Moment
    tool: str = Field(
        default=f"pgstow {version('pgstow')}", description="Name and version of the program that wrote the attestation"
    )

    @property
    def unproven(self) -> bool:
        """True if nothing is damaged, but some objects could not be read at all, or only in their original version."""
        return not self.good and bool(self.unreadable or self.replaced) and not self.problems

    @property
    def ref(self) -> BackupRef:
        """The backup that the attestation is about."""
        return BackupRef(self.cluster, self.database, self.backup_id)


def store_attestation(store: StorageBackend, attestation: Attestation, signer: "Signer | None" = None) -> str:
    """Put the attestation into the store, after its signature if there is a signer. Return the attestation's key. Raises StorageError."""
    key, data = attestation.ref.attestation_key(attestation.finished_at), dump_attestation(attestation)
    digest = hashlib.sha256(data)
    if signer:
        envelope = signer.sign(make_statement(key, digest.hexdigest(), Verification()))
        store.put(key + SIGNATURE_SUFFIX, envelope, sha256=hashlib.sha256(envelope).digest())
    return store.put(key, data, sha256=digest.digest()).key


def shortened(problems: Sequence[str]) -> list[str]:
    """Return the first thousand problems, and a sentence with the number of the others if there are more."""
    left = len(problems) - _MOST_PROBLEMS
    return [
        *problems[:_MOST_PROBLEMS],
        *([f"There {'is' if left == 1 else 'are'} {counted(left, 'more problem')}."] if left > 0 else []),
    ]


def dump_attestation(attestation: Attestation) -> bytes:
    """Return the attestation's canonical bytes, checksum included."""
    return dump_document(attestation, "attestation")


def load_attestation(data: bytes, key: str) -> Attestation:
    """Return the attestation that is stored under ``key``. Raises ManifestInvalid if the bytes are damaged, or belong to another key."""
    attestation = open_document(data, "attestation", key, version=ATTESTATION_VERSION).model(Attestation)
    if attestation.ref.attestation_key(attestation.finished_at) != key:
        raise ManifestInvalid(
            f"The attestation {key} has another key than its content says (backup {attestation.backup_id}, "
            f"{attestation.finished_at:%Y-%m-%d %H:%M:%S.%f}Z): it was moved."
        )
    return attestation


History = tuple[BackupRef, str, tuple[ObjectInfo, ...]]
"""A backup, the SHA-256 of its manifest, and its attestations as the store lists them, the oldest first."""


def latest_attestations(
    store: StorageBackend,
    digests: Mapping[BackupRef, str | None],
    cluster: str | None,
    database: str | None,
    notify: Notify,
    known: dict[History, Attestation | None] | None = None,
    trust: "Trust | None" = None,
) -> dict[BackupRef, Attestation] | None:
    """Return the attestation that counts for each backup that has attestations; None if the credentials can't read attestations.

    ``digests`` has the SHA-256 of each backup's manifest, in hexadecimal. It has None for a manifest that can't be read.

    The latest attestation counts, with one exception. An attestation that isn't good counts until a later one of the same or a higher
    level is good.

    An attestation is ignored if it can't be read or believed, or is about another manifest. If there are trusted keys, an attestation is
    also ignored unless a key that is trusted for verifications signed it. The attestation before it then counts. A notice says which
    attestations are ignored, and why.

    ``known`` has results of earlier calls for the same store, and gets the new results. A result with an ignored attestation isn't kept:
    pgstow reads such attestations again.

    This costs one LIST per thousand attestations of the cluster or the database, and a few GETs for each backup with attestations. pgstow
    reads from the latest attestation backwards, and stops at one that isn't good or is of level restore. Raises StorageError.
    """
    wanted = {ref.attestations_prefix: (ref, sha256) for ref, sha256 in digests.items() if sha256 is not None}
    histories, odd = defaultdict[BackupRef, list[ObjectInfo]](list), list[str]()
    try:
        for info in store.list(attestations_prefix(cluster, database if cluster is not None else None)):
            folder, slash, name = info.key.rpartition("/")
            if folder + slash not in wanted:
                continue
            ref, _ = wanted[folder + slash]
            if is_attestation_name(name):
                histories[ref].append(info)
            elif not is_attestation_name(name.removesuffix(SIGNATURE_SUFFIX)):
                odd.append(info.key)
        if odd:
            more = (
                f" {len(odd) - 1} more {'has such a name' if len(odd) == 2 else 'have such names'}."
                if len(odd) > 1
                else ""
            )
            notify(
                Notice(
                    f"{odd[0]!r} is no name that pgstow gives to an attestation. pgstow ignores the object and keeps it.{more}"
                )
            )
        read = [(ref, sha256, tuple(histories[ref])) for ref, sha256 in wanted.values() if ref in histories]
        return _read(store, read, {} if known is None else known, notify, trust)
    except AccessDenied as exc:
        notify(Notice(f"pgstow can't tell when backups were last proven. {exc}"))
        return None


def _read(
    store: StorageBackend,
    histories: Sequence[History],
    known: dict[History, Attestation | None],
    notify: Notify,
    trust: "Trust | None",
) -> dict[BackupRef, Attestation]:
    found = {history: known[history] for history in histories if history in known}
    unread = [history for history in histories if history not in known]
    read = read_each(store, partial(_read_history, store, trust), unread, name="attestation")
    for history, (attestation, problems) in read:
        found[history] = attestation
        if problems:
            others = len(problems) - 1
            more = f" {counted(others, 'more attestation')} of this backup can't be used either." if others else ""
            notify(Notice(problems[0] + more))
        else:
            known[history] = attestation
    return {ref: attestation for (ref, _, _), attestation in found.items() if attestation}


def _read_history(
    store: StorageBackend, trust: "Trust | None", history: History
) -> tuple[Attestation | None, Sequence[str]]:
    """Return the attestation that counts, and a sentence on each attestation that can't be used."""
    _, sha256, oldest_first = history
    levels, counting, proven = list(Level), None, -1
    problems: list[str] = []
    for info in reversed(oldest_first):
        try:
            attestation = _read_one(store, info, sha256, trust)
        except (ManifestInvalid, ObjectNotFound, ObjectTooLarge) as exc:
            problems.append(str(exc))  # an unusable attestation must not hide earlier attestations
            continue
        level = levels.index(Level(attestation.level))
        if level <= proven:
            continue
        if counting is None or not attestation.good:
            counting = attestation
        proven = level
        if not attestation.good or levels[level] is Level.RESTORE:
            break
    return counting, problems


def _read_one(store: StorageBackend, info: ObjectInfo, sha256: str, trust: "Trust | None") -> Attestation:
    """Return a stored attestation.

    Raises ManifestInvalid if it is damaged, can't be believed, or is about another manifest. Raises StorageError as ``store.get`` does.
    """
    data = store.get(info.key, at_most=LONGEST_ATTESTATION)
    if trust:
        try:
            read_signature(store, info.key, Verification, trust).check(data)
        except Untrusted as exc:
            raise ManifestInvalid(f"The attestation {info.key} is not believed: {exc}.") from exc
    attestation = load_attestation(data, info.key)
    if reason := doubt_time(attestation.finished_at, info.modified, datetime.now(UTC)):
        raise ManifestInvalid(f"The attestation {info.key} is not believed: {reason}.")
    if attestation.manifest_sha256 != sha256:
        raise ManifestInvalid(
            f"The attestation of {attestation.backup_id} is about another manifest than the one in the store."
        )
    return attestation


def attestation_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an attestation, as published in docs/attestation.schema.json."""
    return document_schema(Attestation, f"pgstow attestation {ATTESTATION_VERSION}", "attestation_checksum")
