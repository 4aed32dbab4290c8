"""Legal holds: a backup that nobody can delete until the hold is taken off again."""

from functools import partial

from pipeline.catalog import Wanted, find_backup, list_backups, read_manifest
from pipeline.concurrency import Workers
from pipeline.events import Notify, Started
from pipeline.layout import BackupRef
from storage_backends import ObjectNotFound, StorageBackend
from storage_backends.holds import set_hold

_REQUESTS = 8  # at once


def hold(wanted: Wanted, store: StorageBackend, notify: Notify, *, held: bool) -> dict[BackupRef, int]:
    """Put a legal hold on a backup, or take it off: on its manifest and every object that it names; of a cluster's, on its members too.

    Returns how many objects that were, by backup; the one that was meant comes first. Do it again if it ends before it is done: a manifest is
    held first and let go last, so that ``prune`` never takes one for free whose objects aren't. Objects that two backups share are let go with
    either. Raises PipelineError or StorageError.
    """
    found = find_backup(store, wanted)
    meant = BackupRef(found.cluster, found.database, found.backup_id)
    refs = [meant, *(BackupRef(meant.cluster, member.database, member.backup_id) for member in found.members)]
    objects = {ref: [stored.key for stored in read_manifest(store, ref).objects] for ref in refs}
    manifests = [ref.manifest_key for ref in refs]
    keys = [key for named in objects.values() for key in named]
    notify(Started(f"{'Holding' if held else 'Letting go'} {len(manifests) + len(keys)} objects"))
    for step in (manifests, keys) if held else (keys, manifests):
        with Workers() as workers:
            holding = workers.pool(_REQUESTS, "hold")
            for key in step:
                holding.submit(partial(set_hold, store, key, held=held), lambda _: None)
            while holding.pending:
                workers.collect(timeout=1.0)
    return {ref: len(named) + 1 for ref, named in objects.items()}


def held_backups(store: StorageBackend, cluster: str | None = None, database: str | None = None) -> list[BackupRef]:
    """The backups whose manifest is under a legal hold, as far as the store tells; asks for each one. Raises StorageError."""
    refs = list_backups(store, cluster, database)
    held: set[BackupRef] = set()
    with Workers() as workers:
        asking = workers.pool(_REQUESTS, "hold")
        for ref in refs:
            asking.submit(partial(_is_held, store, ref), partial(_note, held, ref))
        while asking.pending:
            workers.collect(timeout=1.0)
    return [ref for ref in refs if ref in held]


def _is_held(store: StorageBackend, ref: BackupRef) -> bool:
    try:
        return bool(store.head(ref.manifest_key).held)
    except ObjectNotFound:
        return False


def _note(held: set[BackupRef], ref: BackupRef, is_held: bool) -> None:
    if is_held:
        held.add(ref)
