"""What every backend checks of what it is given, in the same words."""

import hashlib

from storage_backends.backend import Body
from storage_backends.errors import ChecksumMismatch, RangeNotSatisfiable


def check_body(where: str, body: Body, sha256: bytes) -> None:
    """Raise ChecksumMismatch unless ``sha256`` is the digest of ``body``; for stores that can't check it themselves."""
    if hashlib.sha256(body).digest() != sha256:
        raise ChecksumMismatch(f"{where} was not written: its bytes are not those that its SHA-256 was taken of")


def check_range(where: str, size: int, offset: int, length: int | None) -> int:
    """The end of the range in an object of ``size`` bytes, or RangeNotSatisfiable where it reaches beyond it."""
    end = size if length is None else offset + length
    if not 0 <= offset <= end <= size:
        raise RangeNotSatisfiable(f"{where} has {size} bytes, not a range from {offset} to {end}")
    return end
