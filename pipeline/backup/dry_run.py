"""Asks pg_dump what a backup would contain. Nothing is written to a store."""

import time
from dataclasses import dataclass

from pipeline.backup.request import BackupRequest
from pipeline.backup.source import default_cluster, find_dumper
from pipeline.catalog.manifest import TOC_NAME
from pipeline.postgres.dump import DirectoryDump, DumpCall
from pipeline.postgres.programs import Program
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc
from pipeline.postgres.toc_format import TocCutShort, read_toc
from pipeline.postgres.workspace import Workspace

_TICK = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """A table whose data would be dumped."""

    schema: str
    relation: str
    size: int
    """The table's size on the server's disk in bytes, with TOAST data and without indexes."""


@dataclass(frozen=True, slots=True)
class BackupPlan:
    """The content of a backup that would be made."""

    cluster: str
    database: str
    server_version: str
    program: Program
    tables: tuple[PlannedTable, ...]
    """The tables whose data would be dumped, largest first."""
    large_objects: bool
    """True if large objects would be dumped."""
    entries: int
    """The number of entries in the archive's table of contents."""


def plan_backup(request: BackupRequest) -> BackupPlan:
    """Start pg_dump as a backup does, and stop it once it has written the table of contents. Return the plan. Raises PipelineError."""
    with Workspace(request.limits.spool_parent) as workspace, Server(request.source) as server:
        program = find_dumper("pg_dump", server, request)
        call = DumpCall(program, request.source, workspace, server, "pgstow dry run", request.lock_wait_timeout)
        dump = DirectoryDump(call, request.selection, snapshot=server.export_snapshot().name, jobs=1)
        toc = _await_toc(dump)
        dump.stop()
        tables = [entry for entry in toc.data_entries if entry.description == "TABLE DATA"]
        sizes = server.relation_sizes([entry.oid for entry in tables])
        planned = [PlannedTable(entry.namespace, entry.tag, sizes.get(entry.oid, 0)) for entry in tables]
        return BackupPlan(
            cluster=request.cluster or default_cluster(server),
            database=server.name,
            server_version=server.version,
            program=program,
            tables=tuple(sorted(planned, key=lambda table: -table.size)),
            large_objects=len(tables) < len(toc.data_entries),
            entries=len(toc.entries),
        )


def _await_toc(dump: DirectoryDump) -> Toc:
    """Wait for the whole table of contents and return it. pg_dump writes it before any data. Raises DumpFailed if pg_dump fails first."""
    path = dump.folder / TOC_NAME
    while True:
        ended = dump.has_ended()
        try:
            return read_toc(path.read_bytes() if path.exists() else b"")
        except TocCutShort:
            if ended:
                raise
        time.sleep(_TICK)
