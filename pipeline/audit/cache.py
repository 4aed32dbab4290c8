"""Keeps what the documents of stores said, so that a later audit reads only new documents.

A cache saves requests and changes no answer. It keeps only what the bytes of a document say, and which key signed them. Each audit asks anew
which keys are trusted, and compares clocks, chains and checksums anew. A document is read again once the store lists it differently.
"""

import hashlib
import os
import sqlite3
import stat
import zlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from pipeline.events import Notice, Notify
from storage_backends import ObjectInfo

_FORMAT = 1
"""Raised whenever pipeline/audit/documents.py gives other bytes for the same document."""
_PAGE = 16384  # bytes: the rows of a database then lie side by side, and most of them need no further page
_PATIENCE = 1.0  # seconds to wait for another audit that uses the same file
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS documents (
        store TEXT, place TEXT, key TEXT, stamp TEXT, packed BLOB, digest BLOB, PRIMARY KEY (store, place, key)
    ) WITHOUT ROWID
"""


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

    def save(self, store: str, place: str, new: Mapping[str, Kept], gone: Collection[str]) -> None:
        """Keep the new documents of a database, by their keys, and drop those whose keys are in ``gone``."""
        ...

    def close(self) -> None:
        """Close the file, if there is one."""
        ...


class _NoCache:
    def load(self, store: str, place: str) -> Mapping[str, Kept]:
        return {}

    def save(self, store: str, place: str, new: Mapping[str, Kept], gone: Collection[str]) -> None:
        pass

    def close(self) -> None:
        pass


NO_CACHE: Cache = _NoCache()
"""A cache that keeps nothing."""


def open_cache(folder: Path, notify: Notify) -> Cache:
    """Return the cache in the folder, which is created if it is missing. Only the user can read it.

    Return :data:`NO_CACHE`, and say why, if the cache can't be used: the disk is full, for example, or another user may write to the folder.
    """
    path = folder / "records.sqlite"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_own(folder.stat())
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _check_own(os.fstat(fd))
        finally:
            os.close(fd)
        return _open(path, notify)
    except (OSError, sqlite3.Error) as exc:
        notify(Notice(f"The cache {path} can't be used, so pgstow reads all records: {exc}."))
        return NO_CACHE


def _check_own(status: os.stat_result) -> None:
    """Raise PermissionError unless the folder or file is the user's, and nobody else may write to it."""
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("another user owns it, or may write to it")


def _open(path: Path, notify: Notify) -> Cache:
    """Return the cache in the file. Begin a new file if another version of pgstow wrote this one, or if it is damaged."""
    expected = zlib.crc32(f"{version('pgstow')} {_FORMAT}".encode()) >> 1  # SQLite's number has 31 bits
    with suppress(sqlite3.DatabaseError):
        connection = _connect(path)
        if connection.execute("PRAGMA user_version").fetchone() == (expected,):
            return DiskCache(path, connection, notify)
        connection.close()
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = _connect(path)
    connection.execute(f"PRAGMA page_size = {_PAGE}")
    connection.execute(_SCHEMA)
    connection.execute(f"PRAGMA user_version = {expected}")
    return DiskCache(path, connection, notify)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")  # the digests find what a crash damages
    return connection


class DiskCache:
    """A cache in an SQLite file. After an error, it keeps nothing more."""

    def __init__(self, path: Path, connection: sqlite3.Connection, notify: Notify) -> None:
        self._path, self._notify = path, notify
        self._connection: sqlite3.Connection | None = connection

    def load(self, store: str, place: str) -> Mapping[str, Kept]:
        """See :meth:`Cache.load`. A row that is damaged is left out."""
        if self._connection is None:
            return {}
        rows = "SELECT key, stamp, packed, digest FROM documents WHERE store = ? AND place = ?"
        try:
            found = self._connection.execute(rows, (store, place)).fetchall()
        except sqlite3.Error as exc:
            self._give_up(exc)
            return {}
        return {
            key: Kept(stamp, packed)
            for key, stamp, packed, digest in found
            if isinstance(packed, bytes) and digest == _digest(key, stamp, packed)
        }

    def save(self, store: str, place: str, new: Mapping[str, Kept], gone: Collection[str]) -> None:
        """See :meth:`Cache.save`."""
        if self._connection is None or not (new or gone):
            return
        dropped = [(store, place, key) for key in gone]
        rows = [
            (store, place, key, kept.stamp, kept.packed, _digest(key, kept.stamp, kept.packed))
            for key, kept in new.items()
        ]
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany("DELETE FROM documents WHERE store = ? AND place = ? AND key = ?", dropped)
                self._connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.Error as exc:
            self._give_up(exc)

    def close(self) -> None:
        """See :meth:`Cache.close`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _give_up(self, error: sqlite3.Error) -> None:
        self.close()
        self._notify(
            Notice(f"The cache {self._path} can't be used any more, so pgstow reads all other records: {error}.")
        )
        # DatabaseError itself means a damaged file. Its subclasses mean a lock, a full disk, and the like.
        if type(error) is sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)


def _digest(key: str, stamp: str, packed: bytes) -> bytes:
    """Return the digest of a row. It finds damage. It can't find forgery: whoever may write the file can compute it, too."""
    return hashlib.sha256(f"{key}\n{stamp}\n".encode() + packed).digest()


def stamp_of(info: ObjectInfo) -> str | None:
    """Return a text that changes if the object is written again; None if the listing shows too little to notice it."""
    if info.etag is None and info.version is None and info.checksum is None:
        return None
    return f"{info.size} {info.modified.timestamp()} {info.etag} {info.version} {info.checksum}"
