"""Whether a store has the objects that a manifest names, by the store's own account."""

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
    """What the store says of the objects."""

    objects: int = 0
    """Those that were looked at."""
    without_checksum: int = 0
    """Those for which the store reports no checksum, so that their presence and size is all that is known."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each object that isn't there, or isn't what the manifest says."""


class _Told(Enum):
    """What the store tells of an object of the right size."""

    SAME = auto()
    """It is the version or has the checksum that the manifest says."""
    LITTLE = auto()
    """Neither was ever known, or the answer is a listing's."""
    LESS = auto()
    """Neither can be compared, though the store that the manifest was written for told them."""


_Outcome = _Told | str | None
"""A sentence on what is wrong; None if the store failed to say."""


def check_objects(
    store: StorageBackend, objects: Sequence[StoredObject], workers: Workers, threads: int, notify: Notify
) -> ObjectCheck:
    """Compare what the store says with the manifest, reading none of the bytes.

    Where the credentials may not ask for an object by itself (S3 and GCS let only those who may read it), by what a listing says: S3's has
    no checksums.

    An object without its checksum may have been overwritten. A copy of the backup in another store may lack checksums, too. So such an
    object is a problem if the store shows itself to be the one that the manifest was written for; one object may be read to see that.
    Raises StorageError.
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
    for stored, outcome in workers.map(partial(_ask, store), objects, threads=threads, name="head"):
        outcomes.append((stored, outcome))
        notify(Progress(len(outcomes), len(objects), 0, ()))
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
    """True if the store has the version that the manifest names of the smallest object: no other store knows it."""
    with_version = [(stored, stored.version) for stored in objects if stored.version]
    if not with_version:
        return False
    smallest, version = min(with_version, key=lambda one: one[0].size)
    try:
        get_version(store, smallest.key, version, at_most=smallest.size)
    except (ObjectNotFound, ObjectTooLarge, AccessDenied, ObjectUnreadable):
        return False
    return True
