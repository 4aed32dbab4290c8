"""Where things lie in a store: the keys, and the names that are in them.

Cluster and database names come from outside and may hold anything that PostgreSQL allows, so they are percent-encoded (RFC 3986) into
one segment of a key each.
"""

import re
import secrets
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
WHOLE = "@cluster"
"""and the record of all of a cluster's databases under this one."""
_CHECK = "@check"
RESERVED = frozenset({GLOBALS, WHOLE, _CHECK})

_BACKUP_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")


def new_backup_id(now: datetime) -> str:
    """An ID that sorts by time and needs no coordination, such as ``20261123T020000Z-7f3a9c``."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def begun_at(backup_id: str) -> datetime:
    """When the backup of this ID began, by the clock of the machine that made it."""
    return datetime.strptime(backup_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def is_backup_id(text: str) -> bool:
    """Whether ``text`` has the form of a backup ID."""
    return _BACKUP_ID.fullmatch(text) is not None


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
    name = unquote(segment)
    if encode_name(name) != segment:
        raise ManifestInvalid(f"The store holds a manifest under {segment!r}, which is not a name that pgstow writes.")
    return name


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
        if len(parts) != 4 or not key.endswith(".json") or not is_backup_id(parts[3]):
            return None
        return cls(decode_name(parts[1]), decode_name(parts[2]), parts[3])

    @classmethod
    def of_key(cls, key: str) -> "BackupRef | None":
        """The backup that an object was stored for, of whatever kind: data, an attestation, a manifest or its signature.

        None where the key isn't one that pgstow gives to any of these.
        """
        if key.startswith(MANIFESTS):
            return cls.of_manifest_key(key.removesuffix(SIGNATURE_SUFFIX))
        parts = key.split("/")
        if not key.startswith((DATA, ATTESTATIONS)) or len(parts) != 5 or not is_backup_id(parts[3]):
            return None
        try:
            return cls(decode_name(parts[1]), decode_name(parts[2]), parts[3])
        except ManifestInvalid:
            return None


def check_prefixes(cluster: str) -> tuple[str, str]:
    """Under data and under manifests, what the keys begin with of the objects by which ``pgstow check`` tries the store.

    They look like those of a database ``@check``. None is a manifest: their names don't end in ``.json``.
    """
    database = f"{encode_name(cluster)}/{encode_name(_CHECK)}/"
    return f"{DATA}{database}", f"{MANIFESTS}{database}"


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
