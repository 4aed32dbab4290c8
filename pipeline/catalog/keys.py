"""The keys of a store's objects, and the names within the keys.

Names of clusters and databases come from outside, and may hold anything that PostgreSQL allows. So each name is percent-encoded (RFC 3986)
into one segment of a key.
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from pipeline.errors import InvalidRequest, ManifestInvalid
from storage_backends.keys import is_key

MANIFESTS = "manifests/"
DATA = "data/"
ATTESTATIONS = "attestations/"
PRUNED = "pruned/"
KEYS = "keys/"
CHECKSUMS_NAME = "SHA256SUMS"
SIGNATURE_SUFFIX = ".sig"
"""A manifest's key and this suffix make the key of its detached signature."""

GLOBALS = "@globals"
"""The database name in the keys of a backup of a cluster's roles and tablespaces."""
CLUSTER = "@cluster"
"""The database name in the keys of a backup of a whole cluster."""
_CHECK = "@check"
RESERVED = frozenset({GLOBALS, CLUSTER, _CHECK})

_BACKUP_ID = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z-[0-9a-f]{6}")
_ATTESTATION_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.json")
_KEY_OBJECT_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.age")


def new_backup_id(now: datetime) -> str:
    """Return an ID that sorts by time and is unique without coordination, such as ``20261123T020000Z-7f3a9c``."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def begun_at(backup_id: str) -> datetime:
    """Return the time when the backup with this ID began: in UTC, in whole seconds, by its machine's clock.

    Raises ValueError if the text is not a backup ID.
    """
    if (match := _BACKUP_ID.fullmatch(backup_id)) is None:
        raise ValueError(f"{backup_id!r} is not a backup ID")
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
    """Return the name of a cluster or database, encoded as one segment of a key. Raises InvalidRequest if it is not valid Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise InvalidRequest(f"{name!r} can't be a cluster's or database's name: it is not valid Unicode.") from exc
    return {".": "%2E", "..": "%2E%2E"}.get(name) or quote(name, safe="")


def check_name(database: str) -> str:
    """Return the name of a database to back up, unchanged. Raises InvalidRequest if pgstow reserves the name."""
    if database in RESERVED:
        raise InvalidRequest(f"A database named {database} can't be backed up: pgstow keeps that name for itself.")
    return database


def decode_name(segment: str) -> str:
    """Return the name that :func:`encode_name` turns into this segment. Raises ManifestInvalid if there is no such name."""
    try:
        name = unquote(segment)
        if name and encode_name(name) == segment:
            return name
    except InvalidRequest:
        pass
    raise ManifestInvalid(f"The store holds a manifest under {segment!r}, which is not a name that pgstow writes.")


def is_odd(key: str) -> bool:
    """True if a key under :data:`MANIFESTS` looks like a manifest's, with a backup ID and ``.json``, but pgstow writes no such key."""
    return key.endswith(".json") and bool(_BACKUP_ID.search(key)) and BackupRef.of_manifest_key(key) is None


def is_foreign(key: str) -> bool:
    """True if pgstow writes no such key under :data:`MANIFESTS`, and the key is neither odd nor a folder's.

    Other clients make folders by objects whose keys end in a slash.
    """
    return BackupRef.of_key(key) is None and not (is_odd(key) or is_of_check(key) or key.endswith("/"))


def is_attestation_name(name: str) -> bool:
    """True if pgstow gives ``name``, the last part of a key, to an attestation."""
    return _ATTESTATION_NAME.fullmatch(name) is not None


def is_key_object_name(name: str) -> bool:
    """True if pgstow gives ``name``, the last part of a key, to a key object."""
    return _KEY_OBJECT_NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class BackupRef:
    """The names that identify a backup. The properties for keys raise InvalidRequest if a name is not valid Unicode."""

    cluster: str
    database: str
    backup_id: str

    @property
    def manifest_key(self) -> str:
        """The key of the backup's manifest."""
        return f"{manifests_prefix(self.cluster, self.database)}{self.backup_id}.json"

    @property
    def data_prefix(self) -> str:
        """The prefix of the keys of all objects that the backup wrote."""
        return f"{data_prefix(self.cluster, self.database)}{self.backup_id}/"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The prefixes of the keys of the backup's signature, attestations and data.

        The other objects of a backup are its manifest and, if it is sealed, its key objects (:attr:`keys_prefix`).
        """
        return (self.manifest_key + SIGNATURE_SUFFIX, self.attestations_prefix, self.data_prefix)

    @property
    def attestations_prefix(self) -> str:
        """The prefix of the keys of the backup's attestations."""
        return f"{attestations_prefix(self.cluster, self.database)}{self.backup_id}/"

    @property
    def tombstone_key(self) -> str:
        """The key of the signed statement that the backup was removed."""
        return f"{tombstones_prefix(self.cluster, self.database)}{self.backup_id}.json"

    def attestation_key(self, moment: datetime) -> str:
        """Return the key of an attestation that was finished at ``moment``. The keys of one backup sort by time."""
        return f"{self.attestations_prefix}{moment.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.json"

    @property
    def keys_prefix(self) -> str:
        """The prefix of the keys of the key objects of the epoch that this backup began."""
        return f"{keys_prefix(self.cluster, self.database)}{self.backup_id}/"

    def key_object_key(self, moment: datetime) -> str:
        """Return the key of a key object that was made at ``moment``. Within an epoch, these keys sort by time."""
        return f"{self.keys_prefix}{moment.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}.age"

    @classmethod
    def of_manifest_key(cls, key: str) -> "BackupRef | None":
        """Return the backup whose manifest has this key; None if pgstow never gives the key to a manifest."""
        return cls._of_document(key, MANIFESTS)

    @classmethod
    def of_tombstone_key(cls, key: str) -> "BackupRef | None":
        """Return the backup whose tombstone has this key; None if pgstow never gives the key to a tombstone."""
        return cls._of_document(key, PRUNED)

    @classmethod
    def _of_document(cls, key: str, folder: str) -> "BackupRef | None":
        parts = key.removesuffix(".json").split("/")
        if len(parts) != 4 or not (key.startswith(folder) and key.endswith(".json") and is_key(key)):
            return None
        return cls._of_parts(parts)

    @classmethod
    def of_key(cls, key: str) -> "BackupRef | None":
        """Return the backup of an object with this key: data, an attestation, a key object, a manifest or a manifest's signature.

        Return None if pgstow gives the key to no such object.
        """
        if key.startswith(MANIFESTS):
            return cls.of_manifest_key(key.removesuffix(SIGNATURE_SUFFIX))
        parts = key.split("/")
        if not key.startswith((DATA, ATTESTATIONS, KEYS)) or len(parts) != 5 or not parts[4]:
            return None
        # No backup has objects if the names leave no room for the longest of its prefixes, and a key below it.
        longest = f"{MANIFESTS}{'/'.join(parts[1:4])}.json{SIGNATURE_SUFFIX}x"
        return cls._of_parts(parts) if is_key(longest) else None

    @classmethod
    def _of_parts(cls, parts: Sequence[str]) -> "BackupRef | None":
        """Return the backup named by the second to fourth parts of a key; None if pgstow writes no such key."""
        _, cluster, database, backup_id, *_ = parts
        if not is_backup_id(backup_id):
            return None
        try:
            return cls(decode_name(cluster), decode_name(database), backup_id)
        except ManifestInvalid:
            return None


def owners(keys: Iterable[str], cluster: str, database: str) -> frozenset[BackupRef]:
    """Return the backups that wrote the objects of data with these keys.

    Raises ValueError for a key that isn't a data object's of this database. Raises InvalidRequest if a name is not valid Unicode.
    """
    own = f"{DATA}{encode_name(cluster)}/{encode_name(database)}/"
    found: dict[str, BackupRef] = {}
    for key in keys:
        folder, _, name = key.rpartition("/")
        if folder not in found:
            backup_id = folder.removeprefix(own)
            if not folder.startswith(own) or not is_backup_id(backup_id):
                raise ValueError(f"the object {key} lies outside of {own}")
            found[folder] = BackupRef(cluster, database, backup_id)
        if not name:
            raise ValueError(f"the object {key} lies outside of {own}")
    return frozenset(found.values())


def check_prefixes(cluster: str) -> tuple[str, str, str]:
    """Return the prefixes for the test objects of ``pgstow check``: under data, under manifests and under key objects.

    The keys look like the keys of a database ``@check``. They don't end in ``.json``, so no test object is taken for a manifest. Raises
    InvalidRequest if the cluster's name is not valid Unicode.
    """
    database = f"{encode_name(cluster)}/{encode_name(_CHECK)}/"
    return f"{DATA}{database}", f"{MANIFESTS}{database}", f"{KEYS}{database}"


def is_of_check(key: str) -> bool:
    """True if the key belongs to a test object of ``pgstow check``."""
    return key.split("/")[2:3] == [encode_name(_CHECK)]


def manifests_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """Return the prefix of the keys of all manifests, of a cluster's manifests, or of one database's manifests."""
    return MANIFESTS + _below(cluster, database)


def data_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """Return the prefix of the keys of data: of all backups, of a cluster's backups, or of one database's backups."""
    return DATA + _below(cluster, database)


def attestations_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """Return the prefix of the keys of attestations: of all backups, of a cluster's backups, or of one database's backups."""
    return ATTESTATIONS + _below(cluster, database)


def tombstones_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """Return the prefix of the keys of tombstones: of all backups, of a cluster's backups, or of one database's backups."""
    return PRUNED + _below(cluster, database)


def keys_prefix(cluster: str | None = None, database: str | None = None) -> str:
    """Return the prefix of the keys of key objects: of all backups, of a cluster's backups, or of one database's backups."""
    return KEYS + _below(cluster, database)


def _below(cluster: str | None, database: str | None) -> str:
    if cluster is None:
        return ""
    return f"{encode_name(cluster)}/" + (f"{encode_name(database)}/" if database is not None else "")
