"""Commits a backup with a signature: the envelope first, the manifest last."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.catalog.chain import last_statement
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.manifest import StoredObject
from pipeline.errors import InvalidRequest, LocalResourceExhausted
from pipeline.events import Notice, Notify
from pipeline.stages.upload import upload
from pipeline.trust.envelope import Signer
from pipeline.trust.policy import Trust
from pipeline.trust.statement import LONGEST_WRITER, Link, Purpose, Reference, digest_of, make_statement
from pipeline.trust.writer import ChainEnd, ChainName, StateFile, next_link
from storage_backends import AccessDenied, StorageBackend, StorageError


@dataclass(frozen=True, slots=True)
class Signing:
    """How to sign the manifests of backups."""

    signer: Signer
    writer: str
    """The name of the writer, which has a chain of its own in each store, for each database."""
    states: Path
    """The folder of the files in which the writer remembers the ends of its chains."""
    trust: Trust | None = None
    """Further keys that may have signed the writer's earlier statements."""

    def __post_init__(self) -> None:
        """Raise InvalidRequest if the writer's name is empty or too long for signatures that pgstow reads."""
        if not 0 < len(self.writer) <= LONGEST_WRITER:
            raise InvalidRequest(
                f"The writer's name must have from 1 to {LONGEST_WRITER} characters: name the writer by --writer, or in pgstow.toml."
            )

    def check(self, store: StorageBackend, ref: BackupRef) -> None:
        """Check, before the backup begins, that this machine can remember the chain.

        Raises LocalResourceExhausted if the folder can't be used, and InvalidRequest if the state file isn't valid.
        """
        state = self.state_of(store, ref)
        with state.alone():
            state.read()

    def commit(self, store: StorageBackend, ref: BackupRef, manifest: bytes, notify: Notify) -> StoredObject:
        """Put an envelope with the next statement of the chain, then the manifest. Return the description of the manifest's object.

        Raises StorageError, or the errors of :meth:`check`.
        """
        state = self.state_of(store, ref)
        with state.alone():
            link = self._next(store, ref, state.read(), notify)
            payload = make_statement(ref.manifest_key, hashlib.sha256(manifest).hexdigest(), link)
            statement = Reference(backup_id=ref.backup_id, sequence=link.sequence, sha256=digest_of(payload))
            envelope = self.signer.sign(payload)
            state.attempted(link, statement)
            upload(store, ref.manifest_key + SIGNATURE_SUFFIX, envelope)
            committed = upload(store, ref.manifest_key, manifest)
            try:
                state.committed(statement)
            except LocalResourceExhausted as exc:
                notify(Notice(str(exc)))  # the backup exists, and the next statement names it as perhaps committed
        return committed

    def _next(self, store: StorageBackend, ref: BackupRef, end: ChainEnd, notify: Notify) -> Link:
        trust = (self.trust or Trust(())).including(self.signer.public_key, Purpose.BACKUP)
        stored, readable = None, True
        try:
            stored = last_statement(store, ref.cluster, ref.database, self.writer, trust)
        except AccessDenied:
            readable = False  # the credentials can only create objects
        except StorageError as exc:
            readable = False
            notify(Notice(f"The store's earlier signatures can't be read. {exc}"))
        return next_link(self.writer, end, stored, readable=readable)

    def state_of(self, store: StorageBackend, ref: BackupRef) -> StateFile:
        """Return the file that remembers the end of the chain to which the backup belongs."""
        return StateFile(self.states, ChainName(store.url, ref.cluster, ref.database, self.writer))
