"""Objects that claim to be small and decompress to far more: no reader takes more than the manifest says, nor much memory."""

import hashlib
import resource
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.manifests import edit_manifest
from support.pgstow import disk_use
from support.stored_sample import StoredSample

from pipeline.archive.reader import open_archive
from pipeline.catalog.attestation import Level, latest_attestations
from pipeline.catalog.find import BackupSelector, find_stored
from pipeline.catalog.listing import list_manifests
from pipeline.catalog.reader import read_catalog
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import BackupDamaged, InvalidRequest
from pipeline.restore.export import ExportRequest, export
from pipeline.restore.extract import ExtractRequest, extract
from pipeline.restore.show_toc import show_toc
from pipeline.trust.seal import Keys
from pipeline.verify.backup import verify
from pipeline.verify.request import VerifyRequest
from storage_backends import StorageBackend

MIB = 1024 * 1024
BOMB_SIZE = 600 * MIB
MOST = 64 * MIB
"""The bytes of memory that a reader may use for a backup of 2 MiB."""


def bomb() -> bytes:
    """19 KiB that decompress to 600 MiB."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    parts = [compressor.compress(bytes(MIB)) for _ in range(BOMB_SIZE // MIB)]
    return b"".join([*parts, compressor.flush()])


@pytest.fixture(scope="module")
def body() -> bytes:
    made = bomb()
    assert len(made) < 64 * 1024
    return made


def plant(stored: StoredSample, path: str, body: bytes, size: int, length: int | None = None) -> None:
    """Store ``body`` as an object, and change the manifest to say that this object holds the file ``path``.

    In the manifest, the file has ``size`` bytes, and the object has ``length`` bytes. Without ``length``, the object's size is true.
    """

    def change(content: dict[str, Any]) -> None:
        [file] = [file for file in content["files"] if file["path"] == path]
        prefix = content["objects"][0]["key"].rpartition("/")[0]
        key = f"{prefix}/bomb.zst"
        (stored.folder / key).write_bytes(body)
        digest = hashlib.sha256(body).hexdigest()
        content["objects"].append(
            {"key": key, "size": length or len(body), "sha256": digest, "checksum": None, "version": None}
        )
        number = len(content["objects"]) - 1
        file["size"] = size
        file["segments"] = [{"object": number, "offset": 0, "length": length or len(body), "size": size}]

    edit_manifest(stored.folder, change)


def table_of(stored: StoredSample) -> str:
    return max((file for file in stored.manifest.files if file.kind == "table"), key=lambda file: file.size).path


Reader = Callable[[StorageBackend, Path], object]


def _verify(level: Level) -> Reader:
    def read(store: StorageBackend, folder: Path) -> None:
        request = VerifyRequest(level, limits=Limits(spool_parent=folder, memory=32 * MIB))
        found = verify(find_stored(store, BackupSelector()), request, store, lambda _: None)
        if found.problems:
            raise BackupDamaged(found.problems[0])

    return read


def _open(store: StorageBackend, folder: Path) -> None:
    with Workers() as workers:
        open_archive(store, find_stored(store, BackupSelector()).manifest, Keys(), workers, Limits(memory=32 * MIB))


READERS: dict[str, Reader] = {
    "show --toc": lambda store, folder: show_toc(store, find_stored(store, BackupSelector()).manifest, Keys()),
    "restore": _open,
    "to directory": lambda store, folder: extract(
        ExtractRequest(BackupSelector(), folder / "out"), store, lambda _: None
    ),
    "export": lambda store, folder: export(
        ExportRequest(BackupSelector(), format="directory"), store, BytesIO(), lambda _: None
    ),
    "verify": _verify(Level.ARCHIVE),
}


@pytest.mark.parametrize(
    ("reader", "size"), [*((reader, 1024) for reader in READERS), ("show --toc", 2**50), ("restore", 2**50)]
)
def test_a_bomb_for_a_table_of_contents(
    stored_sample: StoredSample, body: bytes, reader: str, size: int, spool_dir: Path
) -> None:
    plant(stored_sample, "toc.dat", body, size)
    tracemalloc.start()
    with pytest.raises(
        BackupDamaged, match=r"more than the \d+ (bytes that the manifest says|bytes that pgstow reads)"
    ):
        READERS[reader](stored_sample.store, spool_dir)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST
    assert disk_use(spool_dir) < MIB


@contextmanager
def no_large_file() -> Iterator[None]:
    """Have the kernel refuse to write a large file."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * MIB, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("reader", ["to directory", "export", "verify"])
def test_a_bomb_for_a_table(stored_sample: StoredSample, body: bytes, reader: str, spool_dir: Path) -> None:
    plant(stored_sample, table_of(stored_sample), body, 1024)
    tracemalloc.start()
    with no_large_file(), pytest.raises(BackupDamaged, match="more than the 1024 bytes that the manifest says"):
        READERS[reader](stored_sample.store, spool_dir)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST
    assert not list(spool_dir.iterdir())


@pytest.mark.parametrize("level", [Level.BYTES, Level.ARCHIVE])
def test_an_object_that_is_larger_than_it_claims(stored_sample: StoredSample, level: Level, spool_dir: Path) -> None:
    [sums] = stored_sample.folder.rglob("SHA256SUMS")
    with sums.open("r+b") as file:
        file.truncate(2**40)  # takes no disk
    with pytest.raises(BackupDamaged, match=r"SHA256SUMS has more than the \d+ bytes that the manifest says"):
        _verify(level)(stored_sample.store, spool_dir)


@pytest.mark.parametrize("level", [Level.BYTES, Level.ARCHIVE])
def test_an_object_that_claims_more_than_the_memory_holds(
    stored_sample: StoredSample, body: bytes, level: Level, spool_dir: Path
) -> None:
    plant(stored_sample, table_of(stored_sample), body, 1024, length=2**50)
    with pytest.raises(InvalidRequest, match="memory limit must hold two objects"):
        _verify(level)(stored_sample.store, spool_dir)


def test_a_frame_that_wants_a_large_window(stored_sample: StoredSample, spool_dir: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(bytes(1024)) + compressor.flush()
    plant(stored_sample, "toc.dat", frame, 1024)
    with pytest.raises(BackupDamaged, match="does not decompress"):
        _open(stored_sample.store, spool_dir)


def test_documents_that_are_too_long_are_not_read(stored_sample: StoredSample) -> None:
    store, [manifest] = stored_sample.store, list_manifests(stored_sample.store).manifests
    ref = manifest.ref
    long = stored_sample.folder / f"manifests/{ref.cluster}/{ref.database}/20261101T000000Z-aaaaaa.json"
    attested = stored_sample.folder / ref.attestation_key(datetime(2026, 11, 30, tzinfo=UTC))
    attested.parent.mkdir(parents=True)
    for path in (long, attested):
        with path.open("wb") as file:
            file.truncate(2**40)  # takes no disk
    problems = [entry.problem for entry in read_catalog(store, list_manifests(store).manifests, datetime.now(UTC))]
    assert "is longer than" in str(problems[0])
    assert problems[1] is None
    told: list[object] = []
    assert latest_attestations(store, {ref: "0" * 64}, None, None, told.append) == {}
    assert "more than the" in str(told)
