"""What the system says about the files of a :class:`LocalBackend`, in the contract's words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from storage_backends.errors import AccessDenied, StorageError, TransientStorageError

_LATEST = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def listed_name(entry: os.DirEntry[str]) -> str:
    """Return the name for a listing. Bytes that aren't UTF-8 become backslash sequences, which no key has."""
    return os.fsencode(entry.name).decode(errors="backslashreplace")


def read_range(fd: int, start: int, end: int) -> bytes:
    """Return the file's bytes from ``start`` to ``end``, or to the file's end. Linux reads at most 2 GiB at once."""
    parts = list[bytes]()
    while start < end and (part := os.pread(fd, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def modified_at(status: os.stat_result) -> datetime:
    """Return when the file was written. If the file's time doesn't fit into a datetime, return the nearest time that does."""
    seconds = min(max(status.st_mtime, 0), _LATEST)
    return datetime.fromtimestamp(seconds, UTC)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Run the block. Turn an OSError into the contract's errors, which name ``what``."""
    try:
        yield
    except OSError as exc:
        sentence = f"{what}: {exc.strerror or exc}"
        match exc.errno:
            case errno.EACCES | errno.EPERM | errno.EROFS:
                raise AccessDenied(sentence) from exc
            case errno.EIO | errno.ESTALE | errno.ETIMEDOUT | errno.EMFILE | errno.ENFILE:
                raise TransientStorageError(sentence) from exc
            case _:
                raise StorageError(sentence) from exc
