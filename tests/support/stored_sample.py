"""A backup of the sample database, made once, for tests that read or damage a copy of it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.pgstow import PGSTOW, run_pgstow

from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import File, Manifest, StoredObject
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.local import LocalBackend

OBJECT_SIZE = 64 * 1024
"""Bytes of the largest object. It is as small as possible, so that the sample fills slices, packs, and segments of several frames."""


@dataclass(frozen=True)
class StoredSample:
    """A local store that holds one backup, and the database that was backed up."""

    folder: Path
    """The store's folder."""
    source: str
    """The database's conninfo. Tests must only read the database."""

    @property
    def manifest(self) -> Manifest:
        """The backup's manifest, read from the store."""
        return find_backup(self.store, BackupSelector())

    @property
    def store(self) -> LocalBackend:
        """The store as pgstow opens it."""
        return LocalBackend(self.folder)

    def path(self, stored: StoredObject) -> Path:
        """Return the path of an object's file."""
        return self.folder / stored.key

    def table(self, name: str) -> File:
        """Return the file of a table in the manifest. ``name`` is ``schema.table``. Raises ValueError if there is none."""
        [file] = [file for file in self.manifest.files if f"{file.schema_name}.{file.relation}" == name]
        return file

    def objects_of(self, name: str) -> list[StoredObject]:
        """Return the objects that hold a table's data, in order."""
        manifest = self.manifest
        return [manifest.objects[segment.object] for segment in self.table(name).segments]


@pytest.fixture(scope="session")
def _stored_once(
    postgres: ThrowawayCluster, _sample_template: str, tmp_path_factory: pytest.TempPathFactory
) -> StoredSample:
    folder = tmp_path_factory.mktemp("stored-sample")
    source = postgres.conninfo(_sample_template)
    made = run_pgstow(
        "backup", source, "--to", folder, "--cluster", "prod", "--object-size", OBJECT_SIZE, "--jobs", 2, "--quiet"
    )
    assert made.exit_code == 0, (PGSTOW, made)
    return StoredSample(folder, source)


@pytest.fixture
def stored_sample(_stored_once: StoredSample, tmp_path: Path) -> StoredSample:
    """The sample's backup in the test's own store, which the test may damage."""
    folder = tmp_path / "stored-sample"
    shutil.copytree(_stored_once.folder, folder)
    return StoredSample(folder, _stored_once.source)


@pytest.fixture
def spool_dir() -> Iterator[Path]:
    """A folder for the spools and throwaway servers of a test's runs of pgstow. The test fails if something is left in the folder.

    The folder isn't in pytest's own folder, which a server's user may not enter if root runs the tests.
    """
    with TemporaryDirectory(prefix="pgstow-tests-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        assert not list(folder.iterdir())
