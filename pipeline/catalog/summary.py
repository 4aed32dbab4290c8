"""Reads the summary of a manifest, without a model for each file and object. For a large manifest, this takes a small part of the time.

The manifest's checksum covers all of its bytes. But the descriptions of files, objects and tables are looked at only as far as a list of
backups needs. If these descriptions contradict each other, only :func:`pipeline.catalog.manifest.load_manifest` finds out. Such a manifest
was made up, and no command that reads a backup's data takes it.
"""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from pipeline.catalog.fields import MOST
from pipeline.catalog.keys import BackupRef, owners
from pipeline.catalog.manifest import LISTS, FileKind, ManifestSummary, check_place, open_manifest
from pipeline.catalog.plausibility import Contents


@dataclass(frozen=True, slots=True)
class LoadedSummary:
    """The summary of a manifest."""

    manifest: ManifestSummary
    sha256: str
    """SHA-256 of the manifest's bytes, in hexadecimal."""
    contents: Contents
    owners: frozenset[BackupRef]
    """The backups that wrote the objects in the manifest."""


class _File(msgspec.Struct, frozen=True, gc=False):
    kind: FileKind
    size: Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class _Object(msgspec.Struct, frozen=True, gc=False):
    key: str


class _Table(msgspec.Struct, frozen=True, gc=False):
    relation: str


def load_summary(data: bytes, key: str) -> LoadedSummary:
    """Return the summary of the manifest that is stored under ``key``. The result doesn't keep ``data`` in memory.

    Raises ManifestInvalid with the same messages as :func:`pipeline.catalog.manifest.load_manifest`, but for fewer faults.
    """
    document = open_manifest(data, key)
    tables = "tables" in document.apart and bool(document.glance("tables", _Table))
    contents = Contents.of(document.glance("files", _File), tables=tables)
    keys = (stored.key for stored in document.glance("objects", _Object))
    manifest = document.model(ManifestSummary)
    try:
        found = owners(keys, manifest.cluster, manifest.database)
    except ValueError as exc:
        document.items("objects", LISTS["objects"])  # raises a more exact error if no object can have such a key
        raise document.invalid(exc) from exc
    check_place(manifest, key)
    return LoadedSummary(manifest, document.sha256, contents, found)
