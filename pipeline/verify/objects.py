"""Check that a store reports the objects in a manifest, without reading them."""

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
    """The result of asking the store for the objects."""

    objects: int = 0
    """The number of objects about which the store answered."""
    without_checksum: int = 0
    """The number of objects for which the store reports no checksum. Only their presence and size are known."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each object that is missing, or isn't what the manifest says."""


class _Told(Enum):
    """What the store reports of an object of the right size."""

    SAME = auto()
    """The object has the version or the checksum in the manifest."""
    LITTLE = auto()
    """Neither version nor checksum can be compared. The manifest has none either, or the report comes from a listing."""
    LESS = auto()
    """Neither version nor checksum can be compared, though the store reported one when the backup was made."""


_Outcome = _Told | str | None
"""The store's report, or a sentence on what is wrong; None if the store failed to answer."""


def check_objects(
    store: StorageBackend, objects: Sequence[StoredObject], workers: Workers, threads: int, notify: Notify
) -> ObjectCheck:
    """Compare the store's reports on the objects with the manifest. Return what was found.

    If the credentials may not ask for single objects, as on S3 and GCS without the right to read them, use a listing instead. S3's listings
    have no checksums.

    An object without its checksum may have been overwritten. But a copy of the backup in another store may lack checksums, too. So the
    object is a problem only if the store turns out to be the one for which the manifest was written. To find out, pgstow may read one
    object, the smallest. It reads no other.

    ``threads`` is the number of requests at once. Raises StorageError.
    """
    try:
        outcomes = _ask_each(store, objects, workers, threads, notify)
    except AccessDenied:
        outcomes = _look_up(store, objects)
    check = ObjectCheck(sum(outcome is not None for _, outcome in outcomes))
    less = [stored for stored, outcome in outcomes if outcome is _Told.LESS]
    overwritten = less and (any(outcome is _Told.SAME for _, outcome in outcomes) or _has_version_of_any(store, less))
    for stored, outcome in outcomes:
        if outcome is _Told.LESS and overwritten:
            outcome = (
                f"{stored.key} may have been overwritten: the store no longer reports the checksum that it confirmed."
            )
        if isinstance(outcome, str):
            tells = (
                f" Version {stored.version} was stored: verify --level bytes tells whether that version is still there."
            )
            check.problems.append(outcome + (tells if stored.version else ""))
        check.without_checksum += outcome in (_Told.LITTLE, _Told.LESS)
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
    there = {info.key: info for folder in sorted(folders) for info in store.list(f"{folder}/")}
    told = [(stored, _compare(store, stored, there.get(stored.key))) for stored in objects]
    return [(stored, _Told.LITTLE if outcome is _Told.LESS else outcome) for stored, outcome in told]


def _compare(store: StorageBackend, stored: StoredObject, info: ObjectInfo | None) -> _Told | str:
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
            return _Told.SAME
    if info.version and info.version == stored.version:
        return _Told.SAME
    return _Told.LESS if stored.checksum or (info.version and stored.version) else _Told.LITTLE


def _has_version_of_any(store: StorageBackend, objects: Sequence[StoredObject]) -> bool:
    """True if the store has the smallest object's version in the manifest: no other store has this version."""
    with_version = [(stored, stored.version) for stored in objects if stored.version]
    if not with_version:
        return False
    smallest, version = min(with_version, key=lambda one: one[0].size)
    try:
        get_version(store, smallest.key, version, at_most=smallest.size)
    except (ObjectNotFound, ObjectTooLarge, AccessDenied, ObjectUnreadable):
        return False
    return True
