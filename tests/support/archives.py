"""Compares the archives of two dumps of one database."""

import hashlib
from pathlib import Path
from typing import Any

from pipeline.postgres.toc_format import TocReader

Description = list[tuple[dict[str, Any], list[Any], str]]


def described(folder: Path) -> Description:
    """Return the entries of the archive in ``folder``, in order, without their dump IDs.

    Each entry has its fields, the names of the entries on which it depends, and the SHA-256 of its file; empty if it has no file.
    """
    reader = TocReader((folder / "toc.dat").read_bytes())
    entries = [(dict(zip(reader.fields, raw.values, strict=True)), raw) for _, raw in reader.raw_entries()]
    names = {
        fields["dump_id"]: (fields["description"], fields["namespace"], fields["tag"], fields["oid"])
        for fields, _ in entries
    }
    return [
        (
            {name: value for name, value in fields.items() if name != "dump_id"},
            [names.get(other) for other in raw.dependencies],
            hashlib.sha256((folder / raw.filename.decode()).read_bytes()).hexdigest() if raw.filename else "",
        )
        for fields, raw in entries
    ]


def split_tables(folder: Path) -> set[str]:
    """Return the names of the tables whose data pg_dump did not dump: their entries have the highest dump IDs."""
    reader = TocReader((folder / "toc.dat").read_bytes())
    entries = [dict(zip(reader.fields, raw.values, strict=True)) for _, raw in reader.raw_entries()]
    of_pg_dump = max(fields["dump_id"] for fields in entries if fields["description"] != b"TABLE DATA")
    return {fields["tag"].decode() for fields in entries if fields["dump_id"] > of_pg_dump}
