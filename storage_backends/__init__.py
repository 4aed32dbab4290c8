"""Object stores behind one contract. Nothing here knows of PostgreSQL."""

from storage_backends.backend import Body, ObjectInfo, StorageBackend
from storage_backends.errors import (
    AccessDenied,
    BucketNotFound,
    ChecksumMismatch,
    CredentialsMissing,
    InvalidStorageURL,
    ObjectAlreadyExists,
    ObjectLocked,
    ObjectNotFound,
    ObjectTooLarge,
    RangeNotSatisfiable,
    StorageError,
    TransientStorageError,
)
from storage_backends.lazy import open_now
from storage_backends.open import open_backend
from storage_backends.places import EMULATOR, endpoint_of, is_folder, looks_first, place_of

__all__ = [
    "EMULATOR",
    "AccessDenied",
    "Body",
    "BucketNotFound",
    "ChecksumMismatch",
    "CredentialsMissing",
    "InvalidStorageURL",
    "ObjectAlreadyExists",
    "ObjectInfo",
    "ObjectLocked",
    "ObjectNotFound",
    "ObjectTooLarge",
    "RangeNotSatisfiable",
    "StorageBackend",
    "StorageError",
    "TransientStorageError",
    "endpoint_of",
    "is_folder",
    "looks_first",
    "open_backend",
    "open_now",
    "place_of",
]
