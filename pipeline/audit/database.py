"""Finds out what the records of one database say: its manifests, signatures, tombstones and attestations."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.audit.facts import BackupFacts, DatabaseFacts, ManifestFacts, StoredObject
from pipeline.audit.listing import CONTENT, RECORDS, ListedDatabase
from pipeline.audit.records import Records
from pipeline.catalog.attestation import Attestation
from pipeline.catalog.chain import removed_node
from pipeline.catalog.keys import (
    MANIFESTS,
    PRUNED,
    SIGNATURE_SUFFIX,
    BackupRef,
    is_attestation_name,
    is_odd,
    manifests_prefix,
    tombstones_prefix,
)
from pipeline.catalog.plausibility import doubt_time, doubt_times
from pipeline.catalog.reader import describe_doubt
from pipeline.counting import counted
from pipeline.errors import ManifestInvalid, SignatureFault, Untrusted
from pipeline.events import Notice, Notify
from pipeline.trust.chain import Node
from pipeline.trust.statement import Link, P, Removal, Verification
from storage_backends import ObjectInfo, ObjectNotFound, ObjectTooLarge, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Signed, Trust


def read_database(
    store: StorageBackend,
    trust: "Trust | None",
    now: datetime,
    notify: Notify,
    listed: ListedDatabase,
    records: Records,
    unlisted: Sequence[str],
) -> DatabaseFacts:
    """Return the facts about a listed database, as :func:`pipeline.audit.read.read_store` does. Raises StorageError.

    ``unlisted`` are the folders that the credentials can't list.
    """
    reader = _Reader(trust, now, notify, listed, records)
    backups, removed, odd_tombstones = reader.read()
    if PRUNED in listed.objects and PRUNED not in unlisted and _lacks_cited(backups, removed):
        reader.add_tombstones(store.list(tombstones_prefix(listed.cluster, listed.database)))
        backups, removed, odd_tombstones = reader.read()
    objects = {info.key: _stored(info) for folder in CONTENT for info in listed.objects.get(folder, ())}
    backups = _still_there(store, listed, backups, objects, {*CONTENT} & listed.objects.keys() - {*unlisted})
    living = {one.ref.backup_id for one in backups if one.node}
    return DatabaseFacts(
        store=store.url,
        cluster=listed.cluster,
        database=listed.database,
        backups=backups,
        removed=[node for backup_id, node in removed.items() if backup_id not in living],
        odd_tombstones=odd_tombstones,
        objects=sorted(objects.values(), key=lambda stored: stored.key),
        unlisted=unlisted,
        odd=[info.key for info in listed.objects.get(MANIFESTS, ()) if is_odd(info.key)],
    )


def _still_there(
    store: StorageBackend,
    listed: ListedDatabase,
    backups: Sequence[BackupFacts],
    objects: dict[str, StoredObject],
    folders: Set[str],
) -> Sequence[BackupFacts]:
    """Return the backups without those that were removed meanwhile. Add objects that were stored after their folder was listed.

    A store is never still. Without this second look, a backup that came or went between two listings would seem to be broken. ``folders``
    are those whose objects were listed.
    """
    lacking = [one for one in backups if one.problem is None and _lacks(one, objects, folders)]
    for one in lacking:
        for prefix in (one.ref.data_prefix, one.ref.keys_prefix):
            if _folder_of(prefix) in folders:
                objects |= {info.key: _stored(info) for info in store.list(prefix)}
    suspects = {one.ref for one in backups if one.problem} | {one.ref for one in lacking}
    if not suspects:
        return backups
    there = {info.key for info in store.list(manifests_prefix(listed.cluster, listed.database))}
    return [one for one in backups if one.ref not in suspects or one.ref.manifest_key in there]


def _lacks_cited(backups: Sequence[BackupFacts], removed: Mapping[str, Node]) -> bool:
    """True if a backup cites one that is gone: perhaps it was removed after the tombstones were listed."""
    nodes = [*removed.values(), *(one.node for one in backups if one.node)]
    known = {node.sha256 for node in nodes}
    return any(node.link.predecessor and node.link.predecessor.sha256 not in known for node in nodes)


def _lacks(backup: BackupFacts, objects: Mapping[str, StoredObject], folders: Set[str]) -> bool:
    """True if an object of the backup isn't among the listed ones, though its folder was listed."""
    needed = backup.manifest.objects if backup.manifest and folders else ()
    return any(key not in objects and _folder_of(key) in folders for key, _, _ in needed)


def _folder_of(key: str) -> str:
    return key.partition("/")[0] + "/"


def _stored(info: ObjectInfo) -> StoredObject:
    return StoredObject(info.key, info.size, info.modified, info.checksum, info.retained_until)


class _Reader:
    """Reads the backups of one database."""

    def __init__(
        self,
        trust: "Trust | None",
        now: datetime,
        notify: Notify,
        listed: ListedDatabase,
        records: Records,
    ) -> None:
        self._trust, self._now, self._notify = trust, now, notify
        self._records = records
        manifests, attestations, tombstones = (listed.objects.get(folder, ()) for folder in RECORDS)
        self._manifests = {ref: info for info in manifests if (ref := BackupRef.of_manifest_key(info.key))}
        self._tombstones = dict[BackupRef, ObjectInfo]()
        self.add_tombstones(tombstones)
        self._attestations = [info for info in attestations if is_attestation_name(info.key.rpartition("/")[2])]
        self._signatures = {
            info.key: info for info in (*manifests, *attestations) if info.key.endswith(SIGNATURE_SUFFIX)
        }

    def add_tombstones(self, infos: Iterable[ObjectInfo]) -> None:
        """Also read these tombstones."""
        self._tombstones |= {ref: info for info in infos if (ref := BackupRef.of_tombstone_key(info.key))}

    def read(self) -> tuple[Sequence[BackupFacts], Mapping[str, Node], Sequence[tuple[str, str]]]:
        """Return the backups, the removed backups by their IDs, and the tombstones that can't be believed. Raises StorageError."""
        self._records.read(self._wanted())
        removed, odd_tombstones = self._removed()
        found = (
            self._backup(ref, info, removed.get(ref.backup_id), self._attested.get(ref.backup_id, ()))
            for ref, info in self._manifests.items()
        )
        return [one for one in found if one], removed, odd_tombstones

    def _wanted(self) -> Iterator[ObjectInfo]:
        """Yield the documents to read. Without trusted keys, signatures say nothing. With them, an attestation needs a signature."""
        yield from self._manifests.values()
        if self._trust is None:
            yield from self._attestations
            return
        yield from self._tombstones.values()
        yield from (signature for info in self._manifests.values() if (signature := self._signature_of(info)))
        for info in self._attestations:
            if signature := self._signature_of(info):
                yield from (info, signature)

    def _signature_of(self, info: ObjectInfo) -> ObjectInfo | None:
        return self._signatures.get(info.key + SIGNATURE_SUFFIX)

    def _removed(self) -> tuple[Mapping[str, Node], Sequence[tuple[str, str]]]:
        """Return the removed backups that were signed, by their IDs; and the tombstones that can't be believed, with the reasons."""
        removed, odd = dict[str, Node](), list[tuple[str, str]]()
        for ref, info in self._tombstones.items() if self._trust else ():
            try:
                signed = self._records.statement(info.key, ref.manifest_key, Removal)
            except Untrusted as exc:
                odd.append((info.key, f"The tombstone {info.key} is not believed: {exc}."))
                continue
            except ObjectNotFound:
                continue
            self._records.keep(info.key)
            if node := removed_node(ref, signed.predicate, info.modified):
                removed[ref.backup_id] = node
        return removed, odd

    @cached_property
    def _attested(self) -> Mapping[str, Sequence[Attestation]]:
        """Return the attestations that can be believed, the oldest first, by the IDs of their backups. Tell which ones are ignored."""
        found, ignored = defaultdict[str, list[Attestation]](list), list[str]()
        for info in self._attestations:
            try:
                attestation = self._attestation(info)
            except (ManifestInvalid, ObjectTooLarge, ObjectNotFound) as exc:
                ignored.append(str(exc))
            else:
                found[attestation.backup_id].append(attestation)
        if ignored:
            others = f" {counted(len(ignored) - 1, 'more attestation')} of this database can't be used either."
            self._notify(Notice(ignored[0] + (others if ignored[1:] else "")))
        return found

    def _attestation(self, info: ObjectInfo) -> Attestation:
        if self._trust:
            try:
                signed = self._statement_about(info, Verification)
                attestation, data = self._records.attestation(info.key)
                signed.check(data)
            except Untrusted as exc:
                raise ManifestInvalid(f"The attestation {info.key} is not believed: {exc}.") from exc
        else:
            attestation, _ = self._records.attestation(info.key)
        if reason := doubt_time(attestation.finished_at, info.modified, self._now):
            raise ManifestInvalid(f"The attestation {info.key} is not believed: {reason}.")
        self._records.keep(info.key, info.key + SIGNATURE_SUFFIX)
        return attestation

    def _backup(
        self, ref: BackupRef, info: ObjectInfo, removed: Node | None, attestations: Sequence[Attestation]
    ) -> BackupFacts | None:
        """Return the facts about a backup; None if its manifest is gone."""
        manifest: ManifestFacts | None = None
        signed: Signed[Link] | None = None
        fault: SignatureFault | None = None
        problem = node = None
        try:
            manifest = self._records.manifest(info.key)
        except ObjectNotFound:
            return None
        except (ManifestInvalid, ObjectTooLarge) as exc:
            problem = str(exc)
        if self._trust:
            try:
                signed = self._link_of(info)
            except Untrusted as exc:
                fault = exc.fault
                problem = problem or describe_doubt(ref, str(exc))
        if manifest is None:
            return BackupFacts(ref, info.modified, None, problem, fault, None, ())
        if signed:
            node = Node(
                ref.backup_id,
                signed.sha256,
                signed.predicate,
                info.modified,
                removed.pruned_at if removed else None,
                manifest.system_identifier,
            )
        times = (manifest.started_at, manifest.snapshot_at, manifest.finished_at)
        if reason := manifest.contradiction or doubt_times(times, info.modified, self._now):
            problem = problem or describe_doubt(ref, reason)
        if problem is None:
            self._records.keep(info.key, info.key + SIGNATURE_SUFFIX)
        about = [attestation for attestation in attestations if attestation.manifest_sha256 == manifest.sha256]
        return BackupFacts(ref, info.modified, manifest, problem, fault, node, about)

    def _link_of(self, info: ObjectInfo) -> "Signed[Link]":
        """Return what a trusted key says about the bytes of the manifest. Raises Untrusted."""
        signed = self._statement_about(info, Link)
        if sha256 := self._records.manifest_sha256(info.key):
            signed.check_digest(sha256)
        return signed

    def _statement_about(self, info: ObjectInfo, kind: type[P]) -> "Signed[P]":
        """Return what a trusted key says about the document. Raises Untrusted."""
        try:
            return self._records.statement(info.key + SIGNATURE_SUFFIX, info.key, kind)
        except ObjectNotFound as exc:
            raise Untrusted("unsigned", "it is not signed") from exc
