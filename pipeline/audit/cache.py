"""Keeps what the documents of a store said, so that a later audit reads only new documents."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from storage_backends import ObjectInfo


@dataclass(frozen=True, slots=True)
class Kept:
    """What a document said. It is valid as long as the store lists the same document."""

    stamp: str
    """What the listing said of the document: see :func:`stamp_of`."""
    packed: bytes
    """The result of a function of :mod:`pipeline.audit.documents`."""


class Cache(Protocol):
    """What earlier audits read. It may lose anything at any time, and raises nothing."""

    def load(self, store: str, place: str) -> Mapping[str, Kept]:
        """Return what is kept of a database, by the documents' keys. ``store`` is a URL, ``place`` the part of the keys for the database."""
        ...

    def save(self, store: str, place: str, kept: Mapping[str, Kept]) -> None:
        """Keep this of the database, and nothing else."""
        ...


class _NoCache:
    def load(self, store: str, place: str) -> Mapping[str, Kept]:
        return {}

    def save(self, store: str, place: str, kept: Mapping[str, Kept]) -> None:
        pass


NO_CACHE: Cache = _NoCache()
"""A cache that keeps nothing."""


def stamp_of(info: ObjectInfo) -> str | None:
    """Return a text that changes if the object is written again; None if the listing shows too little to notice it."""
    if info.etag is None and info.version is None and info.checksum is None:
        return None
    return f"{info.size} {info.modified.timestamp()} {info.etag} {info.version} {info.checksum}"
