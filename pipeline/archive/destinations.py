"""The stores that one dump goes to. Each has its own manifest in the end, and one that fails keeps no other from it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

from pipeline.catalog.manifest import Manifest, Member, StoredObject
from pipeline.errors import InvalidRequest
from pipeline.events import Notice, Notify
from storage_backends import InvalidStorageURL, StorageBackend, StorageError

BackupResults: TypeAlias = list[Manifest | StorageError]
"""What came of a backup in each of the stores, in the order in which they were given: its manifest there, or why it has none. One
manifest at least: where all stores fail, the last one's error is raised."""


def committed(copies: BackupResults) -> list[Manifest]:
    """The manifests among them."""
    return [copy for copy in copies if isinstance(copy, Manifest)]


@dataclass(slots=True, eq=False)
class Destination:
    """One of the stores, and what it has by now."""

    store: StorageBackend
    objects: dict[int, StoredObject] = field(default_factory=dict)
    """By their number among the objects of the backup."""
    members: list[Member] = field(default_factory=list)
    """Of a cluster's backup."""
    outcome: Manifest | StorageError | None = None
    """The manifest that is committed there, or why there will be none."""


class Destinations:
    """All stores that the backup of ``database`` goes to."""

    def __init__(self, stores: Sequence[StorageBackend], database: str, notify: Notify) -> None:
        if not stores:
            raise InvalidRequest("A backup needs a store to go to.")
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
        """Those that are neither committed nor dropped."""
        return [destination for destination in self._all if destination.outcome is None]

    def drop(self, destination: Destination, error: StorageError) -> None:
        """Go on without it. Raises ``error`` where there is no other, so that nothing is left to go on for."""
        destination.outcome = error
        if all(isinstance(other.outcome, StorageError) for other in self._all):
            raise error
        words = f"There is no backup of {self._database} in {destination.store.url}; the other stores go on without it."
        self._notify(Notice(f"{words} {error}"))

    @property
    def copies(self) -> BackupResults:
        """What came of it, once it is committed."""
        return [destination.outcome for destination in self._all if destination.outcome is not None]
