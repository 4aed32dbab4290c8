"""A directory as an object store: durable, atomic, create-only, as far as POSIX allows."""

import errno
import hashlib
import os
import stat
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import groupby
from pathlib import Path

from storage_backends.backend import Body, ObjectInfo
from storage_backends.checks import check_body, check_range, check_size
from storage_backends.durable import MAX_RACES, make_directory, sync_directory, write_file
from storage_backends.errors import (
    BucketNotFound,
    ObjectAlreadyExists,
    ObjectNotFound,
    StorageError,
    TransientStorageError,
)
from storage_backends.keys import MAX_KEY_BYTES, check_key, check_prefix
from storage_backends.local_files import listed_name, modified_at, read_range, translated

_INCOMING = ".incoming"
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
"""Flags to open a folder for calls with ``dir_fd``. `O_PATH`_ also opens a folder that the user may search but not read.

.. _O_PATH: https://man7.org/linux/man-pages/man2/open.2.html
"""
_NO_FOLDER = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""What the system answers if a folder is missing, or is a file or a link."""
_READ_SIZE = 1024 * 1024


class LocalBackend:
    """Objects as files below ``root``, one file an object. If ``root`` is missing, the first put makes it and its parents (mode 0700), unless
    ``create`` is false.

    - Once seen, ``root`` must stay the same directory; otherwise each call raises BucketNotFound. The mount point of an unmounted volume
      is such another directory, and its objects would lie apart from the rest.
    - A body is written to ``root/.incoming/``, fsynced, and hard-linked to its key. The link makes a put atomic
      and create-only (`link(2)`_ fails with EEXIST). A killed process may leave a file there. Such a file is never
      listed, and may be removed while nothing writes. No key may start with ``.incoming/``.
    - Files have mode 0600, and folders 0700. A delete of a folder's last object removes the folder, too.
    - The checksum is SHA-256. A directory stores no checksums, so :meth:`head` reads the whole file.
    - A key can't be another key's folder: ``a`` and ``a/b`` exclude each other, and the second put raises StorageError.
    - No symbolic link below ``root`` is followed or listed. A read through a link raises ObjectNotFound; a put or delete raises StorageError.

    Raises StorageError if ``root`` isn't a directory.

    .. _link(2): https://man7.org/linux/man-pages/man2/link.2.html
    """

    def __init__(self, root: str | os.PathLike[str], *, create: bool = True) -> None:
        path = Path(root).absolute()
        with translated(str(path)):
            self._root = Path(os.path.realpath(path))  # unlike Path.resolve(), it doesn't raise for a loop of links
            self._identity: tuple[int, int] | None = None
            self._create = create
            if self._root.exists():
                self._require_root()

    @property
    def url(self) -> str:
        """``file://`` and the absolute path, percent-encoded."""
        return self._root.as_uri()

    @property
    def retained_until(self) -> datetime | None:
        """None: a directory has no locks."""
        return None

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        """Create the object. Return its metadata; see :meth:`StorageBackend.put`."""
        path = self._path_without_links(key)
        check_body(str(path), body, sha256)
        with translated(str(path)):
            if self._identity is None and self._create:
                make_directory(self._root)
            self._require_root()
            incoming = self._root / _INCOMING
            make_directory(incoming)
            temporary = incoming / uuid.uuid4().hex
            try:
                modified = modified_at(write_file(temporary, body))
                self._link(temporary, key, path)
            finally:
                temporary.unlink(missing_ok=True)
            sync_directory(path.parent)
        return ObjectInfo(key, memoryview(body).nbytes, modified, checksum=f"sha256:{sha256.hex()}")

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        """Return the object's bytes; see :meth:`StorageBackend.get`."""
        with self._open(key) as (path, fd, status):
            check_size(str(path), status.st_size, at_most)
            end = check_range(str(path), status.st_size, offset, length)
            data = read_range(fd, offset, end)
        if len(data) != end - offset:
            raise TransientStorageError(f"{path} gave {len(data)} bytes of {end - offset}")
        return data

    def head(self, key: str) -> ObjectInfo:
        """Return the object's metadata, and compute its SHA-256 from the whole file; see :meth:`StorageBackend.head`."""
        with self._open(key) as (_, fd, status):
            digest = hashlib.sha256()
            while chunk := os.read(fd, _READ_SIZE):
                digest.update(chunk)
        return ObjectInfo(key, status.st_size, modified_at(status), checksum=f"sha256:{digest.hexdigest()}")

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yield every object under ``prefix`` in key order, a folder at a time; see :meth:`StorageBackend.list`."""
        check_prefix(prefix)
        with translated(str(self._root)):
            self._require_root()
            above, slash, _ = prefix.rpartition("/")
            if self._has_folder(above):
                yield from self._walk(self._root / above, above + slash, prefix)
            self._require_root()  # if its volume went away meanwhile, the listing may be cut short

    def delete(self, keys: Iterable[str]) -> bool:
        """Delete the objects, and then the empty folders. Return False; see :meth:`StorageBackend.delete`."""
        for names, those in groupby(keys, key=lambda key: key.split("/")[:-1]):
            if self._delete_from_folder(list(those)):
                with translated(str(self._root.joinpath(*names))):
                    self._remove_empty(names)
        return False

    def close(self) -> None:
        """Do nothing: no file is held open between calls."""

    def _path(self, key: str) -> Path:
        check_key(key)
        if key.split("/", 1)[0] == _INCOMING:
            raise StorageError(f"{key!r} can't be an object's key: “{_INCOMING}” is where writes under way are kept")
        return self._root / key

    def _path_without_links(self, key: str) -> Path:
        path = self._path(key)
        parent = Path(os.path.realpath(path.parent))
        if parent != path.parent:
            raise StorageError(f"{path} is reached through a symbolic link, which is not followed")
        return path

    @contextmanager
    def _folder_of(self, key: str) -> Iterator[int]:
        """Open the folder of a key's last part, step by step: somebody may put a link in a folder's place at any time. Raises OSError."""
        folder = os.open(self._root, _FOLDER)
        try:
            for name in key.split("/")[:-1]:
                below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder
        finally:
            os.close(folder)

    def _has_folder(self, key: str) -> bool:
        """True if objects can be in the folder ``key``, which is no link and is reached through none. ``key`` is empty for the root."""
        if key.split("/", 1)[0] == _INCOMING:
            return False
        try:
            with self._folder_of(f"{key}/" if key else ""):
                return True
        except OSError as exc:
            if exc.errno not in (*_NO_FOLDER, errno.ENAMETOOLONG):
                raise
            return False

    def _require_root(self) -> None:
        try:
            status = self._root.stat()
        except FileNotFoundError as exc:
            if self._identity is not None:
                raise BucketNotFound(
                    f"the directory {self._root} no longer exists; check that its volume is mounted"
                ) from exc
            raise BucketNotFound(
                f"there is no folder {self._root}: mount the disk that has it, or make it; "
                "pgstow backup and pgstow copy make it with --create-store, or with the store option create=true"
            ) from exc
        if not stat.S_ISDIR(status.st_mode):
            raise StorageError(f"{self._root} is not a directory")
        identity = status.st_dev, status.st_ino
        if self._identity not in (None, identity):
            raise BucketNotFound(f"the directory {self._root} is no longer the same; check that its volume is mounted")
        self._identity = identity

    @contextmanager
    def _open(self, key: str) -> Iterator[tuple[Path, int, os.stat_result]]:
        path = self._path(key)
        with translated(str(path)):
            self._require_root()
            try:
                with self._folder_of(key) as folder:
                    fd = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
            except OSError as exc:
                if exc.errno not in _NO_FOLDER:
                    raise
                self._require_root()
                raise ObjectNotFound(f"{path} does not exist, or is reached through a symbolic link") from exc
            try:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise ObjectNotFound(f"{path} is not a regular file")
                yield path, fd, status
            finally:
                os.close(fd)

    def _link(self, temporary: Path, key: str, path: Path) -> None:
        # A delete running beside us may remove the folder as empty between the mkdir and the link.
        for _ in range(MAX_RACES):
            make_directory(path.parent)
            try:
                with self._folder_of(key) as folder:
                    os.link(temporary, path.name, dst_dir_fd=folder, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except FileExistsError as exc:
                raise ObjectAlreadyExists(f"{path} exists already") from exc
            except OSError as exc:
                if exc.errno in (errno.EPERM, errno.EOPNOTSUPP):
                    raise StorageError(
                        f"the file system of {self._root} has no hard links, without which nothing can be written "
                        "create-only; choose a directory on another one"
                    ) from exc
                raise
            return
        raise TransientStorageError(f"{path} could not be created: its folder keeps being removed")

    def _delete_from_folder(self, keys: Sequence[str]) -> bool:
        """Delete objects of the same folder. Return True if at least one of them was there.

        Only then may the caller remove the folder. If a call removed the folder without having removed a file, a put into the folder could
        find the folder gone again and again.
        """
        paths = [self._path_without_links(keys[0]), *map(self._path, keys[1:])]
        deleted = False
        with translated(str(paths[0])), suppress(FileNotFoundError):
            self._require_root()
            with self._folder_of(keys[0]) as folder:
                for path in paths:
                    with translated(str(path)), suppress(FileNotFoundError):
                        os.unlink(path.name, dir_fd=folder)
                        deleted = True
        return deleted

    def _remove_empty(self, names: Sequence[str]) -> None:
        for depth in range(len(names), 0, -1):
            try:
                with self._folder_of("/".join(names[:depth])) as above:
                    os.rmdir(names[depth - 1], dir_fd=above)
            except FileNotFoundError:
                pass
            except OSError as exc:
                if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR):
                    return
                raise

    def _walk(self, folder: Path, above: str, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects in a folder, whose keys begin with ``above``."""
        try:
            with os.scandir(folder) as entries:
                # A folder sorts by the “/” that follows its name in every key below it: “a.b” < “a/b” < “ab”.
                names = sorted(
                    (above + listed_name(entry) + ("/" if entry.is_dir(follow_symlinks=False) else ""), entry.name)
                    for entry in entries
                )
        except FileNotFoundError:
            return
        for key, name in names:
            if key == f"{_INCOMING}/":
                continue
            is_folder = key.endswith("/")
            if is_folder and len(key) < MAX_KEY_BYTES:  # a longer path leaves no room for a key below it
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(folder / name, key, prefix)
            elif key.startswith(prefix):
                try:
                    status = (folder / name).lstat()
                except FileNotFoundError:
                    continue
                if is_folder or stat.S_ISREG(status.st_mode):
                    # Whoever writes a file can set its time, but not the time of its last change.
                    etag = f"{status.st_ino}-{status.st_ctime_ns}"
                    yield ObjectInfo(key, status.st_size, modified_at(status), etag=etag)
