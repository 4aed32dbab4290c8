"""Examines the store, and finds rights that the credentials have but should not have."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial

from pipeline.catalog.keys import DATA, KEYS, MANIFESTS, check_prefixes
from pipeline.check.finding import Finding, Severity, said
from pipeline.counting import counted
from storage_backends import (
    EMULATOR,
    AccessDenied,
    BucketNotFound,
    CredentialsMissing,
    ObjectAlreadyExists,
    ObjectInfo,
    ObjectNotFound,
    StorageBackend,
    StorageError,
    TransientStorageError,
)
from storage_backends.overwriting import overwrites
from storage_backends.urls import is_plain_text

_PROBE = b'{"pgstow": "Written by pgstow check, to test its credentials. You may delete this object."}\n'
_OTHERS = (b'{"pgstow": "This store lets objects be overwritten."}\n', b'{"pgstow": "And again."}\n')
_PERMISSION = re.compile(r"\b(?:(?:s3|kms):[A-Z][A-Za-z]+|storage\.objects\.[A-Za-z]+)")
"""A permission's name in an error by which S3 or Google Cloud Storage denies access."""
_SKEW = timedelta(minutes=5)
"""The difference of clocks from which on there is a warning. Stores refuse requests if the difference is 15 minutes."""


def examine_store(
    store: StorageBackend, cluster: str, *, looks_first: bool = False, sealed: bool = False
) -> Iterator[Finding]:
    """Yield findings on the store. Each failure of the store is a finding.

    Puts a few small objects with fixed keys, and deletes them if the credentials allow it. ``looks_first`` is true if pgstow asks
    before each put whether the object exists (create_only=look). ``sealed`` is true if the backups are sealed. Raises InvalidRequest if the
    cluster's name is not valid Unicode.
    """
    folders = dict(zip((DATA, MANIFESTS, KEYS) if sealed else (DATA, MANIFESTS), check_prefixes(cluster), strict=False))
    try:
        yield from _examine(store, folders, looks_first=looks_first)
    except StorageError as exc:
        yield Finding("store", Severity.PROBLEM, said(exc), _advice(exc, store))


def find_rights(store: StorageBackend, cluster: str) -> tuple[bool, bool]:
    """Return two truth values: whether the credentials can read a cluster's objects, and whether they can delete them.

    Call this after :func:`examine_store`: if its objects still exist, they are read. Raises StorageError.
    """
    prefixes = check_prefixes(cluster)[:2]
    reads = all(_allowed(partial(store.get, f"{prefix}probe")) for prefix in prefixes)
    deletes = all(_allowed(partial(store.delete, [f"{prefix}nothing"])) for prefix in prefixes)
    return reads, deletes


def judge_endpoint(endpoint: str | None, *, emulator: bool) -> Finding | None:
    """Return a warning if others can listen to the connection, else None.

    ``endpoint`` is None for the vendor's default endpoint. ``emulator`` is true if the environment names an emulator as the endpoint.
    """
    if endpoint is None:
        return None
    if emulator:
        return Finding(
            "encryption",
            Severity.WARNING,
            f"The environment has {EMULATOR}: backups go to {endpoint} instead of Google Cloud Storage, without credentials.",
            f"Unset {EMULATOR}, unless this is a test.",
        )
    if not is_plain_text(endpoint):
        return None
    return Finding(
        "encryption",
        Severity.WARNING,
        f"pgstow reaches the store by {endpoint}, without encryption: an attacker on the network can read the backups and use the credentials.",
        "Give the store a certificate, and an endpoint that begins with https://.",
    )


def _examine(store: StorageBackend, folders: Mapping[str, str], *, looks_first: bool) -> Iterator[Finding]:
    data, manifests = folders[DATA], folders[MANIFESTS]
    probes = {area: f"{folder}probe" for area, folder in folders.items()}
    probe, record, wrong = probes[DATA], probes[MANIFESTS], f"{data}wrong-checksum"
    created, denied = {}, {}
    for area, key in probes.items():
        try:
            created[area] = _create(store, key)
        except CredentialsMissing:
            raise  # other requests would only fail in the same way
        except AccessDenied as exc:
            denied[area] = exc
    yield _judge_creation(store, folders, denied)
    yield from judge_clock(created, datetime.now(UTC))
    if DATA not in denied:
        yield _try_creating_again(store, probe, looks_first=looks_first)
        yield _try_wrong_checksum(store, wrong)
    if store.url.startswith("file:"):
        store.delete([*probes.values(), wrong])
        yield Finding(
            "protection",
            Severity.NOTE,
            "A folder gives no protection against this host: an attacker on the host can read, change and delete the backups.",
            "Keep a copy elsewhere, or store backups in a bucket that locks its objects, with credentials that can only create.",
        )
        return
    yield _try_reading(store, probe, record, manifests)
    yield _try_overwriting(store, {area: key for area, key in probes.items() if area not in denied})
    with suppress(AccessDenied):
        store.delete([*probes.values(), wrong])
    yield _try_deleting(store, folders)


def _create(store: StorageBackend, key: str) -> ObjectInfo | None:
    """Put the probe, and return the store's report on it. Return None if an earlier check's probe exists.

    An existing probe also proves the right to create: without this right, the store doesn't tell the credentials that the object exists.
    """
    try:
        return store.put(key, _PROBE, sha256=hashlib.sha256(_PROBE).digest())
    except ObjectAlreadyExists:
        return None


def _judge_creation(store: StorageBackend, areas: Iterable[str], denied: dict[str, AccessDenied]) -> Finding:
    if not denied:
        return Finding("store", Severity.OK, f"Objects can be created in {store.url}, under {' and '.join(areas)}.")
    return Finding(
        "store",
        Severity.PROBLEM,
        " ".join(f"These credentials can't create objects under {area}: {said(exc)}" for area, exc in denied.items()),
        f"Grant these credentials {_permissions(denied.values(), locks=store.retained_until is not None)} there.",
    )


def _permissions(denied: Iterable[AccessDenied], *, locks: bool) -> str:
    """Return the missing permissions that the store names. If it names none, return those for a put, and if ``locks``, those for locks, too."""
    if named := dict.fromkeys(name for exc in denied for name in _PERMISSION.findall(str(exc))):
        return " and ".join(named)
    if locks:
        return "s3:PutObject and, for the locks, s3:PutObjectRetention (GCS: storage.objects.create and storage.objects.setRetention)"
    return "s3:PutObject (GCS: storage.objects.create)"


def _try_creating_again(store: StorageBackend, key: str, *, looks_first: bool) -> Finding:
    # Try two bodies. If a connection breaks, RetryingBackend repeats the put. It may then find the existing object, be unable to read it,
    # and believe that the first try created it.
    if all(_creates_again(store, key, other) for other in _OTHERS):
        return Finding(
            "create-only",
            Severity.PROBLEM,
            "The store overwrites an object although the request forbids it (the store ignores If-None-Match): a second writer "
            "or a retry could damage a backup.",
            "Use a store that supports conditional writes; a newer version or a setting of this store may support them.",
        )
    if looks_first:
        return Finding(
            "create-only",
            Severity.NOTE,
            "Before each put, pgstow asks whether the object exists (create_only=look). The store itself would overwrite it.",
            "If the store supports conditional puts, leave create_only=look out. Otherwise let the bucket keep versions.",
        )
    return Finding("create-only", Severity.OK, "The store refuses to create an object that exists.")


def _creates_again(store: StorageBackend, key: str, body: bytes) -> bool:
    try:
        store.put(key, body, sha256=hashlib.sha256(body).digest())
    except ObjectAlreadyExists:
        return False
    return True


def _try_wrong_checksum(store: StorageBackend, key: str) -> Finding:
    accepted = True
    try:
        store.put(key, _PROBE, sha256=hashlib.sha256(_OTHERS[0]).digest())
    except TransientStorageError:
        raise
    except ObjectAlreadyExists:
        pass  # the store accepted this object in an earlier check
    except StorageError:
        accepted = False  # each store refuses a wrong checksum with another error
    if accepted:
        return Finding(
            "checksums",
            Severity.WARNING,
            "The store accepts an object that doesn't match the SHA-256 sent with it: nobody would notice damage during the upload "
            "until the backup is read.",
            "With S3's API, try --store-option checksum=md5, which every store checks. Run pgstow verify after backups.",
        )
    return Finding("checksums", Severity.OK, "The store refuses an object that doesn't match its checksum.")


def _try_reading(store: StorageBackend, probe: str, record: str, manifests: str) -> Finding:
    reads = _allowed(lambda: store.get(probe))
    knows = _allowed(lambda: store.get(record)) and _allowed(lambda: next(store.list(manifests), None))
    words = [
        "can read backups' data, which is needed for restores but not for backups"
        if reads
        else "can't read backups' data, which isn't needed for backups",
        "can list and read manifests"
        if knows
        else "can't list and read manifests, so a manifest doesn't name the previous backup",
    ]
    return Finding(
        "reading", Severity.NOTE if reads or not knows else Severity.OK, f"These credentials {'; they '.join(words)}."
    )


def _try_overwriting(store: StorageBackend, probes: Mapping[str, str]) -> Finding:
    """Put the probes again without a condition, as an attacker would. Return a finding."""
    areas = [area for area, key in probes.items() if overwrites(store, key, _PROBE)]
    if areas:
        return Finding(
            "overwriting",
            Severity.WARNING,
            f"These credentials can overwrite objects under {' and '.join(areas)}, by a put without a condition. An attacker on this host "
            "can replace the backups, or hide them if the bucket keeps versions.",
            "Don't grant storage.objects.delete, and give the bucket a retention policy."
            if store.url.startswith("gs:")
            else "Let the policy refuse puts without s3:if-none-match, as in docs/permissions.md. If the store has no such policies, let the "
            "bucket keep versions, under Object Lock.",
        )
    return Finding("overwriting", Severity.OK, "These credentials can't overwrite an object that exists.")


def _try_deleting(store: StorageBackend, folders: Mapping[str, str]) -> Finding:
    """Delete an object that doesn't exist, and return a finding. No lock protects it, so the store refuses only if the right is missing."""
    areas = [area for area, folder in folders.items() if _allowed(partial(store.delete, [f"{folder}nothing"]))]
    if areas:
        return Finding(
            "deleting",
            Severity.WARNING,
            f"These credentials can delete objects under {' and '.join(areas)}. An attacker on this host can delete the backups, or "
            "hide them if the bucket keeps versions.",
            f"Give this host credentials that can only create, and give the bucket {_lock_of(store)}. Prune from another host.",
        )
    return Finding("deleting", Severity.OK, "These credentials can't delete.")


def _lock_of(store: StorageBackend) -> str:
    """Return the store's name for its protection from deletion."""
    return "a retention policy" if store.url.startswith("gs:") else "Object Lock"


def judge_clock(created: Mapping[str, ObjectInfo | None], now: datetime) -> Iterator[Finding]:
    """Yield a warning if this machine's clock and the store's clock differ by over 5 minutes.

    ``created`` has the store's reports on the probes, which were created at ``now``.
    """
    ahead = max((now - info.modified for info in created.values() if info), key=abs, default=timedelta())
    if abs(ahead) > _SKEW:
        yield Finding(
            "clock",
            Severity.WARNING,
            f"This machine's clock is {counted(abs(ahead) // timedelta(minutes=1), 'minute')} "
            f"{'ahead of' if ahead > timedelta() else 'behind'} the store's clock. From 15 minutes on, stores refuse requests.",
            "Let the clock be set by NTP (timedatectl set-ntp true).",
        )


def _allowed(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except AccessDenied:
        return False
    except ObjectNotFound:
        pass  # a store gives this answer only to credentials that may read
    return True


def _advice(error: StorageError, store: StorageBackend) -> str | None:
    match error:
        case BucketNotFound() if not store.url.startswith("file:"):
            return "Create the bucket, or check its name, the region and the endpoint."
        case TransientStorageError():
            return "Check the endpoint and the network between; if the store is busy, try again later."
        case _:
            return None
