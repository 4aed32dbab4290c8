"""A night's run: backs up each database to its destinations, verifies the new backups there, and removes backups that retention drops.

Before a backup, the user's command may refuse it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from datetime import UTC, datetime

from pipeline.archive.destinations import Committed
from pipeline.catalog.attestation import Level
from pipeline.catalog.find import BackupSelector, find_stored
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import ManifestSummary
from pipeline.counting import counted
from pipeline.errors import BackupDamaged, BackupNotFound, ManifestInvalid
from pipeline.events import Notice, Notify
from pipeline.nightly.history import newest_before
from pipeline.nightly.jobs import Job
from pipeline.nightly.outcome import JobResult
from pipeline.nightly.settings import DestinationSettings
from pipeline.prune.facts import Known
from pipeline.prune.policy import Policy
from pipeline.prune.prune import Pruned, PruneRequest, prune
from pipeline.verify.backup import verify
from pipeline.verify.cluster import verify_cluster
from pipeline.verify.request import VerifyRequest
from storage_backends import StorageBackend, StorageError, open_backend


def run(
    jobs: Sequence[Job], notify_of: Callable[[str], Notify], tell: Callable[[str], object] = lambda _: None
) -> Iterator[JobResult]:
    """Do the jobs one after another. Yield a result for each database at each destination.

    Every failure becomes a result, and the other jobs and destinations continue. ``notify_of`` takes a database's name in pgstow.toml, and
    returns a callable for the events of its job. ``tell`` gets a sentence about each request to a store that is retried.
    """
    with ExitStack() as stack:
        stores, unopened = _open(
            {name: settings for job in jobs for name, settings in job.destinations.items()}, stack, tell
        )
        known = {name: Known() for name in stores}
        for job in jobs:
            yield from _run(job, stores, unopened, known, notify_of(job.name))


def _open(
    destinations: Mapping[str, DestinationSettings], stack: ExitStack, tell: Callable[[str], object]
) -> tuple[dict[str, StorageBackend], dict[str, Exception]]:
    """Return the opened stores by the destinations' names, and the errors of the destinations that can't be opened."""
    stores, unopened = dict[str, StorageBackend](), dict[str, Exception]()
    for name, settings in destinations.items():
        try:
            store = open_backend(
                settings.url, give_up_after=settings.give_up_after, rate=settings.limit_rate, tell=tell
            )
        except Exception as exc:
            unopened[name] = exc
        else:
            stores[name] = stack.enter_context(closing(store))
    return stores, unopened


def _run(
    job: Job,
    stores: Mapping[str, StorageBackend],
    unopened: Mapping[str, Exception],
    known: Mapping[str, Known],
    notify: Notify,
) -> Iterator[JobResult]:
    there = {name: stores[name] for name in job.destinations if name in stores}
    made = _back_up(job, there, notify) | {name: unopened[name] for name in job.destinations if name in unopened}
    for name in job.destinations:
        outcome = made[name]
        if isinstance(outcome, Committed):
            result = _look_after(job, name, outcome, stores[name], known[name], notify)
        else:
            result = JobResult(job.name, name, datetime.now(UTC), error=outcome)
        yield result if result.error is None or name not in stores else _with_history(result, job, stores[name])


def _with_history(failure: JobResult, job: Job, store: StorageBackend) -> JobResult:
    """Return the failure with the time of the newest backup that an earlier run made. Ask only stores that didn't fail, to save time."""
    if isinstance(failure.error, StorageError):
        return failure
    try:
        return replace(failure, newest_before=newest_before(job, store, failure.manifest))
    except StorageError:  # the credentials may be able only to create objects, not to list them
        return failure


def _back_up(job: Job, stores: Mapping[str, StorageBackend], notify: Notify) -> dict[str, Committed | Exception]:
    """Return the backup in each store, or the error, by the destination's name."""
    if not stores:
        return {}
    try:
        job.agree()
        return dict(zip(stores, job.back_up(list(stores.values()), notify), strict=True))
    except Exception as exc:
        return dict.fromkeys(stores, exc)


def _look_after(job: Job, name: str, made: Committed, store: StorageBackend, known: Known, notify: Notify) -> JobResult:
    """If the job says so, verify the new backup. Then, if the job has a retention, remove the backups that it drops. Return the result.

    If the verification fails, no backup is removed.

    ``known`` has what earlier jobs read from the store for retention. Jobs of the same cluster need the same cluster manifests.
    """
    verified, removed = None, None
    error: Exception | None = None
    try:
        if job.verify is not None:
            verified = _verify(job, job.verify, made, store, notify)
        if job.retention is not None:
            pruned = _apply_retention(job, job.retention, made.manifest, store, known, notify)
            removed = len(pruned.backups)
            error = _doubtful(pruned, store)
    except Exception as exc:
        error = exc
    return JobResult(job.name, name, datetime.now(UTC), made.manifest, verified, removed, error)


def _verify(job: Job, level: Level, copy: Committed, store: StorageBackend, notify: Notify) -> Level:
    """Verify the backup, or each member of a cluster's backup. Return the level that was verified.

    Raises BackupDamaged if something is damaged or was overwritten, StorageError if an object can't be read, or another PipelineError.
    """
    stored, made = None, copy.manifest
    with suppress(BackupNotFound, ManifestInvalid):
        stored = find_stored(store, BackupSelector(made.backup_id, made.cluster, made.database))
    if stored is None or stored.sha256 != copy.sha256:
        key = BackupRef(made.cluster, made.database, made.backup_id).manifest_key
        raise BackupDamaged(f"{key} in {store.url} is not the manifest that was put there.")
    request = VerifyRequest(
        level=level,
        limits=job.request.limits,
        programs=job.request.programs,
        proof=job.proof,
        attest=True,  # so that list and retention know the result later
        signer=job.signer,
    )
    found = (verify_cluster if made.members else verify)(stored, request, store, notify)
    if found.problems:
        more = f" ({counted(len(found.problems), 'problem')})" if len(found.problems) > 1 else ""
        raise BackupDamaged(f"The backup {made.backup_id} of {made.database} is not good{more}: {found.problems[0]}")
    if found.replaced:
        raise BackupDamaged(f"The backup {made.backup_id} of {made.database} was overwritten: {found.replaced[0]}")
    if found.unreadable:
        number = len(found.unreadable)
        words = f"{number} of its objects could not be read" if number > 1 else "an object could not be read"
        raise StorageError(
            f"The backup {made.backup_id} of {made.database} is not proven: {words}. {found.unreadable[0]}"
        )
    return found.level


def _apply_retention(
    job: Job, policy: Policy, made: ManifestSummary, store: StorageBackend, known: Known, notify: Notify
) -> Pruned:
    """Remove the job's backups that the policy drops. This includes backups that a failed run left without a cluster manifest."""
    request = PruneRequest(
        policy,
        made.cluster,
        None if made.members else made.database,
        job=job.name,
        signatures=job.signatures,
        signer=job.signer,
    )
    pruned = prune(request, None, store, notify, datetime.now(UTC), known)
    if pruned.spared:
        names = ", ".join(ref.backup_id for ref in pruned.spared[:5])
        notify(Notice(f"{counted(len(pruned.spared), 'locked backup')} had to stay in {store.url}: {names}."))
    return pruned


def _doubtful(pruned: Pruned, store: StorageBackend) -> BackupDamaged | None:
    if not pruned.doubtful:
        return None
    names = ", ".join(ref.manifest_key for ref in pruned.doubtful[:5])
    number = counted(len(pruned.doubtful), "manifest")
    return BackupDamaged(
        f"{number} in {store.url} can't be read or believed: {names}. pgstow list gives the reasons. pgstow keeps all objects that "
        "the backups may need."
    )
