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
from storage_backends.open import EMULATOR, endpoint_of, is_folder, looks_first, open_backend, place_of

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
    "place_of",
]
