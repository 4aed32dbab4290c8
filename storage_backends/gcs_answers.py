"""Reads what Google Cloud Storage says about objects, and writes checksums as GCS does."""

import base64
from typing import Any

import google_crc32c

from storage_backends.backend import Body, ObjectInfo
from storage_backends.moments import in_utc

_CRC32C_PIECE = 1024 * 1024


def info_of(key: str, blob: Any) -> ObjectInfo:
    """Return an object's metadata from the SDK's description. Raises the SDK's error if a value makes no sense."""
    # By the object's own retention, and by the bucket's policy.
    until = [moment for moment in (blob.retention.retain_until_time, blob.retention_expiration_time) if moment]
    return ObjectInfo(
        key,
        blob.size,
        in_utc(blob.time_created),
        checksum=checksum_of(blob.crc32c) if blob.crc32c else None,
        version=str(blob.generation),
        retained_until=in_utc(max(until)) if until else None,
        held=bool(blob.temporary_hold or blob.event_based_hold),
    )


def crc32c_of(body: Body) -> str:
    """Return the base64 of the big-endian CRC32C, as GCS writes it."""
    view, crc = memoryview(body).cast("B"), 0
    # The C extension takes bytes alone; a piece at a time, the copies stay small.
    for start in range(0, len(view), _CRC32C_PIECE):
        crc = google_crc32c.extend(crc, bytes(view[start : start + _CRC32C_PIECE]))
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def checksum_of(crc32c: str) -> str:
    """Return GCS's CRC32C in the form of :attr:`ObjectInfo.checksum`."""
    return f"crc32c:{base64.b64decode(crc32c).hex()}"
