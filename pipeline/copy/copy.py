"""Copies backups from one store, the source, to others, the targets. All objects keep their bytes, so a signature holds in every store.

A target has a copied backup whole or not at all, since the manifest comes last. A copy that is repeated goes on where it stopped.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from pipeline.catalog.key_objects import other_key_objects
from pipeline.catalog.keys import CLUSTER, SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.listing import ListedManifest, list_manifests, tell_odd
from pipeline.catalog.manifest import Member
from pipeline.catalog.reader import read_manifest_bytes
from pipeline.concurrency import Workers
from pipeline.copy.request import CopyOutcome, CopyRequest, CopyResult, CopyState
from pipeline.copy.source import SourceBackup, choose, read_attestations, read_backup
from pipeline.copy.target import Target, is_down
from pipeline.copy.tombstones import copy_tombstones
from pipeline.copy.transfer import Receiver, send_objects
from pipeline.errors import BackupDamaged, PipelineError
from pipeline.events import Notify, Started
from storage_backends import ObjectAlreadyExists, StorageBackend, StorageError

_READERS = 8  # manifests compared at once
_SMALL = 2 * 1024 * 1024
"""Manifests of more bytes are compared one by one, so that only few are in memory."""


def copy(
    request: CopyRequest, source: StorageBackend, stores: Sequence[StorageBackend], notify: Notify, now: datetime
) -> CopyResult:
    """Copy the backups that the request asks for to each store that lacks them, and tombstones. Return the result.

    The members of a whole server's backup are copied before its cluster manifest. If a backup or a store fails, the others go on. In a dry
    run, nothing is changed.

    Raises StorageError if the source can't be listed. Also raises as :func:`choose` does.
    """
    notify(Started("Listing backups"))
    listing = list_manifests(source, request.cluster)
    tell_odd(listing, notify)
    wanted = choose(request, source, listing.manifests, notify, now)
    targets = [Target.look(store, request.cluster) for store in stores]
    listed = {one.ref: one for one in listing.manifests}
    databases = {(one.ref.cluster, one.ref.database) for one in wanted}
    tombstones = copy_tombstones(request, source, targets, databases, listed.keys(), notify)
    copier = _Copier(request, source, targets, listed, notify, now)
    copier.look_up(wanted)
    for one in wanted:
        copier.copy(one)
    return CopyResult(list(copier.outcomes.values()), tombstones)


class _Copier:
    """Copies one backup after another. ``listed`` has the manifests of the source."""

    def __init__(
        self,
        request: CopyRequest,
        source: StorageBackend,
        targets: Sequence[Target],
        listed: Mapping[BackupRef, ListedManifest],
        notify: Notify,
        now: datetime,
    ) -> None:
        self._request = request
        self._source = source
        self._targets = targets
        self._listed = listed
        self._notify = notify
        self._now = now
        self._down: StorageError | None = None
        """The error after which the source was found to be down."""
        self.outcomes: dict[tuple[BackupRef, Target], CopyOutcome] = {}

    def copy(self, listed: ListedManifest, vouched: str | None = None) -> None:
        """Copy a backup to all targets that lack it. ``vouched`` is as for :func:`read_backup`."""
        ref = listed.ref
        receivers = [Receiver(target) for target in self._targets if self._lacks(listed, target)]
        if not receivers:
            return
        try:
            backup = read_backup(self._request, self._source, listed, vouched, self._now)
            self._copy_members(backup, receivers)
            self._send(backup, receivers)
        except (PipelineError, StorageError) as exc:
            self._check_source(exc)
            for receiver in receivers:
                receiver.error = receiver.error or exc
        for receiver in receivers:
            self._end(ref, receiver)

    def look_up(self, wanted: Sequence[ListedManifest]) -> None:
        """Look up which of the backups the targets had before. Small manifests are compared several at once, and others later."""
        known = [
            (one, target) for one in wanted for target in self._targets if _is_small(one, target.manifests.get(one.ref))
        ]
        with Workers() as workers:
            for _ in workers.map(lambda pair: self._lacks(*pair), known, threads=_READERS, name="manifest"):
                pass

    def _lacks(self, listed: ListedManifest, target: Target) -> bool:
        """True if the backup must be copied to the target. Otherwise, there is an outcome afterwards."""
        place, url = (listed.ref, target), target.store.url
        if place in self.outcomes:
            return False
        error: Exception | None = target.down or self._down
        state: CopyState | None = None
        if error is None:
            try:
                state = target.find(self._request, self._source, listed)
            except (PipelineError, StorageError) as exc:
                error = exc
                target.check(exc)
                self._check_source(exc)
        if error:
            self.outcomes[place] = CopyOutcome(listed.ref, url, CopyState.FAILED, error=error)
        elif state:
            self.outcomes[place] = CopyOutcome(listed.ref, url, state)
        return error is None and state is None

    def _copy_members(self, backup: SourceBackup, receivers: Sequence[Receiver]) -> None:
        """Copy the members of a whole server's backup. A target gets no cluster manifest unless it has all members."""
        cluster = backup.ref.cluster
        # An attacker's manifest of a database may name members, even itself. No cluster can be a member.
        named = backup.manifest.members if backup.ref.database == CLUSTER else []
        members = {BackupRef(cluster, member.database, member.backup_id): member for member in named}
        for ref, member in members.items():
            if ref not in self._listed:
                raise BackupDamaged(f"{ref.manifest_key} is missing, but {backup.ref.manifest_key} names it.")
            self.copy(self._listed[ref], member.sha256)
        for ref, member in members.items():  # after all were copied, since prune may remove a member meanwhile
            for receiver in receivers:
                if not (receiver.error or self._request.dry_run):
                    outcome = self.outcomes[ref, receiver.target]
                    receiver.error = outcome.error or _member_error(receiver.target, ref, member)

    def _send(self, backup: SourceBackup, receivers: Sequence[Receiver]) -> None:
        """Send the backup: its objects, then its records. The manifest comes last."""
        receivers = [receiver for receiver in receivers if not receiver.error]
        objects = list(dict.fromkeys(backup.manifest.stored))
        if self._request.dry_run:
            for receiver in receivers:
                receiver.objects, receiver.size = len(objects), sum(stored.size for stored in objects)
            return
        ref = backup.ref
        self._notify(Started(f"Copying {ref.cluster}/{ref.database} {ref.backup_id}"))
        try:
            send_objects(self._source, objects, receivers, self._request.limits, self._notify)
        except BackupDamaged:
            read_manifest_bytes(self._source, ref)  # raises BackupNotFound if prune removed the backup meanwhile
            raise
        if any(receiver.error is None for receiver in receivers):
            for key, body in self._records(backup):
                for receiver in receivers:
                    receiver.put_record(key, body)

    def _records(self, backup: SourceBackup) -> Iterator[tuple[str, bytes]]:
        """Yield key and bytes of each record of the backup, in the order in which a target must get them. Raises StorageError."""
        key, manifest = backup.ref.manifest_key, backup.manifest
        if manifest.encryption:
            yield from other_key_objects(self._source, manifest, manifest.encryption)
        for attestation, data, signature in read_attestations(self._request, self._source, backup, self._notify):
            if signature:
                yield attestation + SIGNATURE_SUFFIX, signature
            yield attestation, data
        if backup.envelope:
            yield key + SIGNATURE_SUFFIX, backup.envelope
        yield key, backup.data

    def _end(self, ref: BackupRef, receiver: Receiver) -> None:
        target, error = receiver.target, receiver.error
        state = CopyState.FAILED if error else CopyState.MISSING if self._request.dry_run else CopyState.COPIED
        self.outcomes[ref, target] = CopyOutcome(ref, target.store.url, state, receiver.objects, receiver.size, error)
        if error:
            target.check(error)

    def _check_source(self, error: Exception) -> None:
        if isinstance(error, StorageError) and is_down(self._source, error):
            self._down = error


def _is_small(one: ListedManifest, there: ListedManifest | None) -> bool:
    return there is not None and max(one.size, there.size) <= _SMALL


def _member_error(target: Target, ref: BackupRef, member: Member) -> Exception | None:
    """Return why the target doesn't have the member that a cluster manifest names; None if it does."""
    try:
        data = read_manifest_bytes(target.store, ref)
    except (PipelineError, StorageError) as exc:
        return exc
    if hashlib.sha256(data).hexdigest() == member.sha256:
        return None
    return ObjectAlreadyExists(
        f"{target.store.url}/{ref.manifest_key} is not the manifest that the cluster manifest names; nothing was overwritten"
    )
