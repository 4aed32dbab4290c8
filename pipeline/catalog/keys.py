"""Where things lie in a store: the keys, and the names that are in them.

Cluster and database names come from outside and may hold anything that PostgreSQL allows, so they are percent-encoded (RFC 3986) into
one segment of a key each.
"""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from pipeline.errors import InvalidRequest, ManifestInvalid

MANIFESTS = "manifests/"
DATA = "data/"
ATTESTATIONS = "attestations/"
CHECKSUMS_NAME = "SHA256SUMS"
SIGNATURE_SUFFIX = ".sig"
"""After a manifest's key, that of its detached signature."""

GLOBALS = "@globals"
"""Roles and tablespaces of a cluster are filed as if they were a database of this name,"""
CLUSTER = "@cluster"
"""and the record of all of a cluster's databases under this one."""
_CHECK = "@check"
RESERVED = frozenset({GLOBALS, CLUSTER, _CHECK})

_BACKUP_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z-[0-9a-f]{6}")
_ATTESTATION_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.json")


def new_backup_id(now: datetime) -> str:
    """An ID that sorts by time and needs no coordination, such as ``20261123T020000Z-7f3a9c``."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def begun_at(backup_id: str) -> datetime:
    """Return when the backup with this ID began, in whole seconds, by its machine's clock. Raises ValueError for other text."""
    if (match := _BACKUP_ID.fullmatch(backup_id)) is None:
        raise ValueError(f"{backup_id!r} is no backup ID")
    year, month, day, hour, minute, second = map(int, match.groups())
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC)


def is_backup_id(text: str) -> bool:
    """True if ``text`` is a backup ID, with a time that exists."""
    try:
        begun_at(text)
    except ValueError:
        return False
    return True


def encode_name(name: str) -> str:
    """A cluster's or database's name as one segment of a key. Raises InvalidRequest where it is not valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"{name!r} can't be a cluster's or database's name: it is not valid Unicode.") from exc
    return {".": "%2E", "..": "%2E%2E"}.get(name) or quote(name, safe="")


def check_name(database: str) -> str:
    """The name of a database to back up. Raises InvalidRequest where it is one that pgstow keeps for itself."""
    if database in RESERVED:
        raise InvalidRequest(f"A database named {database} can't be backed up: pgstow keeps that name for itself.")
    return database


def decode_name(segment: str) -> str:
    """The name that :func:`encode_name` put into a key. Raises ManifestInvalid on what it can't have made."""
    try:
        name = unquote(segment)
        if name and encode_name(name) == segment:
            return name
    except InvalidRequest:
        pass
    raise ManifestInvalid(f"The store holds a manifest under {segment!r}, which is not a name that pgstow writes.")


def is_odd(key: str) -> bool:
    """True if a key under manifests has a backup ID and ends like a manifest's, but pgstow gives it to no manifest."""
    return key.endswith(".json") and bool(_BACKUP_ID.search(key)) and BackupRef.of_manifest_key(key) is None


def is_foreign(key: str) -> bool:
    """True if a key under manifests has nothing of pgstow's. Clients of a store make keys with a slash at the end, which stand for folders."""
    return BackupRef.of_key(key) is None and not (is_odd(key) or is_of_check(key) or key.endswith("/"))


def is_attestation_name(name: str) -> bool:
    """True if ``name``, the last part of a key, is one that pgstow gives to an attestation."""
    return _ATTESTATION_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class BackupRef:
    """Which backup: all that its keys are made of."""

    cluster: str
    database: str
    backup_id: str

    @property
    def manifest_key(self) -> str:
        """The key of its commit record."""
        return f"{manifests_prefix(self.cluster, self.database)}{self.backup_id}.json"

    @property
    def data_prefix(self) -> str:
        """What the keys of the objects that this backup wrote begin with."""
        return f"{DATA}{encode_name(self.cluster)}/{encode_name(self.database)}/{self.backup_id}/"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the keys begin with of all that was stored for this backup, apart from its manifest."""
        return (self.manifest_key + SIGNATURE_SUFFIX, self.attestations_prefix, self.data_prefix)

    @property
    def attestations_prefix(self) -> str:
        """What the keys of the attestations of this backup begin with."""
        return f"{attestations_prefix(self.cluster, self.database)}{self.backup_id}/"

    def attestation_key(self, moment: datetime) -> str:
        """The key of what was attested then; the keys of one backup sort by time."""
        return f"{self.attestations_prefix}{moment.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.json"

    @classmethod
    def of_manifest_key(cls, key: str) -> "BackupRef | None":
        """The backup whose commit record has this key; None where the key is not a commit record's."""
        parts = key.removesuffix(".json").split("/")
        return cls._of_parts(parts) if len(parts) == 4 and key.endswith(".json") else None

    @classmethod
    def of_key(cls, key: str) -> "BackupRef | None":
        """The backup that an object was stored for, of whatever kind: data, an attestation, a manifest or its signature.

        None where the key isn't one that pgstow gives to any of these.
        """
        if key.startswith(MANIFESTS):
            return cls.of_manifest_key(key.removesuffix(SIGNATURE_SUFFIX))
        parts = key.split("/")
        if not key.startswith((DATA, ATTESTATIONS)) or len(parts) != 5 or not parts[4]:
            return None
        return cls._of_parts(parts)

    @classmethod
    def _of_parts(cls, parts: Sequence[str]) -> "BackupRef | None":
        """Return the backup that a key's second to fourth part name; None if pgstow writes no such key."""
        _, cluster, database, backup_id, *_ = parts
        if not is_backup_id(backup_id):
            return None
        try:
            return cls(decode_name(cluster), decode_name(database), backup_id)
        except ManifestInvalid:
            return None


def check_prefixes(cluster: str) -> tuple[str, str]:
    """Under data and under manifests, what the keys begin with of the objects by which ``pgstow check`` tries the store.

    They look like those of a database ``@check``. None is a manifest: their names don't end in ``.json``.
    """
    database = f"{encode_name(cluster)}/{encode_name(_CHECK)}/"
    return f"{DATA}{database}", f"{MANIFESTS}{database}"


def is_of_check(key: str) -> bool:
    """True if the key is of an object with which ``pgstow check`` tries the store."""
    return key.split("/")[2:3] == [encode_name(_CHECK)]


def manifests_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """What the keys of the manifests of a cluster, or of one database of it, begin with."""
    return MANIFESTS + _below(cluster, database)


def attestations_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """What the keys of attestations of a cluster's backups, or of those of one database of it, begin with."""
    return ATTESTATIONS + _below(cluster, database)


def _below(cluster: str | None, database: str | None) -> str:
    if cluster is None:
        return ""
    return f"{encode_name(cluster)}/" + (f"{encode_name(database)}/" if database is not None else "")
