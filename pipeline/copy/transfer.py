"""Sends the objects of one backup from the source to the targets, in bounded memory."""

import hashlib
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial

from pipeline.catalog.manifest import StoredObject
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.copy.target import Target, put_record, taken
from pipeline.events import Notify, Progress
from pipeline.stages.download import download, objects_at_once, tell_replaced
from storage_backends import (
    BucketNotFound,
    ObjectAlreadyExists,
    ObjectNotFound,
    ObjectTooLarge,
    StorageBackend,
    StorageError,
)


@dataclass(slots=True, eq=False)
class Receiver:
    """A target that gets the objects of one backup. If a request to it fails, the other targets still get the backup."""

    target: Target
    there: set[str] = field(default_factory=set)
    """The keys of the objects that the target had before, and that aren't yet compared."""
    objects: int = 0
    """The number of objects that were sent. Records aren't counted."""
    size: int = 0
    """Bytes of these objects."""
    error: Exception | None = None
    """The error for which the target doesn't get the backup."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, objects: Collection[StoredObject]) -> None:
        """Find out which of the objects the target has."""
        expected = {stored.key: stored for stored in objects}
        try:
            for folder in sorted({key.rpartition("/")[0] for key in expected}):
                for info in self.target.store.list(f"{folder}/"):
                    if (stored := expected.get(info.key)) is not None:
                        if info.size != stored.size:
                            raise taken(self.target.store, info.key)
                        self.there.add(info.key)
        except BucketNotFound:
            pass  # perhaps the first object makes the folder
        except StorageError as exc:
            self.error = exc

    def put(self, stored: StoredObject, body: bytes) -> None:
        """Create an object. If somebody else created it meanwhile, it is compared later."""
        try:
            self.target.store.put(stored.key, body, sha256=bytes.fromhex(stored.sha256))
        except ObjectAlreadyExists:
            self.there.add(stored.key)
        except StorageError as exc:
            self.error = exc
        else:
            with self._lock:
                self.objects += 1
                self.size += len(body)

    def put_record(self, key: str, body: bytes) -> None:
        """Create a small object, unless the target has the same object already. Do nothing after an error."""
        if self.error is None:
            try:
                put_record(self.target.store, key, body)
            except StorageError as exc:
                self.error = exc

    def compare(self, stored: StoredObject) -> None:
        """Compare an object that the target had before with the manifest.

        If the store reports no SHA-256, the object is read: an attacker may have chosen other bytes with the same weaker checksum.
        """
        store = self.target.store
        try:
            info = store.head(stored.key)
            algorithm, _, digest = (info.checksum or "").partition(":")
            if info.size == stored.size and algorithm != "sha256":
                digest = hashlib.sha256(store.get(stored.key, at_most=stored.size)).hexdigest()
            if (info.size, digest) != (stored.size, stored.sha256):
                self.error = taken(store, stored.key)
        except ObjectTooLarge:
            self.error = taken(store, stored.key)
        except ObjectNotFound as exc:
            self.error = StorageError(
                f"{exc}, though it was there before; perhaps pgstow gc removed it, so copy the backup again"
            )
        except StorageError as exc:
            self.error = exc


def send_objects(
    source: StorageBackend,
    objects: Sequence[StoredObject],
    receivers: Sequence[Receiver],
    limits: Limits,
    notify: Notify,
) -> None:
    """Send the objects to each receiver that lacks them. An object is read once for all receivers, and checked before it is sent.

    Objects that a receiver had before are compared last. ``gc`` may be about to remove objects that an
    interrupted copy left. It spares a backup with a recent object, such as those that were just sent.

    Holds at most ``limits.memory`` bytes of objects. Raises InvalidRequest if two objects don't fit into the limit, BackupDamaged if an
    object is missing or damaged, and StorageError if the source fails. If a receiver fails, it has the error.
    """
    threads = min(limits.transfers, objects_at_once(objects, limits))
    for receiver in receivers:
        receiver.look(objects)
    missing = [stored for stored in objects if any(stored.key not in receiver.there for receiver in receivers)]
    done, total = 0, sum(stored.size for stored in missing)
    replaced = list[str]()

    def report() -> None:
        notify(Progress(done, total, sum(receiver.size for receiver in receivers)))

    with Workers() as workers:
        send = partial(_send, source, receivers, replaced)
        for stored, _ in workers.map(send, missing, threads=threads, name="copy", tick=report):
            done += stored.size
        report()
        found = [stored for stored in objects if any(stored.key in receiver.there for receiver in receivers)]
        for _ in workers.map(partial(_compare, receivers), found, threads=threads, name="compare"):
            pass
    tell_replaced(replaced, notify)


def _send(source: StorageBackend, receivers: Sequence[Receiver], replaced: list[str], stored: StoredObject) -> None:
    waiting = [receiver for receiver in receivers if receiver.error is None and stored.key not in receiver.there]
    if waiting:
        body = download(source, stored, replaced)
        for receiver in waiting:
            receiver.put(stored, body)


def _compare(receivers: Sequence[Receiver], stored: StoredObject) -> None:
    for receiver in receivers:
        if receiver.error is None and stored.key in receiver.there:
            receiver.compare(stored)
