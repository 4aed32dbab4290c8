"""Reads the chains of a store: the signed statements about its backups, and the tombstones of removed backups."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef, manifests_prefix, tombstones_prefix
from pipeline.catalog.listing import ListedManifest, list_manifests
from pipeline.catalog.reader import read_manifest_bytes
from pipeline.catalog.reading import read_each
from pipeline.catalog.signature import read_signature, read_tombstone
from pipeline.catalog.summary import load_summary
from pipeline.errors import BackupNotFound, ManifestInvalid, Untrusted
from pipeline.trust.chain import Chain, Fault, Finding, Node, examine
from pipeline.trust.statement import Link, Reference, Removal
from storage_backends import ObjectInfo, ObjectNotFound, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust


@dataclass(frozen=True, slots=True)
class Chains:
    """The chains of the databases in a store, and what is wrong with them."""

    chains: Sequence[Chain]
    findings: Sequence[Finding]


def read_chains(
    store: StorageBackend, cluster: str | None, database: str | None, trust: "Trust", heads: Sequence[str] = ()
) -> Chains:
    """Return the chains of the store, of a cluster or of a database. Raises StorageError.

    ``heads`` has the SHA-256 of statements that must be in a chain, in hexadecimal. This costs two GETs for each backup and one for each
    tombstone.
    """
    # Tombstones are listed after manifests, so that a backup that is removed in between is in one of the listings.
    listed = list_manifests(store, cluster, database).manifests
    tombstones = list(_list_tombstones(store, cluster, database))
    nodes, findings = defaultdict[tuple[str, str], dict[str, Node]](dict), list[Finding]()
    read = dict(read_each(store, partial(_read_tombstone, store, trust), tombstones, name="tombstone"))
    live = dict(read_each(store, partial(_read_backup, store, trust), listed, name="backup"))
    for (ref, _), found in read.items():
        _enter(nodes, findings, ref, found)
    for one, found in live.items():
        removed = nodes[one.ref.cluster, one.ref.database].get(one.ref.backup_id)
        if isinstance(found, Node) and removed:
            found = replace(found, pruned_at=removed.pruned_at)
        _enter(nodes, findings, one.ref, found)
    chains = list[Chain]()
    for (of_cluster, name), there in sorted(nodes.items()):
        some, faults = examine(of_cluster, name, there.values())
        chains += some
        findings += faults
    known = {node.sha256 for there in nodes.values() for node in there.values()}
    findings += [
        Finding(Fault.HEAD_LOST, "", "", "", f"No backup and no tombstone has the statement {head}.")
        for head in heads
        if head not in known
    ]
    return Chains(chains, findings)


def _enter(
    nodes: dict[tuple[str, str], dict[str, Node]],
    findings: list[Finding],
    ref: BackupRef,
    found: Node | Finding | None,
) -> None:
    if isinstance(found, Node):
        nodes[ref.cluster, ref.database][ref.backup_id] = found
    elif found is not None:
        findings.append(found)


def _list_tombstones(
    store: StorageBackend, cluster: str | None, database: str | None
) -> Iterator[tuple[BackupRef, ObjectInfo]]:
    for info in store.list(tombstones_prefix(cluster, database if cluster is not None else None)):
        ref = BackupRef.of_tombstone_key(info.key)
        if ref is not None and database in (None, ref.database):
            yield ref, info


def _read_tombstone(
    store: StorageBackend, trust: "Trust", listed: tuple[BackupRef, ObjectInfo]
) -> Node | Finding | None:
    """Return the removed backup; None if it was not signed, or if the tombstone is gone."""
    ref, info = listed
    try:
        removal = read_tombstone(store, ref, trust).predicate
    except Untrusted as exc:
        return _finding(ref, Fault(exc.fault), f"The tombstone {ref.tombstone_key} is not believed: {exc}.")
    except ObjectNotFound:
        return None
    return removed_node(ref, removal, info.modified)


def removed_node(ref: BackupRef, removal: Removal, removed_at: datetime) -> Node | None:
    """Return the place of a removed backup in its chain, from its tombstone; None if the backup was not signed.

    ``removed_at`` is the time when the tombstone was stored, by the store's clock.
    """
    if removal.link is None or removal.statement_sha256 is None:
        return None
    return Node(ref.backup_id, removal.statement_sha256, removal.link, pruned_at=removed_at)


def _read_backup(store: StorageBackend, trust: "Trust", listed: ListedManifest) -> Node | Finding | None:
    """Return the backup; None if it was removed meanwhile."""
    ref = listed.ref
    try:
        signed = read_signature(store, ref.manifest_key, Link, trust)
        data = read_manifest_bytes(store, ref)
        signed.check(data)
        system = load_summary(data, ref.manifest_key).manifest.source.system_identifier
    except Untrusted as exc:
        if not _exists(store, ref.manifest_key):
            return None  # prune removes the manifest before the signature
        return _finding(ref, Fault(exc.fault), f"The backup {ref.backup_id} is not believed: {exc}.")
    except BackupNotFound:
        return None
    except ManifestInvalid as exc:  # a newer pgstow wrote the manifest, or signed a manifest that isn't valid
        return _finding(ref, Fault.UNTRUSTED, str(exc))
    return Node(ref.backup_id, signed.sha256, signed.predicate, listed.stored_at, system=system)


def _exists(store: StorageBackend, key: str) -> bool:
    try:
        store.head(key)
    except ObjectNotFound:
        return False
    return True


def _finding(ref: BackupRef, fault: Fault, sentence: str) -> Finding:
    return Finding(fault, ref.cluster, ref.database, ref.backup_id, sentence)


def last_statement(store: StorageBackend, cluster: str, database: str, writer: str, trust: "Trust") -> Reference | None:
    """Return the writer's last statement whose backup is committed; None if the store has none by a trusted key.

    The clock of the store decides which statement is the last, since the writer's clock may have run backwards. Raises StorageError.
    """
    infos = {info.key: info for info in store.list(manifests_prefix(cluster, database))}
    signed = [
        (info.modified, ref)
        for key, info in infos.items()
        if key.endswith(SIGNATURE_SUFFIX) and (ref := BackupRef.of_key(key)) and ref.manifest_key in infos
    ]
    for _, at_once in groupby(sorted(signed, key=lambda one: one[0], reverse=True), key=lambda one: one[0]):
        found = list[Reference]()
        for _, ref in at_once:
            try:
                statement = read_signature(store, ref.manifest_key, Link, trust)
            except Untrusted:
                continue
            if statement.predicate.writer == writer:
                found.append(
                    Reference(backup_id=ref.backup_id, sequence=statement.predicate.sequence, sha256=statement.sha256)
                )
        if found:
            return max(found, key=lambda one: one.sequence)
    return None
