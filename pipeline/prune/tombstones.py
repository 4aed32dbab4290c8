"""Puts tombstones: signed statements that backups were removed. Without its tombstone, a missing backup is a gap in its chain."""

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.reader import read_manifest_bytes
from pipeline.catalog.signature import read_signature, read_tombstone
from pipeline.concurrency import Workers
from pipeline.errors import Untrusted
from pipeline.stages.upload import upload
from pipeline.trust.statement import Link, Removal, make_statement
from storage_backends import ObjectAlreadyExists, StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.envelope import Signer
    from pipeline.trust.policy import Trust

_REQUESTS = 8  # concurrent requests


def put_tombstones(store: StorageBackend, refs: Sequence[BackupRef], signer: "Signer", trust: "Trust") -> None:
    """Put the tombstone of each backup, before the backup's manifest is deleted.

    If an earlier run put a tombstone, and a lock then spared the manifest, the tombstone stays as it is. Raises Untrusted if a tombstone's
    key is taken by an object that no trusted key signed. Raises StorageError, also if a manifest is gone.
    """
    with Workers() as workers:
        for _ in workers.map(partial(_put, store, signer, trust), refs, threads=_REQUESTS, name="tombstone"):
            pass


def _put(store: StorageBackend, signer: "Signer", trust: "Trust", ref: BackupRef) -> None:
    try:
        signed = read_signature(store, ref.manifest_key, Link, trust)
        sha256 = signed.subject_sha256
        removal = Removal(statement_sha256=signed.sha256, link=signed.predicate)
    except Untrusted:  # the user lets unsigned backups be removed, too
        sha256 = hashlib.sha256(read_manifest_bytes(store, ref)).hexdigest()
        removal = Removal(statement_sha256=None, link=None)
    try:
        upload(store, ref.tombstone_key, signer.sign(make_statement(ref.manifest_key, sha256, removal)))
    except ObjectAlreadyExists:
        _expect_own(store, ref, trust.including(signer.public_key, Removal.purpose), sha256, removal)


def _expect_own(store: StorageBackend, ref: BackupRef, trust: "Trust", sha256: str, removal: Removal) -> None:
    """Raise Untrusted unless the tombstone in the store says ``removal`` about the manifest with this SHA-256."""
    remedy = "Nothing more is removed until somebody removes the tombstone with the store's own client."
    try:
        there = read_tombstone(store, ref, trust)
    except Untrusted as exc:
        raise Untrusted(exc.fault, f"The tombstone {ref.tombstone_key} is not believed: {exc}. {remedy}") from exc
    if (there.subject_sha256, there.predicate) != (sha256, removal):
        raise Untrusted("swapped", f"The tombstone {ref.tombstone_key} is about another manifest. {remedy}")
