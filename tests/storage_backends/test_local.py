import errno
import hashlib
import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from storage_backends import BucketNotFound, ObjectAlreadyExists, ObjectNotFound, StorageError
from storage_backends.keys import is_key
from storage_backends.local import LocalBackend

BODY = b"body"
SHA256 = hashlib.sha256(BODY).digest()
NOBODY = 65534


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "new" / "root"


@pytest.fixture
def backend(root: Path) -> LocalBackend:
    return LocalBackend(root)


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir()}


def test_only_the_owner_can_read(backend: LocalBackend, root: Path) -> None:
    backend.put("a/b", BODY, sha256=SHA256)
    for path in (root.parent, root, root / "a"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE((root / "a/b").stat().st_mode) == 0o600


def test_nothing_is_left_of_a_put_that_failed(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.put("taken", BODY, sha256=SHA256)
    with pytest.raises(ObjectAlreadyExists):
        backend.put("taken", BODY, sha256=SHA256)

    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="key: No space left on device"):
        backend.put("key", BODY, sha256=SHA256)
    assert files_below(root) == {"taken"}


def test_writes_under_way_are_hidden(backend: LocalBackend, root: Path) -> None:
    (root / ".incoming").mkdir(parents=True)
    (root / ".incoming/left-behind").write_bytes(b"half")
    assert list(backend.list()) == []
    assert list(backend.list(".incoming/")) == []
    with pytest.raises(StorageError, match="is where writes under way are kept"):
        backend.get(".incoming/left-behind")


def test_emptied_folders_go_and_the_root_stays(backend: LocalBackend, root: Path) -> None:
    for key in ("a/b/c/d", "a/e"):
        backend.put(key, BODY, sha256=SHA256)
    backend.delete(["a/b/c/d"])
    assert sorted(path.name for path in (root / "a").iterdir()) == ["e"]
    backend.delete(["a/e"])
    assert [path.name for path in root.iterdir()] == [".incoming"]


def test_a_list_looks_only_into_folders_that_may_have_objects_below_its_prefix(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("a/b/c/1", "a/b/d/2", "a/e", "f/3"):
        backend.put(key, BODY, sha256=SHA256)
    (root / "link").symlink_to(root / "a")
    looked: list[str] = []
    scandir = os.scandir

    def recorded(path: Path) -> Any:
        looked.append(str(path.relative_to(root)))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", recorded)
    for prefix, found, folders in (
        ("a/b/c/", ["a/b/c/1"], ["a/b/c"]),
        ("a/b/c", ["a/b/c/1"], ["a/b", "a/b/c"]),
        ("a/b/", ["a/b/c/1", "a/b/d/2"], ["a/b", "a/b/c", "a/b/d"]),
        ("a/e/", [], []),
        ("none/", [], []),
        ("link/", [], []),
        ("link/b/", [], []),
        ("x" * 300 + "/", [], []),
        (".incoming/", [], []),
    ):
        looked.clear()
        assert [info.key for info in backend.list(prefix)] == found
        assert looked == folders, prefix


def test_a_delete_leaves_a_folder_once_for_all_its_objects(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [f"a/{folder}/{number}" for folder in "bc" for number in range(5)]
    for key in keys:
        backend.put(key, BODY, sha256=SHA256)
    removed: list[str] = []
    rmdir = os.rmdir

    def recorded(name: str, *, dir_fd: int) -> None:
        removed.append(name)
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", recorded)
    backend.delete(keys)
    assert removed == ["b", "a", "c", "a"]
    assert [path.name for path in root.iterdir()] == [".incoming"]


def test_a_put_survives_a_delete_that_removes_its_folder(
    backend: LocalBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, raced = os.link, []

    def link_after_a_delete(source: Path, target: str, **how: Any) -> None:
        if not raced:
            raced.append(target)
            (root / "a/b").rmdir()
            (root / "a").rmdir()
        link(source, target, **how)

    monkeypatch.setattr(os, "link", link_after_a_delete)
    backend.put("a/b/key", BODY, sha256=SHA256)
    assert raced
    assert backend.get("a/b/key") == BODY


def test_puts_and_deletes_in_one_folder_at_once(backend: LocalBackend) -> None:
    def put_and_delete(number: int) -> None:
        for turn in range(20):
            key = f"a/b/{number}-{turn}"
            backend.put(key, BODY, sha256=SHA256)
            backend.delete([key, "a/b/missing"])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(put_and_delete, range(3)))
    assert list(backend.list()) == []


def test_symbolic_links_are_not_followed(backend: LocalBackend, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    root.mkdir(parents=True)
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    assert list(backend.list()) == []
    for key in ("folder/secret", "file"):
        with pytest.raises(ObjectNotFound):  # a listing has no links either, and any other error would end pgstow gc
            backend.get(key)
    with pytest.raises(StorageError, match="symbolic link"):
        backend.put("folder/new", BODY, sha256=SHA256)
    with pytest.raises(StorageError, match="symbolic link"):
        backend.delete(["folder/secret"])
    assert (outside / "secret").exists()


def test_a_link_that_comes_in_a_folders_place_is_not_followed(
    backend: LocalBackend, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who may write to the folder can replace it by a link after pgstow looked at it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/key").write_bytes(b"secret")
    backend.put("folder/key", BODY, sha256=SHA256)
    realpath = os.path.realpath

    def replace_afterwards(path: Path) -> str:
        found = realpath(path)
        if not (root / "folder").is_symlink():
            (root / "folder").rename(root / "aside")
            (root / "folder").symlink_to(tmp_path / "outside")
        return found

    for attempt in (
        lambda: backend.put("folder/new", BODY, sha256=SHA256),
        lambda: backend.delete(["folder/key"]),
    ):
        monkeypatch.setattr(os.path, "realpath", replace_afterwards)
        with pytest.raises(StorageError):
            attempt()
        assert files_below(tmp_path / "outside") == {"key"}
        monkeypatch.undo()
        (root / "folder").unlink()
        (root / "aside").rename(root / "folder")
    assert backend.get("folder/key") == BODY


def test_a_root_that_is_a_symbolic_link_is_followed(root: Path, tmp_path: Path, backend: LocalBackend) -> None:
    root.mkdir(parents=True)
    (tmp_path / "link").symlink_to(root)
    linked = LocalBackend(tmp_path / "link")
    linked.put("key", BODY, sha256=SHA256)
    assert backend.get("key") == BODY
    assert linked.url == backend.url


def test_only_a_put_makes_the_root(backend: LocalBackend, root: Path) -> None:
    """A mistyped path is an error. It must not look like a store without backups."""
    with pytest.raises(BucketNotFound, match="there is no folder"):
        list(backend.list())
    with pytest.raises(BucketNotFound, match="there is no folder"):
        backend.delete(["key"])
    assert not root.exists()
    backend.put("key", BODY, sha256=SHA256)
    assert [info.key for info in backend.list()] == ["key"]


def test_a_volume_that_is_unmounted_leaves_a_folder_that_is_not_the_root(backend: LocalBackend, root: Path) -> None:
    """Otherwise, the rest of a backup and its manifest would go to the disk below the mount point."""
    backend.put("key", BODY, sha256=SHA256)
    root.rename(root.with_name("volume"))
    root.mkdir()
    for attempt in (
        lambda: backend.put("other", BODY, sha256=SHA256),
        lambda: backend.get("key"),
        lambda: backend.head("key"),
        lambda: list(backend.list()),
    ):
        with pytest.raises(BucketNotFound, match="no longer the same; check that its volume is mounted"):
            attempt()
    assert not list(root.iterdir())


def test_a_root_that_went_away(root: Path) -> None:
    root.mkdir(parents=True)
    backend = LocalBackend(root)
    root.rmdir()
    with pytest.raises(BucketNotFound, match="no longer exists"):
        backend.put("key", BODY, sha256=SHA256)
    with pytest.raises(BucketNotFound, match="no longer exists"):
        list(backend.list())
    with pytest.raises(BucketNotFound, match="no longer exists"):
        backend.get("key")
    assert not root.exists()


def test_a_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        LocalBackend(tmp_path / "file")


def test_an_object_is_no_folder(backend: LocalBackend) -> None:
    backend.put("a", BODY, sha256=SHA256)
    with pytest.raises(StorageError, match="a/b"):
        backend.put("a/b", BODY, sha256=SHA256)
    with pytest.raises(ObjectNotFound):
        backend.get("a/b")


def test_a_root_that_vanishes_while_it_is_listed_is_no_short_listing(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "root")
    for key in ("a/1", "b/1"):
        backend.put(key, b"", sha256=hashlib.sha256(b"").digest())
    listing = backend.list()
    assert next(listing).key == "a/1"
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    with pytest.raises(BucketNotFound, match="no longer exists"):
        list(listing)
    (tmp_path / "root").mkdir()
    with pytest.raises(BucketNotFound, match="no longer the same"):
        list(backend.list())


def test_whatever_names_times_and_depths_there_are_a_listing_tells_of_the_rest(
    backend: LocalBackend, root: Path
) -> None:
    for key in ("a", "b/c", "z"):
        backend.put(key, BODY, sha256=SHA256)
    (root / os.fsdecode(b"n\xe9")).write_bytes(BODY)
    (root / "n\nl").write_bytes(BODY)
    os.utime(root / "a", (2**62, 2**62))
    os.utime(root / "z", (-(2**40), -(2**40)))
    deep = os.open(root, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    listed = [info.key for info in backend.list()]
    assert [key for key in listed if is_key(key)] == ["a", "b/c", "z"]
    assert [key[-6:] for key in listed if not is_key(key)] == ["/d/d/d/"[-6:], "n\nl", "n\\xe9"]
    for _ in range(1100):  # too deep for most programs that remove folders
        (root / "d").rename(root / "e")
        if not (root / "e" / "d").exists():
            break
        (root / "e" / "d").rename(root / "d")
        (root / "e").rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_who_knows_a_key_need_not_be_allowed_to_list_its_folders() -> None:
    with tempfile.TemporaryDirectory(prefix="pgstow-tests-") as name:
        backend = LocalBackend(Path(name))
        backend.put("a/b/c", BODY, sha256=SHA256)
        for path in (Path(name), Path(name, "a"), Path(name, "a/b"), Path(name, "a/b/c")):
            path.chmod(0o711 if path.is_dir() else 0o644)
        os.seteuid(NOBODY)
        try:
            assert backend.get("a/b/c") == BODY
            with pytest.raises(StorageError, match="Permission denied"):
                list(backend.list())
        finally:
            os.seteuid(0)


def test_a_listing_tells_a_file_that_was_replaced_with_the_same_size_and_time(
    backend: LocalBackend, root: Path, tmp_path: Path
) -> None:
    backend.put("a", b"one", sha256=hashlib.sha256(b"one").digest())
    [before] = backend.list()
    (forged := tmp_path / "forged").write_bytes(b"two")
    status = (root / "a").stat()
    os.utime(forged, ns=(status.st_atime_ns, status.st_mtime_ns))
    forged.replace(root / "a")
    [after] = backend.list()
    assert (after.size, after.modified) == (before.size, before.modified)
    assert after.etag != before.etag
