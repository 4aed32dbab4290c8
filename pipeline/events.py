"""Events of a backup or a restore. The pipeline passes each event to a callable, and never prints."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a step. pgstow reports it at most a few times a second."""

    done: int
    """The part that is done: stored in every store, restored, extracted, compared or verified. Counted in ``unit``."""
    total: int
    """All that is to be done, as far as pgstow knows so far; never less than ``done``. Counted in ``unit``."""
    stored: int
    """Bytes sent to or read from the store."""
    current: tuple[str, ...] = ()
    """The tables or files in progress."""
    unit: Literal["bytes", "objects"] = "bytes"
    """The unit of ``done`` and ``total``. Bytes are uncompressed bytes of the archive. In a copy, and at level bytes of verify, they are
    bytes of objects."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence for the user. A notice never reports that the whole run failed."""

    text: str


class CombinedProgress:
    """Adds up the progress of several backups that run at once, each on its own thread."""

    def __init__(self, notify: "Notify") -> None:
        self._notify = notify
        self._lock = threading.Lock()
        self._latest: dict[str, Progress] = {}

    def notify_of(self, name: str) -> "Notify":
        """Return a callable for the events of one backup. It passes on all events except :class:`Progress` unchanged."""
        return partial(self._take, name)

    def _take(self, name: str, event: "Event") -> None:
        with self._lock:
            if isinstance(event, Progress):
                self._latest[name] = event
                event = Progress(
                    done=sum(one.done for one in self._latest.values()),
                    total=sum(one.total for one in self._latest.values()),
                    stored=sum(one.stored for one in self._latest.values()),
                    current=tuple(f"{of}: {table}" for of, one in self._latest.items() for table in one.current[:1]),
                )
            self._notify(event)


Event: TypeAlias = Started | Progress | Notice
Notify: TypeAlias = Callable[[Event], None]
