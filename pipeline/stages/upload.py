"""Objects to a store: created once, and checked by the store as they arrive."""

import hashlib
from datetime import datetime

from pipeline.catalog.manifest import StoredObject
from storage_backends import Body, StorageBackend


def upload(store: StorageBackend, key: str, body: Body) -> StoredObject:
    """Create one object. Raises StorageError, ObjectAlreadyExists among others."""
    stored, _ = upload_timed(store, key, body)
    return stored


def upload_timed(store: StorageBackend, key: str, body: Body) -> tuple[StoredObject, datetime]:
    """Create one object. Return when it was created, by the store's clock, in UTC. Raises StorageError."""
    digest = hashlib.sha256(body)
    info = store.put(key, body, sha256=digest.digest())
    stored = StoredObject(
        key=key, size=info.size, sha256=digest.hexdigest(), checksum=info.checksum, version=info.version
    )
    return stored, info.modified
