"""The options of a backup or a restore: frozen, and checked before the work begins."""

import os
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeAlias, cast

from pipeline.errors import InvalidRequest

MIB = 1024 * 1024
_LEAST_SPOOL = 16 * MIB
_MOST_BYTES = 2**63 - 1
"""Bytes. No file can be larger."""
MOST_AT_ONCE = 10_000
"""The most jobs, transfers or databases at once. No machine can do more."""
LONGEST_PATIENCE = 7 * 86400
"""The longest time in seconds to retry a request to a store: a week."""
LONGEST_TIMEOUT = 2**31 // 1000
"""Seconds. PostgreSQL counts timeouts in milliseconds, in 32 bits."""
MOST_RETRIES = 1000
Level: TypeAlias = int | Literal["auto"]
"""A compression level of zstd; ``auto`` if pgstow chooses a level for each piece."""
LEVELS = range(1, 20)
"""From level 20 on, decompression needs more memory than the frame's size."""
SplitTables: TypeAlias = int | Literal["auto", "never"]
"""Which tables several jobs dump or load together. A number means tables of at least so many bytes, and ``never`` means no table. ``auto``
means large tables, if the jobs would otherwise end at different times."""
_LONGEST_EXCERPT = 60
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_size(text: str) -> int:
    """Return the bytes of a text like ``268435456``, ``256MiB``, ``256MB`` or ``256M``. Units are powers of 1024, as in PostgreSQL's settings.

    Raises ValueError for any other text.
    """
    match = re.fullmatch(r"([0-9]{1,19})\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE | re.ASCII)
    if match is None:
        raise ValueError(f"{_excerpt(text)} is not a size; write 268435456, 256MiB or 1GiB")
    size = int(match[1]) * _UNITS[match[2].upper()]
    if size > _MOST_BYTES:
        raise ValueError(f"{text!r} is more than any file can hold")
    return size


def parse_level(text: str) -> Level:
    """Return the level of a text like ``3`` or ``auto``. Raises ValueError for any other text."""
    if text.strip() == "auto":
        return "auto"
    if not re.fullmatch("[0-9]{1,2}", text.strip(), re.ASCII) or int(text) not in LEVELS:
        raise ValueError(f"{_excerpt(text)} is not a level; write auto, or a number from {LEVELS[0]} to {LEVELS[-1]}")
    return int(text)


def parse_duration(text: str) -> timedelta:
    """Return the duration of a text like ``36h``, ``30d`` or ``8w``, up to a hundred years. Raises ValueError for any other text."""
    match = re.fullmatch(r"([0-9]{1,6})([hdw])", text.strip())
    if match is None:
        raise ValueError(f"{_excerpt(text)} is not a duration; write 36h, 30d or 8w")
    duration = int(match[1]) * {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}[match[2]]
    if duration > timedelta(days=36500):
        raise ValueError(f"{text!r} is more than a hundred years")
    return duration


def parse_split_tables(text: str) -> SplitTables:
    """Return ``auto``, ``never`` or a number of bytes. Raises ValueError for any other text, and for a size of 0."""
    if text in ("auto", "never"):
        return cast("SplitTables", text)
    try:
        size = parse_size(text)
    except ValueError:
        size = 0
    if not size:
        raise ValueError(f"{_excerpt(text)} is not auto, never or a size such as 1GiB")
    return size


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_EXCERPT else f"{text[:_LONGEST_EXCERPT]}…")


def default_jobs() -> int:
    """Return the default number of parallel jobs: one for each processor, four at most."""
    return min(4, _processors())


def _processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Limits:
    """The share of the machine that pgstow may take. Raises InvalidRequest if a limit is too low or too high.

    Data take at most ``memory`` bytes of memory, for a database of any size. The program itself takes about 100 MiB more. The manifest's
    entries also take memory, which grows with the number of files.
    """

    jobs: int = field(default_factory=default_jobs)
    """Parallel jobs of pg_dump or pg_restore. Each job has one connection to the server. The leader has one more."""
    split_tables: SplitTables = "auto"
    """Which tables several jobs dump or load together."""
    transfers: int = 4
    """The most objects that are sent to or read from the store at once."""
    memory: int = 128 * MIB
    """The most bytes of data in memory."""
    spool: int = 256 * MIB
    """The most bytes of the spool on the local disk."""
    object_size: int = 32 * MIB
    """The most bytes of an object that pgstow writes."""
    spool_parent: Path | None = None
    """The folder in which the spool is made; None for the system's temporary folder."""

    def __post_init__(self) -> None:
        for name, least in (("jobs", 1), ("transfers", 1), ("object_size", 64 * 1024), ("spool", _LEAST_SPOOL)):
            if getattr(self, name) < least:
                raise InvalidRequest(f"{name} must be at least {least}, not {getattr(self, name)}.")
        for name in ("jobs", "transfers"):
            if getattr(self, name) > MOST_AT_ONCE:
                raise InvalidRequest(f"{name} must be at most {MOST_AT_ONCE}.")

    def check_memory(self, largest_object: int, copies: int = 0) -> None:
        """Raise InvalidRequest unless ``memory`` holds two objects of ``largest_object`` bytes: one in use, and one in transfer.

        ``copies`` is the number of further objects of this size that ``memory`` must hold.
        """
        if self.memory < (2 + copies) * largest_object:
            needed = "three objects of a sealed backup," if copies else "two objects"
            raise InvalidRequest(
                f"The memory limit must hold {needed} of {largest_object / MIB:,g} MiB each, but is only {self.memory / MIB:,g} MiB: "
                "see --memory and --object-size."
            )

    def shared_by(self, number: int, copies: int = 0) -> "Limits":
        """Return the limits for each of ``number`` backups that run at once. No limit becomes lower than a backup needs.

        ``copies`` is as for :meth:`check_memory`.
        """
        return replace(
            self,
            jobs=max(1, self.jobs // number),
            transfers=max(1, self.transfers // number),
            memory=max((2 + copies) * self.object_size, self.memory // number),
            spool=max(_LEAST_SPOOL, self.spool // number),
        )

    @property
    def threads(self) -> int:
        """The number of threads that compress or decompress."""
        return _processors()

    def quarter(self, copies: int) -> int:
        """Return a quarter of ``memory`` in bytes, without ``copies`` objects; see :meth:`check_memory`.

        zstd takes at most a quarter for the higher levels of ``auto``, and the ranges of large tables take at most a quarter. The other half
        always has room for two pieces, so a backup never stands still.
        """
        return (self.memory - copies * self.object_size) // 4

    @property
    def piece_size(self) -> int:
        """The most bytes of an archive's file that go into one zstd frame."""
        # Data that can't be compressed grow a little, so a frame gets only half an object.
        return min(4 * MIB, self.object_size // 2, self.spool // 8)


@dataclass(frozen=True, slots=True)
class Labels:
    """A backup's labels in its manifest, which prune uses to choose backups. Raises InvalidRequest if a tag is empty or unprintable."""

    tags: tuple[str, ...] = ()
    """Names for ``prune --keep-tag``."""
    job: str | None = None
    """The database's name in pgstow.toml; None if the backup isn't made by pgstow.toml."""

    def __post_init__(self) -> None:
        for tag in self.tags:
            if not tag.strip() or not tag.isprintable():
                raise InvalidRequest(f"{tag!r} can't be a tag: it is empty, or has characters that can't be printed.")
