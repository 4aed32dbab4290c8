"""Reads what a store's records say about its backups: the facts on which an audit is based."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline.audit.cache import NO_CACHE, Cache, Kept, stamp_of
from pipeline.audit.database import read_database
from pipeline.audit.facts import BackupFacts, DatabaseFacts
from pipeline.audit.listing import EVERYTHING, ListedDatabase, list_databases
from pipeline.audit.records import Records
from pipeline.catalog.reading import read_each
from pipeline.events import Notice, Notify
from storage_backends import AccessDenied, ObjectNotFound, StorageBackend
from storage_backends.holds import ObjectLock, lock_of, may_lock

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust


def read_store(
    store: StorageBackend,
    trust: "Trust | None",
    now: datetime,
    notify: Notify,
    *,
    cluster: str | None = None,
    database: str | None = None,
    folders: Sequence[str] = EVERYTHING,
    locks: int = 0,
    cache: Cache = NO_CACHE,
) -> Iterator[DatabaseFacts]:
    """Yield the facts about each database of the store, of a cluster, or with a name. The order is that of their keys.

    A database is there if the store has any object of it, such as a tombstone or an object that a failed backup left. Only the facts about one
    database are in memory.

    ``folders`` are the folders to list; that of the manifests must be among them. Facts from other folders are missing. Nothing under ``data/``
    and ``keys/`` is read. ``now`` is the time by this machine's clock. ``cache`` has what earlier calls read. It saves requests, and changes
    no fact.

    pgstow asks for the locks of the newest ``locks`` backups of each database. S3 tells the lock of a single object in each
    answer, and tells an auditor only those of manifests. pgstow locks all objects of a backup until the same time.

    This costs one LIST per thousand objects, and a GET for each document that isn't in the cache. A lock costs one to three requests. Raises
    StorageError.
    """
    unlisted = list[str]()
    lockable = locks > 0 and may_lock(store)
    denied = partial(_tell_denied, unlisted, notify)
    for listed in list_databases(store, folders, cluster, database, denied):
        known = cache.load(store.url, listed.place)
        records = Records(store, trust, known)
        facts = read_database(store, trust, now, notify, listed, records, tuple(unlisted))
        new = {key: kept for key, kept in records.kept.items() if known.get(key) != kept}
        cache.save(store.url, listed.place, new, _gone(listed, known) - records.kept.keys())
        if lockable:
            yield replace(facts, backups=_with_locks(store, facts.backups, locks))
        elif locks:  # a manifest may name a lock: that of the store from which the backup was copied
            yield replace(facts, backups=[replace(one, lock=ObjectLock()) for one in facts.backups])
        else:
            yield facts


def _with_locks(store: StorageBackend, backups: Sequence[BackupFacts], newest: int) -> Sequence[BackupFacts]:
    """Return the backups, the newest ones with the locks on their manifests."""
    asked = [one.ref.manifest_key for one in backups[-newest:]]
    found = dict(read_each(store, partial(_lock_of, store), asked, name="lock")) if asked else {}
    return [replace(one, lock=found.get(one.ref.manifest_key)) for one in backups]


def _lock_of(store: StorageBackend, key: str) -> ObjectLock | None:
    with suppress(ObjectNotFound):  # the backup was removed meanwhile
        return lock_of(store, key)
    return None


def _gone(listed: ListedDatabase, known: Mapping[str, Kept]) -> set[str]:
    """Return the keys of known documents that the store doesn't list any more, or lists differently."""
    infos = {info.key: info for infos in listed.objects.values() for info in infos if info.key in known}
    return {
        key
        for key, kept in known.items()
        if key.startswith(tuple(listed.objects)) and (key not in infos or stamp_of(infos[key]) != kept.stamp)
    }


def _tell_denied(unlisted: list[str], notify: Notify, folder: str, error: AccessDenied) -> None:
    unlisted.append(folder)
    notify(Notice(f"The credentials can't list {folder}, so pgstow can't tell what is there. {error}"))
