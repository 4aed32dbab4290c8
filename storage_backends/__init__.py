"""Where bytes rest: object stores behind one contract. Knows nothing of PostgreSQL."""

from storage_backends.backend import Body, ObjectInfo, StorageBackend
from storage_backends.errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    InvalidStorageURL,
    ObjectAlreadyExists,
    ObjectLocked,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageError,
    TransientStorageError,
)
from storage_backends.open import check_url, open_backend

__all__ = [
    "AccessDenied",
    "Body",
    "BucketNotFound",
    "ChecksumMismatch",
    "InvalidStorageURL",
    "ObjectAlreadyExists",
    "ObjectInfo",
    "ObjectLocked",
    "ObjectNotFound",
    "RangeNotSatisfiable",
    "StorageBackend",
    "StorageError",
    "TransientStorageError",
    "check_url",
    "open_backend",
]
