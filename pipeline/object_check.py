"""Whether a store has the objects that a manifest names, by the store's own account."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.concurrency import Workers
from pipeline.events import Notify, Progress
from pipeline.manifest import StoredObject
from pipeline.unreadable import ObjectUnreadable
from storage_backends import AccessDenied, ObjectInfo, ObjectNotFound, StorageBackend

_INTERVAL = 0.2  # seconds between reports of progress


@dataclass(slots=True)
class ObjectCheck:
    """What the store says of the objects."""

    objects: int = 0
    """Those that were looked at."""
    without_checksum: int = 0
    """Those for which the store reports no checksum, so that their presence and size is all that is known."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each object that isn't there, or isn't what the manifest says."""

    def take(self, outcome: str | bool | None) -> None:
        """Take one object's outcome: what is wrong with it, or else whether its checksum was compared; None if the store failed to say."""
        self.objects += outcome is not None
        if isinstance(outcome, str):
            self.problems.append(outcome)
        elif outcome is False:
            self.without_checksum += 1


def check_objects(
    store: StorageBackend, objects: Sequence[StoredObject], workers: Workers, threads: int, notify: Notify
) -> ObjectCheck:
    """Compare what the store says with the manifest, reading none of the bytes.

    Where the credentials may not ask for an object by itself (S3 and GCS let only those who may read it), by what a listing says: S3's has
    no checksums. Raises StorageError.
    """
    try:
        return _ask_each(store, objects, workers, threads, notify)
    except AccessDenied:
        return _look_up(store, objects)


def _ask_each(
    store: StorageBackend, objects: Sequence[StoredObject], workers: Workers, threads: int, notify: Notify
) -> ObjectCheck:
    check, asking = ObjectCheck(), workers.pool(threads, "head")
    for stored in objects:
        asking.submit(partial(_ask, store, stored), check.take)
    while asking.pending:
        workers.collect(timeout=_INTERVAL)
        notify(Progress(check.objects, len(objects), 0, ()))
    return check


def _ask(store: StorageBackend, stored: StoredObject) -> str | bool | None:
    try:
        outcome = _compare(store, stored, store.head(stored.key))
    except ObjectNotFound:
        outcome = _compare(store, stored, None)
    except ObjectUnreadable:
        return None
    if isinstance(outcome, str) and stored.version:
        outcome += (
            f" Version {stored.version} was stored: verify --level bytes tells whether that version is still there."
        )
    return outcome


def _look_up(store: StorageBackend, objects: Sequence[StoredObject]) -> ObjectCheck:
    check, folders = ObjectCheck(), {stored.key.rpartition("/")[0] for stored in objects}
    there = {info.key: info for folder in sorted(folders) for info in store.list(f"{folder}/")}
    for stored in objects:
        check.take(_compare(store, stored, there.get(stored.key), listed=True))
    return check


def _compare(
    store: StorageBackend, stored: StoredObject, info: ObjectInfo | None, *, listed: bool = False
) -> str | bool:
    """What is wrong with the object, or else whether its checksum was compared. A listing may leave out checksums and versions."""
    if info is None:
        return f"{stored.key} is missing from {store.url}."
    if info.size != stored.size:
        return f"{stored.key} has {info.size} bytes where the manifest says {stored.size}."
    for expected in (stored.checksum, f"sha256:{stored.sha256}"):
        if expected and info.checksum and expected.partition(":")[0] == info.checksum.partition(":")[0]:
            if expected != info.checksum:
                return (
                    f"{stored.key} is not what was stored: the store reports {info.checksum}, the manifest {expected}."
                )
            return True
    if listed or (info.version and info.version == stored.version):
        return False
    if stored.checksum:
        return (
            f"{stored.key} may have been overwritten: the store confirmed {stored.checksum} when it was stored, and reports "
            f"{info.checksum or 'no checksum'}."
        )
    if info.version and stored.version:
        return f"{stored.key} may have been overwritten: it is version {info.version}."
    return False
