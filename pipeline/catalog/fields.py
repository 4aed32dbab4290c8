"""The types of the fields in manifests and attestations."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from pipeline.catalog.canonical_json import brief
from pipeline.catalog.keys import begun_at
from storage_backends import StorageError
from storage_backends.keys import check_key

MOST = 2**63 - 1
"""The largest number in a document, as in PostgreSQL's bigint."""
_EARLIEST = 1970
_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
"""The name of a file in an archive: pg_dump names the files of the directory format, and pgstow names the single file of other formats."""


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs a time zone")
    try:
        moment = moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("a time in UTC must be in the years up to 9999") from exc
    if moment.year < _EARLIEST:
        raise ValueError(f"a time must not be before {_EARLIEST}")
    return moment


def _check_path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError(f"{brief(path)!r} is not the name of a file in an archive")
    return path


def _check_object_key(key: str) -> str:
    try:
        check_key(key)
    except StorageError as exc:
        raise ValueError(str(exc)) from exc
    return key


def _check_backup_id(backup_id: str) -> str:
    begun_at(backup_id)
    return backup_id


Count = Annotated[int, Field(ge=0, le=MOST)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, in hexadecimal")]
Checksum = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the content, in hexadecimal; HMAC-SHA-256 if the backup is sealed",
    ),
]
Moment = Annotated[
    datetime,
    AfterValidator(_in_utc),
    PlainSerializer(lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z", return_type=str),
    Field(description="RFC 3339, in UTC"),
]
ArchivePath = Annotated[str, AfterValidator(_check_path), Field(description="Name in the archive's folder")]
ObjectKey = Annotated[
    str, AfterValidator(_check_object_key), Field(description="Full key, relative to the store's URL")
]
BackupId = Annotated[
    str,
    AfterValidator(_check_backup_id),
    Field(description="The time when the backup began, in UTC, and six random digits: 20261123T020000Z-7f3a9c"),
]
