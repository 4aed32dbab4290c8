"""Reads the facts about a store's backups from which :mod:`pipeline.prune.retention` makes a plan.

A manifest names only objects of its own database. Only a cluster manifest names other backups, all of its own cluster. So the fate of a
database's backups depends only on the manifests of the database and on the cluster manifests, and pgstow reads no others.
"""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.catalog.attestation import Attestation, History, Level, latest_attestations
from pipeline.catalog.keys import CLUSTER, BackupRef
from pipeline.catalog.listing import ListedManifest, Listing, list_manifests, tell_odd
from pipeline.catalog.reader import CatalogEntry, read_catalog
from pipeline.events import Notify, Started
from pipeline.prune.deletion import Database
from pipeline.prune.retention import Backup, selection_of
from storage_backends import AccessDenied, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust


@dataclass(frozen=True, slots=True)
class ReadManifest:
    """The facts that a single manifest has."""

    backup: Backup
    """The backup, as far as its manifest describes it."""
    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    members: Mapping[BackupRef, str]
    """The SHA-256 of each member's manifest, in hexadecimal, as the manifest says."""
    objects: int
    """The number of objects in the manifest."""
    implausible: str | None
    """The reason why no backup can have made the manifest; None if one can."""


@dataclass(frozen=True, slots=True)
class Signatures:
    """Which signatures count."""

    trust: "Trust | None" = None
    """The trusted keys; None if there are none, so that every backup counts."""
    unsigned: bool = False
    """True if backups without a signature count, too, among themselves."""


ANY = Signatures()
"""Every backup counts, signed or not."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a command has read from one store. With it, the command reads each manifest and each attestation once.

    Nothing is ever overwritten in a store. So a document is known if the store still lists its key, size and time, and the same checksum
    and version if the store lists them. A document that could not be read or believed isn't known: the next look reads it again.
    All calls must let the same signatures count.
    """

    manifests: dict[ListedManifest, ReadManifest] = field(default_factory=dict)
    attestations: dict[History, Attestation | None] = field(default_factory=dict)

    def read(
        self, store: StorageBackend, listed: Sequence[ListedManifest], now: datetime, signatures: Signatures = ANY
    ) -> dict[BackupRef, ReadManifest | None]:
        """Return what each listed manifest says; None for a manifest that can't be read.

        If a manifest can't be read, and no trusted key signed it, it is left out: a stranger's manifest doesn't keep other backups.
        Raises StorageError.
        """
        found: dict[BackupRef, ReadManifest | None] = {one.ref: self.manifests.get(one) for one in listed}
        unread = [one for one in listed if found[one.ref] is None]
        for one, entry in zip(unread, read_catalog(store, unread, now, signatures.trust), strict=True):
            if entry.manifest is None and entry.fault:
                del found[one.ref]
                continue
            found[one.ref] = read = _describe(entry, unsigned=signatures.unsigned and entry.fault == "unsigned")
            if read and not read.backup.doubt:
                self.manifests[one] = read
        return found


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan needs to know about the backups of a store, of a cluster or of a database."""

    backups: Sequence[Backup]
    """The backups, without the locks that only the store knows."""
    unreadable: Sequence[BackupRef]
    """The backups whose manifest can't be read."""
    staying: frozenset[BackupRef]
    """The backups of whole servers whose members aren't all in ``backups``. The plan for a single database must not drop them."""
    objects: Mapping[Database, int]
    """The number of objects in each database, manifests included, as far as the manifests say."""
    signed: frozenset[BackupRef]
    """The backups that have a signature, whoever made it."""


def _list(store: StorageBackend, cluster: str | None, database: str | None) -> Listing:
    if database in (None, CLUSTER):
        return list_manifests(store, cluster)
    if cluster is not None:
        own, of_cluster = (list_manifests(store, cluster, name) for name in (database, CLUSTER))
        return Listing(
            [*own.manifests, *of_cluster.manifests],
            [*own.odd, *of_cluster.odd],
            [*own.foreign, *of_cluster.foreign],
        )
    listing = list_manifests(store)
    clusters = {one.ref.cluster for one in listing.manifests if one.ref.database == database}
    return replace(
        listing,
        manifests=[
            one for one in listing.manifests if one.ref.cluster in clusters and one.ref.database in (database, CLUSTER)
        ],
    )


def gather(
    store: StorageBackend,
    cluster: str | None,
    database: str | None,
    known: Known,
    notify: Notify,
    now: datetime,
    signatures: Signatures = ANY,
) -> Facts:
    """Return the facts on which the fate of the backups of a cluster, a database or the whole store depends.

    None stands for any cluster or any database. The database ``@cluster`` stands for a cluster's backups and their members.
    Raises StorageError.
    """
    notify(Started("Reading manifests"))
    listing = _list(store, cluster, database)
    tell_odd(listing, notify)
    manifests = known.read(store, listing.manifests, now, signatures)
    vouched = _vouched(manifests)
    stays = manifests.keys() | vouched.keys()
    readable = _apart({ref: _believe(read, vouched) for ref, read in manifests.items() if read})
    staying = frozenset[BackupRef]()
    digests = {ref: read.sha256 if read else None for ref, read in manifests.items()}
    attested = digests
    if database not in (None, CLUSTER):
        staying = frozenset(ref for ref in readable if ref.database == CLUSTER)
        members = {member for ref in staying if not readable[ref].backup.doubt for member in readable[ref].members}
        attested = {ref: sha256 for ref, sha256 in digests.items() if ref.database == database and ref not in members}
    proven = latest_attestations(
        store,
        attested,
        cluster,
        None if database == CLUSTER else database,
        notify,
        known.attestations,
        signatures.trust,
    )
    if proven is None:
        raise AccessDenied(
            "Nothing is pruned, because attestations can't be read, and an attestation may say that a backup is damaged."
        )
    objects = Counter[Database]()
    for ref, read in manifests.items():
        objects[ref.cluster, ref.database] += 1 + (read.objects if read else 0)
    return Facts(
        backups=[_with_proof(read, proven.get(ref), digests) for ref, read in readable.items()],
        unreadable=[one.ref for one in listing.manifests if one.ref in stays and one.ref not in readable],
        staying=staying,
        objects=objects,
        signed=frozenset(one.ref for one in listing.manifests if one.signed),
    )


def _vouched(manifests: Mapping[BackupRef, ReadManifest | None]) -> dict[BackupRef, str]:
    """Return the SHA-256 of the members' manifests that the believed cluster manifests name. Unsigned ones aren't asked."""
    believed = [read for read in manifests.values() if read and not (read.backup.doubt or read.backup.unsigned)]
    return {ref: sha256 for read in believed for ref, sha256 in read.members.items()}


def _believe(read: ReadManifest, vouched: Mapping[BackupRef, str]) -> ReadManifest:
    """Return the manifest without the doubt of its own signature, if a believed cluster manifest has its SHA-256.

    The signature of the cluster manifest covers the members. Otherwise, whoever removes a member's signature makes the cluster's backup
    look broken.
    """
    if vouched.get(read.backup.ref) != read.sha256:
        return read
    return replace(read, backup=replace(read.backup, doubt=read.implausible))


def _apart(manifests: Mapping[BackupRef, ReadManifest]) -> dict[BackupRef, ReadManifest]:
    """Return the manifests. An unsigned cluster manifest keeps no signed members: a forged one would take them with it when it is dropped."""
    signed = {ref for ref, read in manifests.items() if not (read.backup.doubt or read.backup.unsigned)}
    return {ref: _without(read, signed) if read.backup.unsigned else read for ref, read in manifests.items()}


def _without(read: ReadManifest, signed: Set[BackupRef]) -> ReadManifest:
    members = {ref: sha256 for ref, sha256 in read.members.items() if ref not in signed}
    return replace(read, backup=replace(read.backup, members=tuple(members)), members=members)


def _describe(entry: CatalogEntry, *, unsigned: bool) -> ReadManifest | None:
    manifest = entry.manifest
    if manifest is None or entry.sha256 is None:
        return None
    # pgstow writes members only into cluster manifests. Elsewhere, they are forged.
    named = manifest.members if entry.ref.database == CLUSTER else ()
    members = {BackupRef(entry.ref.cluster, member.database, member.backup_id): member.sha256 for member in named}
    backup = Backup(
        ref=entry.ref,
        kind=manifest.kind,
        snapshot_at=manifest.snapshot_at,
        selection=selection_of(manifest.dump),
        partial=manifest.dump.partial,
        tags=frozenset(manifest.tags),
        job=manifest.job,
        members=tuple(members),
        uses=entry.uses,
        sealed=manifest.encryption is not None,
        retained_until=manifest.retained_until,
        unsigned=unsigned,
        doubt=entry.implausible if unsigned else entry.problem,
    )
    return ReadManifest(backup, entry.sha256, members, manifest.totals.objects, entry.implausible)


def _with_proof(read: ReadManifest, attestation: Attestation | None, digests: Mapping[BackupRef, str | None]) -> Backup:
    """Return the backup with the result of its latest verification. ``digests`` has the SHA-256 of all manifests, by their backups."""
    altered = any(digests.get(ref, sha256) != sha256 for ref, sha256 in read.members.items())
    if attestation is None:
        return replace(read.backup, damaged=True) if altered else read.backup
    unproven = attestation.unproven
    return replace(
        read.backup,
        verified=Level(attestation.level) if attestation.good or unproven else None,
        damaged=altered or not (attestation.good or unproven),
        unread_at=attestation.finished_at if unproven else None,
    )
