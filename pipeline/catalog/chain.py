"""Reads the chains of a store: the signed statements about its backups."""

from itertools import groupby
from typing import TYPE_CHECKING

from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef, manifests_prefix
from pipeline.catalog.signature import read_signature
from pipeline.errors import Untrusted
from pipeline.trust.statement import Link, Reference
from storage_backends import StorageBackend

if TYPE_CHECKING:
    from pipeline.trust.policy import Trust


def last_statement(store: StorageBackend, cluster: str, database: str, writer: str, trust: "Trust") -> Reference | None:
    """Return the writer's last statement whose backup is committed; None if the store has none by a trusted key.

    The clock of the store decides which statement is the last, since the writer's clock may have run backwards. Raises StorageError.
    """
    infos = {info.key: info for info in store.list(manifests_prefix(cluster, database))}
    signed = [
        (info.modified, ref)
        for key, info in infos.items()
        if key.endswith(SIGNATURE_SUFFIX) and (ref := BackupRef.of_key(key)) and ref.manifest_key in infos
    ]
    for _, at_once in groupby(sorted(signed, key=lambda one: one[0], reverse=True), key=lambda one: one[0]):
        found = list[Reference]()
        for _, ref in at_once:
            try:
                statement = read_signature(store, ref.manifest_key, Link, trust)
            except Untrusted:
                continue
            if statement.predicate.writer == writer:
                found.append(
                    Reference(backup_id=ref.backup_id, sequence=statement.predicate.sequence, sha256=statement.sha256)
                )
        if found:
            return max(found, key=lambda one: one.sequence)
    return None
