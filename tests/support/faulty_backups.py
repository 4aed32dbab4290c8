"""Backups to stores that fail, and the processes of pg_dump in these backups."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.faulty_http import FaultyProxy
from support.object_stores import StoreBucket
from support.pgstow import wait_until


@dataclass(frozen=True)
class FaultyStore:
    """An S3 bucket behind a proxy that fails by rule."""

    url: str
    proxy: FaultyProxy
    bucket: StoreBucket

    @property
    def keys(self) -> list[str]:
        """The keys of all objects in the bucket."""
        pages = self.bucket.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]


FILL_LARGE = """
    CREATE TABLE large AS SELECT i AS id, string_agg(md5((i * 100 + j)::text), '') AS payload
    FROM generate_series(1, 7500) AS i, generate_series(1, 100) AS j GROUP BY i;
    CREATE TABLE small AS SELECT i AS id FROM generate_series(1, 1000) AS i;
"""
"""SQL for a database whose dump has 24 MB, and 12 MB when compressed: more than the limits in ``SMALL`` hold."""

SMALL = ("--memory", "1MiB", "--object-size", "256KiB", "--spool-limit", "16MiB", "--jobs", "2")
"""Options with small limits of memory and spool, so that little of a large database fits into them."""


@dataclass(frozen=True)
class Process:
    """A process of the machine, as /proc shows it."""

    pid: int
    parent: int
    state: str
    command: tuple[str, ...]


def dumps(spool_dir: Path) -> list[Process]:
    """Return the processes of pg_dump that write below a folder: the leader first, then its workers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = tuple((entry / "cmdline").read_bytes().decode(errors="replace").split("\0"))
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            writes = any(argument.startswith(f"--file={spool_dir}/") for argument in command)
            if writes and Path(command[0]).name == "pg_dump" and state not in "ZX":
                found.append(Process(int(entry.name), int(parent), state, command))
    leaders = {process.pid for process in found}
    return sorted(found, key=lambda process: process.parent in leaders)


def wait_for_backpressure(spool_dir: Path) -> list[Process]:
    """Wait until the spool is full, and pg_dump and its workers are stopped. Return their processes. Raises AssertionError after a time."""
    wait_until(lambda: {process.state for process in dumps(spool_dir)} == {"T"}, "pg_dump is stopped")
    return dumps(spool_dir)
