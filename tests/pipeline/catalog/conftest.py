import json

import pytest
from support.chain_world import ChainKeys
from support.manifest_store import ManifestStore
from support.stored_sample import StoredSample


@pytest.fixture
def manifest_store(stored_sample: StoredSample) -> ManifestStore:
    """An empty store."""
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    return ManifestStore(json.loads(path.read_bytes()))


@pytest.fixture(scope="session")
def chain_keys(tmp_path_factory: pytest.TempPathFactory) -> ChainKeys:
    """The keys of the machines that back up and that prune, and of a stranger."""
    return ChainKeys.make(tmp_path_factory.mktemp("keys"))
