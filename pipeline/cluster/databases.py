"""Back up and restore a whole cluster: its globals, and every database of it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeAlias

from pipeline.archive.destinations import BackupResults, Destination, Destinations, committed
from pipeline.backup.commit import BackupInProgress, commit, default_cluster, describe_source
from pipeline.backup.database import BackupRequest
from pipeline.backup.retry import back_up_with_retries, with_retries
from pipeline.catalog.find import BackupSelector, StoredManifest, find_backup, read_manifest_bytes
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef
from pipeline.catalog.manifest import DumpOptions, Manifest, Member, Totals, dump_manifest, load_manifest
from pipeline.cluster.globals import GlobalsRequest, ServerTarget, back_up_globals, restore_globals
from pipeline.cluster.script import ON_EVERY_SERVER, back_up_cluster_script, restore_cluster_script
from pipeline.concurrency import Workers
from pipeline.errors import (
    BackupBroken,
    BackupDamaged,
    BackupIncomplete,
    BackupNotFound,
    InvalidRequest,
    ManifestInvalid,
    PipelineError,
    TargetNotEmpty,
)
from pipeline.events import Notice, Notify, Started
from pipeline.postgres.maintenance import any_database, maintenance_database
from pipeline.postgres.patterns import compile_name_pattern
from pipeline.postgres.programs import find_program
from pipeline.postgres.server import Server
from pipeline.restore.database import RestoreRequest, restore_manifest
from pipeline.restore.target import refuse_older
from storage_backends import StorageBackend, StorageError

_EXPECTED = (PipelineError, OSError)
_BackUp: TypeAlias = Callable[..., BackupResults]
"""Backs up into the stores that it is given."""


@dataclass(frozen=True, slots=True)
class ClusterRequest:
    """A cluster to back up."""

    each: BackupRequest
    """How to back up each database; its source may be any of them."""
    exclude: tuple[str, ...] = ()
    """Patterns of databases to leave out."""
    role_passwords: bool = True
    at_once: int = 1
    """Databases to dump at once; jobs, memory, disk and transfers are shared out among them."""
    retries: int = 0
    """How often a database's backup is begun again after what may pass."""

    def __post_init__(self) -> None:
        if not self.each.selection.is_all_tables:
            raise InvalidRequest(
                "A backup of all databases takes no part of one: leave out tables, schemas and what excludes them."
            )
        if self.each.format == "plain" and self.each.selection.only == "data":
            raise InvalidRequest(
                "pg_dumpall's script of rows alone can't be restored onto a new server: take all of it."
            )
        if self.each.format == "plain" and self.at_once > 1:
            raise InvalidRequest("pg_dumpall dumps one database after another: take another format, or one at once.")


def back_up_cluster(request: ClusterRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    """Back up the globals and each database into the stores, and commit a record of them all; in the plain format, one script of pg_dumpall's.

    Each database becomes a backup of its own as soon as it is committed. The record is put once all are. If one backup can't be made, for
    whatever reason, the others still are. pgstow sends no later database to a store that failed. Raises BackupIncomplete if a backup failed
    (BackupBroken if a bug was the cause), or else PipelineError or StorageError.
    """
    if request.each.format == "plain":
        return with_retries(partial(_back_up_script, request, stores, notify), notify, retries=request.retries)
    each = replace(request.each, source=any_database(request.each.source))
    request = replace(request, each=each)
    with Server(each.source) as server:
        program = find_program("pg_dumpall", at_least_major=server.major, search=each.programs)
        cluster = each.cluster or default_cluster(server)
        run, source = BackupInProgress.begin(cluster, CLUSTER, each.labels), describe_source(server, program, None)
        databases = _chosen(server.databases(), request.exclude)
    destinations = Destinations(stores, CLUSTER, notify)
    done, failures = list[_Done](), dict[str, Exception]()
    for name, outcome in _back_up_each(request, cluster, databases, destinations, notify):
        if isinstance(outcome, _Done):
            done.append(outcome)
        else:
            failures[name] = outcome
            what = f"The database {name} is" if name != GLOBALS else "Roles and tablespaces are"
            notify(Notice(f"{what} not backed up. {_told(outcome)}"))
    if failures:
        raise _incomplete(failures, databases)
    run.ended("members")
    return commit(
        run,
        destinations,
        notify,
        kind="cluster",
        snapshot_at=min(one.snapshot_at for one in done),
        source=source,
        dump=DumpOptions(
            format=each.format,
            jobs=each.limits.jobs if each.format == "directory" else 1,
            only=each.selection.only,
            role_passwords=next(one.role_passwords for one in done if one.role_passwords is not None),
            exclude_databases=list(request.exclude),
        ),
        level=each.level,
        totals=_sum([one.totals for one in done]),
    )


def _back_up_script(request: ClusterRequest, stores: Sequence[StorageBackend], notify: Notify) -> BackupResults:
    each = replace(request.each, source=any_database(request.each.source))
    with Server(each.source) as server:
        databases = _chosen(server.databases(), request.exclude)
    return back_up_cluster_script(
        each, databases, request.exclude, stores, notify, role_passwords=request.role_passwords
    )


@dataclass(frozen=True, slots=True)
class _Done:
    """What the record needs of a member's manifests, whose lists of files may be long."""

    totals: Totals
    snapshot_at: datetime
    role_passwords: bool | None
    """Whether the backup of globals has the hashes of passwords; None for a database."""
    copies: dict[Destination, Member | StorageError]

    @classmethod
    def of(cls, places: Sequence[Destination], copies: BackupResults) -> "_Done":
        manifest = committed(copies)[0]
        members = (_member(copy) if isinstance(copy, Manifest) else copy for copy in copies)
        copies_of = dict(zip(places, members, strict=True))
        return cls(manifest.totals, manifest.snapshot_at, manifest.dump.role_passwords, copies_of)

    def enter(self, destinations: Destinations) -> None:
        for place, copy in self.copies.items():
            if isinstance(copy, Member):
                place.members.append(copy)
            elif place.outcome is None:
                destinations.drop(place, copy)


def _incomplete(failures: Mapping[str, Exception], databases: Sequence[str]) -> BackupIncomplete:
    lacking = [f"{number} of {len(databases)} databases"] if (number := len(failures.keys() - {GLOBALS})) else []
    lacking += ["roles and tablespaces"] if GLOBALS in failures else []
    name, first = next(iter(failures.items()))
    words = (
        f"{' and '.join(lacking)} could not be backed up, so there is no record of the whole cluster; the others are backed up one by one. "
        f"{name}: {_told(first)}"
    )
    bug = next((error for error in failures.values() if not isinstance(error, _EXPECTED)), None)
    incomplete = BackupIncomplete(words) if bug is None else BackupBroken(words)
    incomplete.__cause__ = bug or first
    return incomplete


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, _EXPECTED) else f"Unexpected {type(error).__name__}: {error}"


def _member(manifest: Manifest) -> Member:
    digest = hashlib.sha256(dump_manifest(manifest)).hexdigest()
    return Member(database=manifest.database, backup_id=manifest.backup_id, sha256=digest)


def _chosen(databases: Sequence[str], exclude: Sequence[str]) -> list[str]:
    patterns = [compile_name_pattern(pattern) for pattern in exclude]
    chosen = [name for name in databases if not any(pattern.fullmatch(name) for pattern in patterns)]
    if not chosen:
        raise InvalidRequest("No database is left to back up: every one is excluded.")
    return chosen


def _of_globals(request: ClusterRequest, cluster: str) -> GlobalsRequest:
    each = request.each
    return GlobalsRequest(
        source=each.source,
        cluster=cluster,
        role_passwords=request.role_passwords,
        level=each.level,
        limits=each.limits,
        programs=each.programs,
        labels=each.labels,
    )


def _back_up_each(
    request: ClusterRequest, cluster: str, databases: Sequence[str], destinations: Destinations, notify: Notify
) -> Iterator[tuple[str, _Done | Exception]]:
    """Yield the globals and each database with what its manifests say, once the destinations have them, or with the error instead.

    Raises StorageError, which would befall the others too, once what has begun is at its end.
    """
    back_up_it = partial(back_up_globals, _of_globals(request, cluster), notify=notify)
    outcome = _try(back_up_it, destinations)
    if isinstance(outcome, _Done):
        outcome.enter(destinations)
    yield GLOBALS, outcome
    limits = request.each.limits.shared_by(min(request.at_once, len(databases)))
    requests = {
        name: replace(request.each, source=request.each.source.with_database(name), cluster=cluster, limits=limits)
        for name in databases
    }
    if request.at_once == 1:
        for name, one in requests.items():
            outcome = _try(_patiently(one, request, notify), destinations)
            if isinstance(outcome, _Done):
                outcome.enter(destinations)
            yield name, outcome
        return
    done, failures = list[tuple[str, _Done | Exception]](), list[StorageError]()

    def attempt(one: BackupRequest) -> _Done | Exception:
        if failures:
            return failures[0]
        try:
            return _try(_patiently(one, request, _without_progress(notify)), destinations)
        except StorageError as exc:
            return exc

    def take(name: str, outcome: _Done | Exception) -> None:
        if isinstance(outcome, StorageError):
            failures.append(outcome)
            return
        try:
            if isinstance(outcome, _Done):
                outcome.enter(destinations)
        except StorageError as exc:
            failures.append(exc)
        else:
            done.append((name, outcome))

    with Workers() as workers:
        pool = workers.pool(request.at_once, "database")
        for name, one in requests.items():
            pool.submit(partial(attempt, one), partial(take, name))
        while pool.pending or done:  # what has begun is seen to its end: nothing may go on unseen after this
            yield from done
            done.clear()
            workers.collect(timeout=1.0)
    if failures:
        raise failures[0]


def _patiently(one: BackupRequest, request: ClusterRequest, notify: Notify) -> _BackUp:
    return partial(back_up_with_retries, one, notify=notify, retries=request.retries)


def _try(back_up_it: _BackUp, destinations: Destinations) -> _Done | Exception:
    """Return what was backed up, or the error if it is none of a store's. Raises StorageError."""
    try:
        places = destinations.open
        return _Done.of(places, back_up_it(stores=[place.store for place in places]))
    except StorageError:
        raise
    except Exception as exc:  # a bug in the backup of one database must not stop the backup of the others
        return exc


def _without_progress(notify: Notify) -> Notify:
    """Several bars would overwrite each other."""

    def notify_of_steps(event: object) -> None:
        if isinstance(event, (Started, Notice)):
            notify(event)

    return notify_of_steps


def _sum(totals: Sequence[Totals]) -> Totals:
    return Totals(**{name: sum(getattr(one, name) for one in totals) for name in Totals.model_fields})


def restore_cluster(wanted: BackupSelector, target: ServerTarget, store: StorageBackend, notify: Notify) -> Manifest:
    """Make roles and tablespaces, then every database with what belongs to it as a whole, then its contents. Returns the cluster's record.

    Raises TargetNotEmpty before anything is changed, where the server has one of the databases already (``postgres`` and ``template1``
    are on every server, and have to be empty); and PipelineError or StorageError. What was restored until then stays.
    """
    record = find_backup(store, replace(wanted, database=CLUSTER), notify)
    maintenance = maintenance_database(target.server)
    target = replace(target, server=maintenance.maintained_in(maintenance.database))
    if record.files:
        _check_new_server(record, record.dump.databases, target)
        restore_cluster_script(record, target, store, notify)
        return record
    globals_, databases = _read_members(store, record)
    there = _check_new_server(record, [manifest.database for manifest in databases], target)
    _restore_globals(globals_, target, store, notify)
    for manifest in databases:
        restore_manifest(
            manifest,
            RestoreRequest(
                wanted=BackupSelector(manifest.backup_id, manifest.cluster, manifest.database),
                target=target.server.with_database(manifest.database),
                create=manifest.database not in there,
                properties=True,
                allow_older=target.allow_older,
                limits=target.limits,
                programs=target.programs,
            ),
            store,
            notify,
        )
    return record


def _check_new_server(record: Manifest, databases: Sequence[str], target: ServerTarget) -> set[str]:
    """The databases that the server has. Raises TargetNotEmpty where one to restore is among them."""
    with Server(target.server) as server:
        if not target.allow_older:
            refuse_older(server, record.source)
        there = set(server.databases())
    if taken := [name for name in databases if name in there - ON_EVERY_SERVER]:
        raise TargetNotEmpty(f"The server has a database {taken[0]} already: a cluster is restored onto a new server.")
    return there


def restore_latest_globals(
    wanted: BackupSelector, target: ServerTarget, store: StorageBackend, notify: Notify
) -> Manifest:
    """Make roles and tablespaces alone. Raises PipelineError or StorageError."""
    manifest = find_backup(store, replace(wanted, database=GLOBALS), notify)
    _restore_globals(manifest, target, store, notify)
    return manifest


def _restore_globals(manifest: Manifest, target: ServerTarget, store: StorageBackend, notify: Notify) -> None:
    restore_globals(manifest, replace(target, server=maintenance_database(target.server)), store, notify)


def _read_members(store: StorageBackend, record: Manifest) -> tuple[Manifest, list[Manifest]]:
    """The manifests of a cluster's globals and of its databases. Raises BackupDamaged where one isn't the one that was recorded."""
    manifests = {member.database: read_member(store, record, member).manifest for member in record.members}
    if GLOBALS not in manifests:
        raise BackupDamaged(f"The record of the cluster's backup {record.backup_id} names no globals.")
    return manifests.pop(GLOBALS), list(manifests.values())


def read_member(store: StorageBackend, record: Manifest, member: Member) -> StoredManifest:
    """Return the manifest of a member of a cluster's backup. Raises BackupDamaged if it is missing, or isn't the one that the record names.

    The manifest is read once, so the returned manifest is the one whose hash was compared with the record's.
    """
    ref = BackupRef(record.cluster, member.database, member.backup_id)
    try:
        data = read_manifest_bytes(store, ref)
    except BackupNotFound as exc:
        raise BackupDamaged(f"{ref.manifest_key} is missing, of which {record.backup_id} is made.") from exc
    except ManifestInvalid as exc:
        raise BackupDamaged(str(exc)) from exc
    if hashlib.sha256(data).hexdigest() != member.sha256:
        raise BackupDamaged(f"{ref.manifest_key} is not the manifest that {record.backup_id} is made of.")
    return StoredManifest(load_manifest(data, ref.manifest_key), member.sha256)
