"""The stores that one dump goes to. Each store gets its own manifest. If a store fails, the other stores still get the backup."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from pipeline.catalog.manifest import ManifestSummary, Member, StoredObject
from pipeline.errors import InvalidRequest
from pipeline.events import Notice, Notify
from pipeline.trust.seal import Epoch
from storage_backends import InvalidStorageURL, StorageBackend, StorageError


@dataclass(frozen=True, slots=True)
class Committed:
    """A backup in one store. It doesn't hold the manifest's lists of files and objects, which may take hundreds of megabytes."""

    manifest: ManifestSummary
    sha256: str
    """SHA-256 of the stored manifest's bytes, in hexadecimal."""
    epochs: Sequence[Epoch] = ()
    """The keys of the backup, or of all members of a cluster's backup; empty if nothing is sealed."""


BackupResults: TypeAlias = list[Committed | StorageError]
"""A result for each store, in the order of the stores: the committed backup, or the error if the store failed. At least one backup is
committed: if all stores fail, the last error is raised."""


def committed(copies: BackupResults) -> list[Committed]:
    """Return the committed backups among the results, in their order."""
    return [copy for copy in copies if isinstance(copy, Committed)]


@dataclass(slots=True, eq=False)
class Destination:
    """A store, and the part of the backup that is in it so far."""

    store: StorageBackend
    objects: dict[int, StoredObject] = field(default_factory=dict)
    """The stored objects, by their number among the backup's objects."""
    members: list[Member] = field(default_factory=list)
    """The members of a cluster's backup."""
    outcome: Committed | StorageError | None = None
    """The backup that was committed to the store, or the error for which the store was dropped; None if neither has happened yet."""


class Destinations:
    """All stores that the backup of ``database`` goes to. A store whose objects would be locked until a past time is dropped at once.

    Raises InvalidRequest if there is no store, and InvalidStorageURL if all stores are dropped.
    """

    def __init__(self, stores: Sequence[StorageBackend], database: str, notify: Notify) -> None:
        if not stores:
            raise InvalidRequest("A backup needs at least one store.")
        self._all = [Destination(store) for store in stores]
        self._database = database
        self._notify = notify
        for destination in self._all:
            until = destination.store.retained_until
            if until is not None and until <= datetime.now(UTC):
                words = f"can't be locked until {until:%Y-%m-%d %H:%M:%SZ}, which has passed"
                self.drop(destination, InvalidStorageURL(f"Objects in {destination.store.url} {words}."))

    @property
    def open(self) -> list[Destination]:
        """The destinations that are neither committed nor dropped."""
        return [destination for destination in self._all if destination.outcome is None]

    def drop(self, destination: Destination, error: StorageError) -> None:
        """Continue without the destination, and notify the user. Raises ``error`` if all destinations have failed."""
        destination.outcome = error
        if all(isinstance(other.outcome, StorageError) for other in self._all):
            raise error
        words = f"There is no backup of {self._database} in {destination.store.url}; the backup continues in the other stores."
        self._notify(Notice(f"{words} {error}"))

    @property
    def copies(self) -> BackupResults:
        """The results of the stores that are committed or dropped."""
        return [destination.outcome for destination in self._all if destination.outcome is not None]
