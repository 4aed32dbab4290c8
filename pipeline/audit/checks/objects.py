"""Checks that the objects of the backups are in the store, and finds objects that belong to no backup. The listing is all that is known."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.audit.checks.subject import Subject
from pipeline.audit.facts import DatabaseFacts, ManifestFacts, StoredObject
from pipeline.audit.report import AuditFinding
from pipeline.catalog.keys import begun_at, is_backup_id
from pipeline.counting import counted
from storage_backends.holds import ObjectLock

GRACE = timedelta(hours=24)
"""After this time, no running backup still writes objects. ``pgstow gc`` has the same default."""


@dataclass(frozen=True, slots=True)
class StoredBackup:
    """What the listing says about the objects of one backup."""

    missing: Sequence[str]
    """The keys of objects that the listing lacks."""
    altered: Sequence[str]
    """The keys of objects with another size or checksum than the manifest says."""
    objects: int
    """The number of objects that the manifest names."""
    owners: frozenset[str]
    """The IDs of the backups that wrote these objects."""
    retained_until: datetime | None
    """The earliest end of a lock; None if neither the store nor the manifest names a lock."""
    held: bool
    """True if a legal hold is known to be on the backup's manifest."""


def look_at_objects(facts: DatabaseFacts) -> Mapping[str, StoredBackup]:
    """Return what the listing says about each backup with a readable manifest, by the backup's ID."""
    there = {stored.key: stored for stored in facts.objects}
    return {
        one.ref.backup_id: _look_at(one.manifest, one.lock, there, tuple(facts.unlisted))
        for one in facts.backups
        if one.manifest is not None
    }


def _look_at(
    manifest: ManifestFacts, asked: ObjectLock | None, there: Mapping[str, StoredObject], unlisted: tuple[str, ...]
) -> StoredBackup:
    missing, altered, owners, locks = list[str](), list[str](), set[str](), list[datetime]()
    needed = manifest.objects
    for key, size, checksum in needed:
        owners.add(_owner(key))
        stored = there.get(key)
        if stored is None:
            if not key.startswith(unlisted):
                missing.append(key)
            continue
        if stored.size != size or _differs(stored.checksum, checksum):
            altered.append(key)
        if stored.retained_until:
            locks.append(stored.retained_until)
    if asked and not asked.needs:
        locks += [asked.retained_until] if asked.retained_until else []
        lock = min(locks, default=None)
    else:  # S3's listings don't show locks. The manifest has the lock that pgstow asked for
        lock = min(locks, default=manifest.retained_until)
    held = bool(asked and asked.held)
    return StoredBackup(missing, altered, len(needed), frozenset(owners), lock, held)


def _differs(stored: str | None, expected: str | None) -> bool:
    """True if both checksums are known and of the same kind, but differ."""
    if stored is None or expected is None or stored.partition(":")[0] != expected.partition(":")[0]:
        return False
    return stored != expected


def _owner(key: str) -> str:
    """Return the ID of the backup that wrote an object, from the object's key."""
    parts = key.split("/")
    return parts[3] if len(parts) > 3 else ""


def check_objects(facts: DatabaseFacts, stored: Mapping[str, StoredBackup]) -> Iterator[AuditFinding]:
    """Yield a finding for each believed backup with objects that are missing or altered."""
    subject = Subject.of(facts)
    for one in facts.backups:
        if one.problem or not (found := stored.get(one.ref.backup_id)):
            continue
        for name, keys, words in (
            ("object-missing", found.missing, "missing"),
            ("object-altered", found.altered, "of another size or checksum than its manifest says"),
        ):
            if keys:
                are = "is" if len(keys) == 1 else "are"
                sentence = (
                    f"{len(keys):,} of {counted(found.objects, 'object')} of the backup {one.ref.backup_id} of {subject.name} "
                    f"{are} {words}, such as {keys[0]}."
                )
                yield subject.finding(name, sentence, one.ref.backup_id)


def find_orphans(
    facts: DatabaseFacts, stored: Mapping[str, StoredBackup], now: datetime
) -> tuple[Sequence[StoredObject], AuditFinding | None]:
    """Return the objects that no backup needs and that no running backup can be writing, and a finding if there are any.

    A manifest that can't be read may need any object of its database. So no object is an orphan beside such a manifest.
    """
    if any(one.manifest is None for one in facts.backups):
        return (), None
    used = {one.ref.backup_id for one in facts.backups}.union(*(one.owners for one in stored.values()))
    left = defaultdict[str, list[StoredObject]](list)
    for one in facts.objects:
        if (owner := _owner(one.key)) not in used:
            left[owner].append(one)
    orphans = [one for owner, objects in left.items() if not _may_run(owner, objects, now) for one in objects]
    if not orphans:
        return (), None
    subject, are = Subject.of(facts), "belongs" if len(orphans) == 1 else "belong"
    words = f"{counted(len(orphans), 'object')} of {subject.name} {are} to no backup, such as {orphans[0].key}; pgstow gc removes such objects."
    return orphans, subject.finding("orphans", words)


def _may_run(backup_id: str, objects: Sequence[StoredObject], now: datetime) -> bool:
    newest = max(one.modified for one in objects)
    begun = begun_at(backup_id) if is_backup_id(backup_id) else newest
    return max(begun, newest) > now - GRACE
