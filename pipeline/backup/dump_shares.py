"""Divides a dump between pg_dump and the sessions that dump large tables in ranges."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.backup.request import BackupRequest
from pipeline.config import MIB, SplitTables
from pipeline.errors import ProgramMissing
from pipeline.postgres.programs import Program, find_program
from pipeline.postgres.server import Server
from pipeline.postgres.table_ranges import OLDEST_SERVER, SizedTable, size_tables

_PER_TABLE = 256 * 1024
"""The weight of each table beside its size, in bytes. pg_dump and the server need this time for the table's statements."""
_LEAST = 256 * MIB
"""``auto`` splits tables of at least this size, in bytes."""
_WORTH_IT = 8
"""``auto`` splits a table only if the table weighs more than a job's fair share, by at least this part of the share (an eighth)."""
_MOST = 100
"""The most tables to split. pg_dump looks through its catalogs once for each."""


@dataclass(frozen=True, slots=True)
class DumpShares:
    """The tables that are dumped in ranges, and the number of jobs for them and for the rest."""

    jobs: int
    of_pg_dump: int
    """The jobs of pg_dump. The other jobs dump ranges, and all jobs do once pg_dump has ended."""
    tables: Sequence[SizedTable] = ()
    psql: Program | None = None
    """The program that dumps ranges; None if there are no such tables."""
    quote_all: bool = False
    """True if pg_dump quotes all names."""


def plan_shares(request: BackupRequest, server: Server) -> DumpShares:
    """Choose the tables to dump in ranges, in the snapshot's transaction.

    Only a dump of a whole database has such tables, since pg_dump must dump the tables' definitions and nothing may hide rows.

    Raises ConnectionFailed, or ProgramMissing if the request names a size and there is no psql.
    """
    split, jobs, selection = request.limits.split_tables, request.limits.jobs, request.selection
    whole = selection.is_all_tables and not selection.only and not selection.has("--enable-row-security")
    if split == "never" or jobs == 1 or not whole or server.major < OLDEST_SERVER:
        return DumpShares(jobs, jobs)
    least = _LEAST if split == "auto" else split
    tables = size_tables(server, least, names_in_utf8=not selection.has("--encoding"))
    if not (chosen := choose_tables(tables, jobs, split)):
        return DumpShares(jobs, jobs)
    try:
        psql = find_program("psql", at_least_major=server.major, search=request.programs)
    except ProgramMissing:
        if split != "auto":
            raise
        return DumpShares(jobs, jobs)
    rest = 1 - _weight(chosen) / _weight(tables)
    of_pg_dump = min(jobs - 1, max(1, round(jobs * rest)))
    return DumpShares(jobs, of_pg_dump, chosen, psql, selection.has("--quote-all-identifiers"))


def choose_tables(tables: Sequence[SizedTable], jobs: int, split: SplitTables) -> list[SizedTable]:
    """Return the tables to dump in ranges, of all ``tables`` of the database.

    ``auto`` chooses a table if the other jobs would have nothing left to do while one job dumps the table.
    """
    fair = _weight(tables) / jobs
    least = fair + fair / _WORTH_IT if split == "auto" else 0
    chosen = [table for table in tables if table.splittable and _weight([table]) >= least]
    return sorted(chosen, key=lambda table: -table.size)[:_MOST]


def _weight(tables: Sequence[SizedTable]) -> int:
    return sum(table.size + _PER_TABLE for table in tables)
