"""Checks that a store reports the objects in a manifest, without reading them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial

from pipeline.catalog.manifest import StoredObject
from pipeline.concurrency import Workers
from pipeline.events import Notify, Progress
from pipeline.verify.unreadable import ObjectUnreadable
from storage_backends import AccessDenied, ObjectInfo, ObjectNotFound, ObjectTooLarge, StorageBackend
from storage_backends.versions import get_version

_INTERVAL = 0.2  # seconds between reports of progress


@dataclass(slots=True)
class ObjectCheck:
    """The result of the requests to the store."""

    objects: int = 0
    """The number of objects about which the store answered."""
    without_checksum: int = 0
    """The number of objects for which the store reports no checksum. Only their existence and size were checked."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each object that is missing or doesn't match the manifest."""


class _Evidence(Enum):
    """How far the store's report shows that an object of the right size is unchanged."""

    SAME = auto()
    """The object has the version or the checksum in the manifest."""
    NONE = auto()
    """Neither version nor checksum can be compared: the manifest has none, or the report comes from a listing."""
    LOST = auto()
    """Neither version nor checksum can be compared, though the store reported one when the backup was made."""


_Outcome = _Evidence | str | None
"""The evidence in the store's report, or a sentence on what is wrong; None if the store failed to answer."""


def check_objects(
    store: StorageBackend, objects: Sequence[StoredObject], workers: Workers, threads: int, notify: Notify
) -> ObjectCheck:
    """Compare the store's reports on the objects with the manifest. Return the result.

    If the credentials may not ask for single objects, as on S3 and GCS without the right to read objects, use a listing instead. S3's
    listings have no checksums.

    If the store reports no checksum for an object, the object may have been overwritten. But the backup may also be a copy in another
    store, which reports no checksums. So this is a problem only in the store for which the manifest was written. To recognize this store,
    pgstow may read a single object, the smallest.

    ``threads`` is the number of concurrent requests. Raises StorageError.
    """
    try:
        outcomes = _ask_each(store, objects, workers, threads, notify)
    except AccessDenied:
        outcomes = _look_up(store, objects)
    check = ObjectCheck(sum(outcome is not None for _, outcome in outcomes))
    lost = [stored for stored, outcome in outcomes if outcome is _Evidence.LOST]
    overwritten = lost and (
        any(outcome is _Evidence.SAME for _, outcome in outcomes) or _has_version_of_any(store, lost)
    )
    for stored, outcome in outcomes:
        if outcome is _Evidence.LOST and overwritten:
            outcome = (
                f"{stored.key} may have been overwritten: the store no longer reports the checksum that it confirmed."
            )
        if isinstance(outcome, str):
            tells = (
                f" The backup needs the object's version {stored.version}: "
                "pgstow verify --level bytes tells whether this version still exists."
            )
            check.problems.append(outcome + (tells if stored.version else ""))
        check.without_checksum += outcome in (_Evidence.NONE, _Evidence.LOST)
    return check


def _ask_each(
    store: StorageBackend, objects: Sequence[StoredObject], workers: Workers, threads: int, notify: Notify
) -> list[tuple[StoredObject, _Outcome]]:
    outcomes: list[tuple[StoredObject, _Outcome]] = []

    def report() -> None:
        notify(Progress(len(outcomes), len(objects), 0, unit="objects"))

    for outcome in workers.map(partial(_ask, store), objects, threads=threads, name="head", tick=report):
        outcomes.append(outcome)
    return outcomes


def _ask(store: StorageBackend, stored: StoredObject) -> _Outcome:
    try:
        return _compare(store, stored, store.head(stored.key))
    except ObjectNotFound:
        return _compare(store, stored, None)
    except ObjectUnreadable:
        return None


def _look_up(store: StorageBackend, objects: Sequence[StoredObject]) -> list[tuple[StoredObject, _Outcome]]:
    folders = {stored.key.rpartition("/")[0] for stored in objects}
    listed = {info.key: info for folder in sorted(folders) for info in store.list(f"{folder}/")}
    outcomes = [(stored, _compare(store, stored, listed.get(stored.key))) for stored in objects]
    return [(stored, _Evidence.NONE if outcome is _Evidence.LOST else outcome) for stored, outcome in outcomes]


def _compare(store: StorageBackend, stored: StoredObject, info: ObjectInfo | None) -> _Evidence | str:
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
            return _Evidence.SAME
    if info.version and info.version == stored.version:
        return _Evidence.SAME
    return _Evidence.LOST if stored.checksum or (info.version and stored.version) else _Evidence.NONE


def _has_version_of_any(store: StorageBackend, objects: Sequence[StoredObject]) -> bool:
    """True if the store has the version that the manifest names for the smallest of the objects. Only the original store has it."""
    with_version = [(stored, stored.version) for stored in objects if stored.version]
    if not with_version:
        return False
    smallest, version = min(with_version, key=lambda one: one[0].size)
    try:
        get_version(store, smallest.key, version, at_most=smallest.size)
    except (ObjectNotFound, ObjectTooLarge, AccessDenied, ObjectUnreadable):
        return False
    return True
