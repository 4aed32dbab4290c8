"""Backs up a whole server: its globals, and every database."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeAlias

from pipeline.archive.destinations import BackupResults, Committed, Destination, Destinations, committed
from pipeline.backup.in_progress import BackupInProgress, ManifestDraft
from pipeline.backup.retry import back_up_with_retries, with_retries
from pipeline.backup.source import describe_source, find_dumper
from pipeline.catalog.keys import CLUSTER, GLOBALS
from pipeline.catalog.manifest import Member, Totals
from pipeline.catalog.origin import DumpOptions
from pipeline.cluster.globals import back_up_globals
from pipeline.cluster.request import ClusterRequest, GlobalsRequest
from pipeline.cluster.script import back_up_cluster_script
from pipeline.concurrency import Workers
from pipeline.counting import counted
from pipeline.errors import (
    BackupBroken,
    BackupIncomplete,
    InvalidRequest,
    PipelineError,
)
from pipeline.events import CombinedProgress, Notice, Notify
from pipeline.postgres.maintenance import any_database
from pipeline.postgres.patterns import compile_name_pattern
from pipeline.postgres.server import Server
from pipeline.trust.seal import Epoch
from storage_backends import StorageBackend, StorageError

_EXPECTED = (PipelineError, OSError)
_BackUp: TypeAlias = Callable[..., BackupResults]
"""A function that backs up into the stores in its argument ``stores``."""


def back_up_cluster(request: ClusterRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    """Back up the globals and each database into all stores, and commit a cluster manifest. Return each store's result.

    Each database's backup is committed by itself. The cluster manifest is put last, and names all backups. If a backup fails, pgstow still
    makes the others, but writes no cluster manifest. pgstow sends no later database to a store that failed. In the plain format, pg_dumpall
    dumps the whole cluster as a single script instead.

    Raises BackupIncomplete if a backup failed (BackupBroken if a bug was the cause), and InvalidRequest if no database is left. Also raises
    another PipelineError, or StorageError if all stores fail.
    """
    if request.each.format == "plain":
        return with_retries(partial(_back_up_script, request, stores, notify), notify, retries=request.retries)
    each = replace(request.each, source=any_database(request.each.source))
    with Server(each.source) as server:
        program = find_dumper("pg_dumpall", server, each)
        backup = BackupInProgress.begin(each, server, CLUSTER, stores, notify)
        source = describe_source(server, program, None)
        databases = _chosen(server.databases(), request.exclude)
    request = replace(request, each=replace(each, cluster=backup.ref.cluster))
    done, failures = list[_Done](), dict[str, Exception]()
    for name, outcome in _back_up_each(request, databases, backup.destinations, notify):
        if isinstance(outcome, _Done):
            done.append(outcome)
        else:
            failures[name] = outcome
            subject = f"The database {name} is" if name != GLOBALS else "Roles and tablespaces are"
            notify(Notice(f"{subject} not backed up. {_told(outcome)}"))
    if failures:
        raise _incomplete(failures, databases)
    backup.ended("members")
    options = DumpOptions(
        format=each.format,
        jobs=each.limits.jobs if each.format == "directory" else 1,
        only=each.selection.only,
        role_passwords=next(one.role_passwords for one in done if one.role_passwords is not None),
        options=list(map(str, each.selection.options)),
        exclude_databases=list(request.exclude),
    )
    snapshot_at = min(one.snapshot_at for one in done)
    results = backup.commit(
        ManifestDraft("cluster", snapshot_at, source, options, totals=_sum([one.totals for one in done]))
    )
    epochs = [epoch for one in done for epoch in one.epochs]
    return [replace(result, epochs=epochs) if isinstance(result, Committed) else result for result in results]


def _back_up_script(request: ClusterRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    each = replace(request.each, source=any_database(request.each.source))
    with Server(each.source) as server:
        databases = _chosen(server.databases(), request.exclude)
    return back_up_cluster_script(
        each, databases, request.exclude, stores, notify, role_passwords=request.role_passwords
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """The facts of a member's manifests that the cluster manifest needs."""

    totals: Totals
    snapshot_at: datetime
    role_passwords: bool | None
    """True if a backup of globals has the hashes of passwords; None for a database."""
    copies: dict[Destination, Member | StorageError]
    epochs: Sequence[Epoch]
    """The keys of the backup, if it is sealed."""

    @classmethod
    def of(cls, places: Sequence[Destination], copies: BackupResults) -> "_Done":
        first = committed(copies)[0]
        manifest = first.manifest
        members = (_member(copy) if isinstance(copy, Committed) else copy for copy in copies)
        copies_of = dict(zip(places, members, strict=True))
        return cls(manifest.totals, manifest.snapshot_at, manifest.dump.role_passwords, copies_of, first.epochs)

    def enter(self, destinations: Destinations) -> None:
        for place, copy in self.copies.items():
            if isinstance(copy, Member):
                place.members.append(copy)
            elif place.outcome is None:
                destinations.drop(place, copy)


def _incomplete(failures: Mapping[str, Exception], databases: Sequence[str]) -> BackupIncomplete:
    lacking = (
        [f"{number} of {counted(len(databases), 'database')}"] if (number := len(failures.keys() - {GLOBALS})) else []
    )
    lacking += ["roles and tablespaces"] if GLOBALS in failures else []
    name, first = next(iter(failures.items()))
    words = (
        f"{' and '.join(lacking)} could not be backed up, so there is no cluster manifest. All other parts have backups. "
        f"{name}: {_told(first)}"
    )
    bug = next((error for error in failures.values() if not isinstance(error, _EXPECTED)), None)
    incomplete = BackupIncomplete(words) if bug is None else BackupBroken(words)
    incomplete.__cause__ = bug or first
    return incomplete


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, _EXPECTED) else f"Unexpected {type(error).__name__}: {error}"


def _member(copy: Committed) -> Member:
    return Member(database=copy.manifest.database, backup_id=copy.manifest.backup_id, sha256=copy.sha256)


def _chosen(databases: Sequence[str], exclude: Sequence[str]) -> list[str]:
    patterns = [compile_name_pattern(pattern) for pattern in exclude]
    chosen = [name for name in databases if not any(pattern.fullmatch(name) for pattern in patterns)]
    if not chosen:
        raise InvalidRequest("No database is left to back up: all databases are excluded.")
    return chosen


def _back_up_each(
    request: ClusterRequest, databases: Sequence[str], destinations: Destinations, notify: Notify
) -> Iterator[tuple[str, _Done | Exception]]:
    """Back up the globals and each database. Yield the name of each, and the facts of its manifests, or its error.

    If all stores have failed, wait for the running backups, begin no other backup, and raise StorageError.
    """
    of_globals = GlobalsRequest(request.each, role_passwords=request.role_passwords, retries=request.retries)
    yield GLOBALS, _enter(_try(partial(back_up_globals, of_globals, notify=notify), destinations), destinations)
    limits = request.each.limits.shared_by(min(request.at_once, len(databases)), request.each.copies)
    requests = {
        name: replace(request.each, source=request.each.source.with_database(name), limits=limits) for name in databases
    }
    if request.at_once == 1:
        for name, one in requests.items():
            back_up_it = partial(back_up_with_retries, one, notify=notify, retries=request.retries)
            yield name, _enter(_try(back_up_it, destinations), destinations)
        return
    failures: list[StorageError] = []
    together = CombinedProgress(notify)

    def attempt(name: str) -> _Done | Exception:
        if failures:
            return failures[0]
        back_up_it = partial(
            back_up_with_retries, requests[name], notify=together.notify_of(name), retries=request.retries
        )
        try:
            return _try(back_up_it, destinations)
        except StorageError as exc:
            return exc  # the running backups continue to their end

    with Workers() as workers:
        for name, outcome in workers.map(attempt, requests, threads=request.at_once, name="database"):
            try:
                entered = _enter(outcome, destinations)
            except StorageError as exc:
                failures.append(exc)
            else:
                yield name, entered
    if failures:
        raise failures[0]


def _try(back_up_it: _BackUp, destinations: Destinations) -> _Done | Exception:
    """Return the facts of the backup's manifests, or the error that ended the backup. Raises StorageError."""
    try:
        places = destinations.open
        return _Done.of(places, back_up_it(stores=[place.store for place in places]))
    except StorageError:
        raise
    except Exception as exc:  # a bug in the backup of one database must not stop the backup of the others
        return exc


def _enter(outcome: _Done | Exception, destinations: Destinations) -> _Done | Exception:
    """Add the members to the destinations, and return the outcome. Raises StorageError if all stores have failed."""
    if isinstance(outcome, StorageError):
        raise outcome
    if isinstance(outcome, _Done):
        outcome.enter(destinations)
    return outcome


def _sum(totals: Sequence[Totals]) -> Totals:
    return Totals(**{name: sum(getattr(one, name) for one in totals) for name in Totals.model_fields})
