"""A store with nothing but manifests."""

import copy
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from support.counting_store import CountingStore
from support.manifests import canonical

from pipeline.catalog.keys import BackupRef, encode_name
from storage_backends.memory import MemoryBackend

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def moved(content: dict[str, Any], cluster: str, database: str) -> dict[str, Any]:
    """Return a manifest's content, with its objects' keys moved to another database."""
    own = f"data/{encode_name(cluster)}/{encode_name(database)}/"
    objects = [stored | {"key": own + "/".join(stored["key"].split("/")[3:])} for stored in content["objects"]]
    return content | {"objects": objects}


class ManifestStore:
    """A store with nothing but manifests."""

    def __init__(self, template: dict[str, Any]) -> None:
        self._template = template
        self.store = CountingStore(MemoryBackend())

    def add(
        self,
        cluster: str,
        database: str,
        hours: int,
        suffix: str = "aaaaaa",
        change: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> BackupRef:
        """Store the manifest of a backup whose ID and times are ``hours`` after noon. Return the backup's reference.

        ``change`` may alter the manifest's content first.
        """
        moment = NOON + timedelta(hours=hours)
        ref = BackupRef(cluster, database, f"{moment:%Y%m%dT%H%M%SZ}-{suffix}")
        fields = {"cluster": cluster, "database": database, "backup_id": ref.backup_id}
        fields |= dict.fromkeys(("started_at", "snapshot_at", "finished_at"), f"{moment:%Y-%m-%dT%H:%M:%SZ}")
        content = copy.deepcopy(moved(self._template, cluster, database)) | fields
        change(content)
        self.put(ref.manifest_key, canonical(content))
        return ref

    def read(self) -> list[str]:
        """Return the keys of the objects that were read since the last call."""
        keys = [key for kind, key in self.store.requests if kind == "GET"]
        self.store.requests.clear()
        return keys

    def put(self, key: str, body: bytes) -> None:
        self.store.put(key, body, sha256=hashlib.sha256(body).digest())
