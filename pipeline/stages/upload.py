"""Uploads objects to a store. Each object is created only once, and the store checks its content on arrival."""

import hashlib
from datetime import datetime

from pipeline.catalog.manifest import StoredObject
from storage_backends import Body, StorageBackend


def upload(store: StorageBackend, key: str, body: Body) -> StoredObject:
    """Create one object. Return its description for the manifest. Raises ObjectAlreadyExists if the key is taken, or another StorageError."""
    stored, _ = upload_timed(store, key, body)
    return stored


def upload_timed(store: StorageBackend, key: str, body: Body) -> tuple[StoredObject, datetime]:
    """Create one object. Return its description for the manifest, and its time of creation (:attr:`ObjectInfo.modified`).

    Raises StorageError.
    """
    digest = hashlib.sha256(body)
    info = store.put(key, body, sha256=digest.digest())
    stored = StoredObject(
        key=key, size=info.size, sha256=digest.hexdigest(), checksum=info.checksum, version=info.version
    )
    return stored, info.modified
