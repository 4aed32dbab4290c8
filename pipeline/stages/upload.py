"""Objects to a store: created once, and checked by the store as they arrive."""

import hashlib

from pipeline.manifest import StoredObject
from storage_backends import Body, StorageBackend


def upload(store: StorageBackend, key: str, body: Body) -> StoredObject:
    """Create one object. Raises StorageError, ObjectAlreadyExists among others."""
    digest = hashlib.sha256(body)
    info = store.put(key, body, sha256=digest.digest())
    return StoredObject(
        key=key, size=info.size, sha256=digest.hexdigest(), checksum=info.checksum, version=info.version
    )
