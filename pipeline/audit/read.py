"""Reads what a store's records say about its backups: the facts on which an audit is based."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from pipeline.audit.cache import NO_CACHE, Cache
from pipeline.audit.database import read_database
from pipeline.audit.facts import DatabaseFacts
from pipeline.audit.listing import CONTENT, RECORDS, list_databases
from pipeline.audit.records import Records
from pipeline.events import Notice, Notify
from storage_backends import AccessDenied, StorageBackend

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
    content: bool = True,
    cache: Cache = NO_CACHE,
) -> Iterator[DatabaseFacts]:
    """Yield the facts about each database of the store, of a cluster, or with a name. The order is that of their keys.

    A database is there if the store has any object of it, such as a tombstone or an object that a failed backup left. Only the facts about one
    database are in memory.

    With ``content``, the objects under ``data/`` and ``keys/`` are listed, too. Nothing in them is read. ``now`` is the time by this machine's
    clock. ``cache`` has what earlier calls read. It saves requests, and changes no fact.

    This costs one LIST per thousand objects, and a GET for each document that isn't in the cache. Raises StorageError.
    """
    folders = (*RECORDS, *(CONTENT if content else ()))
    unlisted = list[str]()
    denied = partial(_tell_denied, unlisted, notify)
    for listed in list_databases(store, folders, cluster, database, denied):
        known = cache.load(store.url, listed.place)
        records = Records(store, trust, known)
        facts = read_database(store, trust, now, notify, listed, records, content=content, unlisted=tuple(unlisted))
        cache.save(store.url, listed.place, known, records.kept)
        yield facts


def _tell_denied(unlisted: list[str], notify: Notify, folder: str, error: AccessDenied) -> None:
    unlisted.append(folder)
    notify(Notice(f"The credentials can't list {folder}, so pgstow can't tell what is there. {error}"))
