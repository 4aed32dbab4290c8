"""Events of a backup or a restore, which are handed to a callable. The pipeline itself never prints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a step, at most a few times a second."""

    done: int
    """Bytes of the archive, uncompressed, that have reached their goal: every store, or the server or folder that they are restored to."""
    total: int
    """Bytes of the archive, as far as pgstow knows so far; never less than ``done``."""
    stored: int
    """Bytes sent to or read from the store."""
    current: tuple[str, ...] = ()
    """The tables or files in progress."""
    unit: Literal["bytes", "objects"] = "bytes"
    """What ``done`` and ``total`` count."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One sentence that the user should know. A notice reports no failure of the whole run."""

    text: str


Event: TypeAlias = Started | Progress | Notice
Notify: TypeAlias = Callable[[Event], None]
