import threading
from datetime import timedelta
from pathlib import Path

import pytest
from support.counting_store import CountingStore
from support.shelf import BackupBuilder

from pipeline.catalog.attestation import latest_attestations
from pipeline.catalog.reading import read_each
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend


def test_only_a_folder_is_read_without_threads(tmp_path: Path) -> None:
    for store, is_folder in ((LocalBackend(tmp_path), True), (MemoryBackend(), False)):
        found = dict(read_each(store, lambda _: threading.get_ident(), range(20), name="number"))
        assert sorted(found) == list(range(20))
        assert (set(found.values()) == {threading.get_ident()}) is is_folder


def test_a_failure_is_raised(tmp_path: Path) -> None:
    for store in (LocalBackend(tmp_path), MemoryBackend()):
        with pytest.raises(ZeroDivisionError):
            list(read_each(store, lambda number: 1 // number, range(20), name="number"))


def test_the_attestations_in_a_folder_are_read_without_threads(tmp_path: Path) -> None:
    threads = set[int]()

    class Watched(CountingStore):
        def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
            threads.add(threading.get_ident())
            return super().get(key, offset=offset, length=length, at_most=at_most)

    shelf = BackupBuilder(LocalBackend(tmp_path))
    refs = [shelf.add(timedelta()) for _ in range(5)]
    for ref in refs:
        shelf.attest(ref)
    digests = {ref: shelf.digest(ref) for ref in refs}
    found = latest_attestations(Watched(shelf.store), digests, None, None, lambda _: None)
    assert found is not None
    assert set(found) == set(refs)
    assert threads == {threading.get_ident()}
