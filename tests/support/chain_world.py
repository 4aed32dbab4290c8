"""A store with signed backups, the machines that back up and prune, and an attacker who may write to the store."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Self

from support.counting_store import CountingStore
from support.shelf import NOW, SOURCE, BackupBuilder
from support.signing import make_key, put

from pipeline.backup.signing import Signing
from pipeline.catalog.chain import Chains, read_chains
from pipeline.catalog.keys import SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.listing import list_backups
from pipeline.catalog.signature import read_signature, read_tombstone
from pipeline.prune.facts import Signatures
from pipeline.prune.policy import Policy
from pipeline.prune.prune import Pruned, PruneRequest, prune
from pipeline.trust.chain import Fault
from pipeline.trust.envelope import Signer
from pipeline.trust.policy import Signed, Trust
from pipeline.trust.statement import Link, Removal
from storage_backends import AccessDenied, ObjectInfo, StorageBackend, StorageError
from storage_backends.backend import Body
from storage_backends.memory import MemoryBackend

FAILURES = ["", "no signature", "only the signature", "no manifest", "no answer"]
"""How a commit fails: the signature isn't stored, or its answer is lost; the manifest isn't stored, or its answer is lost."""


class ClockedStore(MemoryBackend):
    """A store whose clock stands still between calls of :meth:`tick`. Stores tell the time in whole seconds, so several puts share one."""

    def __init__(self) -> None:
        self._there: dict[str, tuple[ObjectInfo, bytes]] = {}
        super().__init__(objects=self._there)
        self._now = NOW

    @property
    def url(self) -> str:
        """The URL of a folder, from which pgstow reads documents without threads. Threads would take most of a test's time."""
        return "file:///memory"

    def tick(self) -> None:
        self._now += timedelta(seconds=1)

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        info = replace(super().put(key, body, sha256=sha256), modified=self._now)
        self._there[key] = info, bytes(body)
        return info


class Credentials(CountingStore):
    """The store, as somebody's credentials and network let it be seen."""

    def __init__(self, store: StorageBackend, *, reads: bool = True, failure: str = "", deletes: bool = True) -> None:
        super().__init__(store)
        self._reads = reads
        self._failure = failure
        self._deletes = deletes

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        lost = {"no signature": SIGNATURE_SUFFIX, "no manifest": ".json"}.get(self._failure, "-")
        if key.endswith(lost):
            raise StorageError("the store failed")
        info = super().put(key, body, sha256=sha256)
        if key.endswith({"only the signature": SIGNATURE_SUFFIX, "no answer": ".json"}.get(self._failure, "-")):
            raise StorageError("the answer was lost")
        return info

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if not self._reads:
            raise AccessDenied("not for you")
        return super().list(prefix)

    def delete(self, keys: Iterable[str]) -> bool:
        if not self._deletes:
            raise StorageError("the store failed")
        return super().delete(keys)


@dataclass(frozen=True)
class ChainKeys:
    """The keys of the machines that back up and that prune, and the key of a stranger, whom nobody trusts."""

    writer: Signer
    pruner: Signer
    stranger: Signer
    trust: Trust

    @classmethod
    def make(cls, folder: Path) -> Self:
        writer, pruner, stranger = (make_key(folder, name) for name in ("writer", "pruner", "stranger"))
        trust = Trust((writer.trusted("backup"), pruner.trusted("prune")))
        return cls(writer.signer, pruner.signer, stranger.signer, trust)


class ChainWorld:
    """A store, and what machines do with it. ``folder`` has the folders of the writers' state files, by the writers' names."""

    def __init__(self, keys: ChainKeys, folder: Path) -> None:
        self.keys = keys
        self.folder = folder
        self.store = ClockedStore()
        self.stolen: dict[str, bytes] = {}
        """Copies of manifests and signatures, which the attacker made before each removal."""
        self._seconds = itertools.count()

    def make(
        self,
        *,
        tags: Sequence[str] = (),
        system: str | None = None,
        age: timedelta | None = None,
    ) -> tuple[BackupRef, bytes]:
        """Return a new backup's reference and its manifest, which isn't stored yet. Without an ``age``, it is newer than all others."""
        shelf = BackupBuilder(MemoryBackend())
        age = timedelta(hours=4, seconds=-next(self._seconds)) if age is None else age
        source = SOURCE.model_copy(update={"system_identifier": system})
        ref = shelf.add(age, number=1, tags=list(tags), source=source)
        return ref, shelf.store.get(ref.manifest_key)

    def back_up(
        self,
        writer: str = "db1",
        *,
        reads: bool = True,
        failure: str = "",
        tags: Sequence[str] = (),
        system: str | None = None,
        age: timedelta | None = None,
    ) -> BackupRef:
        """Commit a signed backup, as the machine ``writer`` does it. Raises StorageError if the commit fails."""
        ref, manifest = self.make(tags=tags, system=system, age=age)
        signing = Signing(self.keys.writer, writer, self.folder / writer)
        signing.commit(Credentials(self.store, reads=reads, failure=failure), ref, manifest, lambda _: None)
        return ref

    def prune(self, keep: int, *, deletes: bool = True) -> Pruned:
        """Keep the newest backups, and those with the tag ``keep``. Raises StorageError if the store doesn't delete."""
        self.steal()
        request = PruneRequest(
            Policy(keep_last=keep, keep_tagged=frozenset({"keep"})),
            signatures=Signatures(self.keys.trust),
            signer=self.keys.pruner,
        )
        return prune(request, None, Credentials(self.store, deletes=deletes), lambda _: None, NOW)

    def chains(self, *heads: str) -> Chains:
        return read_chains(self.store, None, None, self.keys.trust, heads)

    def faults(self, *heads: str) -> list[Fault]:
        return [finding.fault for finding in self.chains(*heads).findings]

    def heads(self) -> list[str]:
        return [chain.head.sha256 for chain in self.chains().chains]

    def backups(self) -> list[BackupRef]:
        return list_backups(self.store)

    def keys_under(self, prefix: str) -> set[str]:
        return {info.key for info in self.store.list(prefix)}

    def signed(self, ref: BackupRef) -> Signed[Link]:
        return read_signature(self.store, ref.manifest_key, Link, self.keys.trust)

    def removal(self, ref: BackupRef) -> Removal:
        return read_tombstone(self.store, ref, self.keys.trust).predicate

    # What the attacker does

    def steal(self) -> None:
        """Copy all manifests and signatures, so that they can be put back later."""
        self.stolen |= {key: self.store.get(key) for key in self.keys_under("manifests/")}

    def put_back(self, ref: BackupRef) -> None:
        """Store the manifest and the signature of a removed backup again, a while after the removal."""
        self.store.tick()
        for key in {ref.manifest_key, ref.manifest_key + SIGNATURE_SUFFIX} - self.keys_under("manifests/"):
            put(self.store, key, self.stolen[key])

    def forge(self, ref: BackupRef | None = None) -> BackupRef:
        """Store a made-up manifest, without a signature: in the place of ``ref``'s, or as a new backup."""
        made, manifest = self.make()
        if ref is not None:
            self.store.delete([ref.manifest_key])
        put(self.store, (ref or made).manifest_key, manifest if ref is None else b"another manifest")
        return ref or made

    def copy(self, source: str, target: str) -> None:
        """Copy an object to a new key."""
        put(self.store, target, self.store.get(source))
