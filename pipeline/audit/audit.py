"""Audits stores: reads their records, checks them against a policy, and makes the report."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from heapq import merge
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.audit.cache import NO_CACHE, Cache
from pipeline.audit.checks.subject import Subject
from pipeline.audit.examine import StoredDatabase, Window, accepted, examine_copy, examine_database
from pipeline.audit.facts import DatabaseFacts
from pipeline.audit.policy import Policy
from pipeline.audit.read import read_store
from pipeline.audit.report import AuditFinding, AuditReport, ChainHead, DatabaseAudit, Severity, StoreAudit
from pipeline.catalog.keys import CLUSTER, BackupRef, begun_at, encode_name
from pipeline.counting import counted
from pipeline.errors import InvalidRequest
from pipeline.events import Notify
from storage_backends import StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust

_SEVERITIES = list(Severity)
_LOCKS = 1
"""The number of the newest backups of each database whose lock the store is asked for."""


@dataclass(frozen=True, slots=True)
class AuditRequest:
    """What to audit, and by which policy."""

    since: date
    """The first audited day, in UTC."""
    policy: Policy = field(default_factory=Policy)
    policy_name: str | None = None
    """The name of the policy's file; None if there is none."""
    trust: "Trust | None" = None
    """The trusted keys; None if there are none, so that the audit believes whatever is in the stores."""
    heads: Sequence[str] = ()
    """SHA-256 of statements that must be in a chain, in hexadecimal."""
    cluster: str | None = None
    """Audit only this cluster."""
    database: str | None = None
    """Audit only databases with this name."""

    @property
    def required(self) -> set[tuple[str, str]]:
        """The databases that must have backups."""
        return {
            (cluster, database)
            for cluster, database in self.policy.required
            if self.cluster in (None, cluster) and self.database in (None, database)
        }


def audit(
    request: AuditRequest, stores: Sequence[StorageBackend], notify: Notify, now: datetime, cache: Cache = NO_CACHE
) -> AuditReport:
    """Return the report about the stores. ``now`` is the time by this machine's clock.

    Data are neither read nor needed. Only the facts about one database are in memory, and those about the whole servers of its cluster.
    Raises InvalidRequest if the policy needs trusted keys and there are none, or StorageError.
    """
    if request.trust is None and any(
        one.signed for one in (request.policy.defaults, *request.policy.databases.values())
    ):
        raise InvalidRequest("The policy wants signed backups: give the public keys with --trusted-key.")
    return _Audit(request, [store.url for store in stores], now).of(
        read_store(
            store,
            request.trust,
            now,
            notify,
            cluster=request.cluster,
            database=request.database,
            locks=_LOCKS,
            cache=cache,
        )
        for store in stores
    )


class _Audit:
    """The audit while it runs."""

    def __init__(self, request: AuditRequest, urls: Sequence[str], now: datetime) -> None:
        self._request, self._policy = request, request.policy
        self._window = Window(request.since, now)
        self._stores = {url: _Totals() for url in urls}
        self._databases = list[DatabaseAudit]()
        self._missing_heads = dict.fromkeys(request.heads)

    def of(self, facts: Iterable[Iterator[DatabaseFacts]]) -> AuditReport:
        """Return the report. ``facts`` has what each store says, database by database."""
        in_order = merge(*facts, key=_place)  # a store lists the databases in this order
        for cluster, of_cluster in groupby(in_order, key=lambda one: one.cluster):
            self._examine_cluster(cluster, of_cluster)
        self._add_missing()
        return self._report()

    def _examine_cluster(self, cluster: str, facts: Iterable[DatabaseFacts]) -> None:
        """Examine the databases of a cluster, and its backups of the whole server last: they need the others' results."""
        whole = list[DatabaseFacts]()
        members = None if self._request.database else defaultdict[str, set[BackupRef]](set)
        for database, copies in groupby(facts, key=lambda one: one.database):
            if database == CLUSTER:
                whole = list(copies)
                continue
            for one in self._examine(cluster, database, copies, None):
                if members is not None:
                    members[one.store].update(one.good)
        if whole:
            self._examine(cluster, CLUSTER, whole, members)

    def _examine(
        self,
        cluster: str,
        database: str,
        facts: Iterable[DatabaseFacts],
        members: "defaultdict[str, set[BackupRef]] | None",
    ) -> Sequence[StoredDatabase]:
        expected = self._policy.expectations(cluster, database)
        copies, removed = list[StoredDatabase](), list[datetime]()
        for one in facts:
            good = None if members is None else members[one.store]
            copies.append(copy := examine_copy(one, expected, self._window, good))
            removed += [begun_at(node.backup_id) for node in one.removed]
            self._stores[one.store].add(copy, one.unlisted)
            for node in (*one.removed, *(backup.node for backup in one.backups if backup.node)):
                self._missing_heads.pop(node.sha256, None)
        self._databases.append(examine_database(cluster, database, copies, removed, self._policy, self._window))
        return copies

    def _add_missing(self) -> None:
        """Add the databases that the policy names and no store has."""
        there = {(one.cluster, one.database) for one in self._databases}
        for cluster, database in self._request.required - there:
            self._databases.append(examine_database(cluster, database, (), (), self._policy, self._window))

    def _report(self) -> AuditReport:
        databases = sorted(self._databases, key=lambda one: (one.cluster, one.database))
        of_all = [accepted(each, self._policy, self._window.now.date()) for each in self._general_findings()]
        findings = [*of_all, *(each for one in databases for each in one.findings)]
        trust = self._request.trust
        return AuditReport(
            made_at=self._window.now,
            since=self._window.since,
            until=self._window.now.date(),
            policy=self._request.policy_name,
            trusted_keys=[one.key.keyid for one in trust.keys] if trust else [],
            stores=[totals.audit(url) for url, totals in self._stores.items()],
            databases=databases,
            findings=sorted(findings, key=lambda one: _SEVERITIES.index(one.severity)),
            tool=f"pgstow {version('pgstow')}",
        )

    def _general_findings(self) -> Iterator[AuditFinding]:
        """Yield the findings that are about no database."""
        everywhere = Subject()
        for head in self._missing_heads:
            yield everywhere.finding("head-lost", f"No backup and no tombstone has the statement {head}.")
        for url, totals in self._stores.items():
            if not totals.backups:
                yield Subject(url).finding("no-backup", f"There is no backup in {url}.")
            for folder in sorted(totals.unlisted):
                words = f"The credentials can't list {folder} in {url}, so the audit can't tell what is there."
                yield Subject(url).finding("not-listed", words)
        if self._request.trust is None:
            words = "There is no trusted key, so the audit believes whatever is in the stores."
            yield everywhere.finding("no-trusted-keys", words)
        if unknown := [one for one in self._databases if one.rpo is None]:
            first = Subject(None, unknown[0].cluster, unknown[0].database).name
            which = f"{counted(len(unknown), 'database')}, such as {first}" if len(unknown) > 1 else first
            words = f"There is no rpo and no schedule for {which}, so no backup is overdue."
            yield everywhere.finding("no-rpo", words)


@dataclass(slots=True)
class _Totals:
    """What is found in one store so far."""

    backups: int = 0
    objects: int = 0
    stored_size: int = 0
    orphans: int = 0
    orphans_size: int = 0
    heads: list[ChainHead] = field(default_factory=list)
    unlisted: set[str] = field(default_factory=set)

    def add(self, copy: StoredDatabase, unlisted: Iterable[str]) -> None:
        self.backups += len(copy.backups)
        self.objects += copy.objects
        self.stored_size += copy.stored_size
        self.orphans += copy.orphans
        self.orphans_size += copy.orphans_size
        self.heads += copy.heads
        self.unlisted.update(unlisted)

    def audit(self, url: str) -> StoreAudit:
        return StoreAudit(
            url, self.backups, self.objects, self.stored_size, self.heads, self.orphans, self.orphans_size
        )


def _place(facts: DatabaseFacts) -> str:
    return f"{encode_name(facts.cluster)}/{encode_name(facts.database)}/"
