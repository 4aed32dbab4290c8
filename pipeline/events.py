"""What happens, for whoever shows it: events handed to a callable. The pipeline itself never prints."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Started:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the step is, at most a few times a second."""

    done: int
    """Bytes of the archive, uncompressed."""
    total: int
    """Bytes of the archive, as far as can be told now; never less than ``done``."""
    stored: int
    """Bytes sent to or read from the store."""
    current: tuple[str, ...]
    """The tables or files that are under way."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the user should know and that is no failure: one sentence."""

    text: str


Event: TypeAlias = Started | Progress | Notice
Notify: TypeAlias = Callable[[Event], None]
