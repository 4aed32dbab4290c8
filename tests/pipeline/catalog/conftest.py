import json

import pytest
from support.manifest_store import ManifestStore
from support.stored_sample import StoredSample


@pytest.fixture
def manifest_store(stored_sample: StoredSample) -> ManifestStore:
    """An empty store."""
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    return ManifestStore(json.loads(path.read_bytes()))
