"""Finds the tables whose rows can be dumped in ranges, and writes the statements for the ranges.

A range is a part of a table's pages. The rows of all ranges, one after another, are the rows that ``COPY table TO`` writes, in the same
order. The server finds a range without a look at other pages (a TID range scan, since PostgreSQL 14).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.errors import DumpInterrupted, StatementRefused
from pipeline.postgres.dump import explain_refused_lock
from pipeline.postgres.server import Server
from pipeline.postgres.session import quoted_text

OLDEST_SERVER = 14
"""The major version of the oldest server with TID range scans."""
_LONGEST_COLUMNS = 12 * 1024
"""Bytes of a list of columns. The statements for two ranges must fit into a pipe of 64 KiB."""


@dataclass(frozen=True, slots=True)
class SizedTable:
    """A table, or the server's table of all large objects, with its size."""

    oid: int
    schema: str
    name: str
    size: int
    """Bytes on the server's disk, with TOAST data and without indexes, as VACUUM and ANALYZE last counted them. pg_dump sorts tables by it."""
    splittable: bool
    """True if the table's rows can be dumped in ranges."""

    @property
    def pattern(self) -> str:
        """A pattern for pg_dump that matches this table and no other."""
        return quoted_text(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class RangedTable:
    """A locked table, with what a dump of its ranges needs."""

    oid: int
    name: str
    """Schema and name, quoted as pg_dump quotes them."""
    columns: str
    """The columns that pg_dump would dump, quoted, with commas between them."""
    pages: int
    """The number of pages, without TOAST data."""
    page_size: int
    """The average bytes of a page, with TOAST data."""
    copy_statement: bytes
    """The statement that pg_dump writes into the table of contents, in the archive's encoding."""

    def ranges(self, size: int) -> Iterator[tuple[int, int | None]]:
        """Yield the first page of each range, and the page after the range; None for the last range, which has no end.

        ``size`` is the average size of a range in bytes. There is at least one range.
        """
        step = max(1, size // max(1, self.page_size))
        pages = max(1, self.pages)
        for first in range(0, pages, step):
            yield first, first + step if first + step < pages else None


def size_tables(server: Server, least: int, *, names_in_utf8: bool) -> list[SizedTable]:
    """Return all tables that a dump of the whole database reads. Tables under ``least`` bytes don't count as splittable.

    If ``names_in_utf8`` is false, the command line of pg_dump may need another encoding than UTF-8. The query locks no table.
    Raises ConnectionFailed.
    """
    rows = server.fetch(_SIZES, {"least": least, "longest": _LONGEST_COLUMNS, "utf8": names_in_utf8})
    return [SizedTable(*row) for row in rows]


def lock_tables(server: Server, oids: Sequence[int], encoding: str, *, quote_all: bool) -> list[RangedTable]:
    """Lock the tables until the end of the snapshot's transaction. Return them in the order of their OIDs.

    pg_dump must have locked the tables before. ``encoding`` is the archive's. With ``quote_all``, all names are quoted.

    Raises DumpInterrupted if another session waits for a lock on a table, or has rewritten or replaced a table since the snapshot.
    """
    tables = server.fetch(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.oid = ANY (%s::pg_catalog.oid[])",
        [list(oids)],
    )
    try:
        server.execute(server.encoded(lock_statement([quoted_text(*table) for table in tables])))
    except StatementRefused as exc:
        if refused := explain_refused_lock(str(exc)):
            raise DumpInterrupted(refused) from exc
        raise
    if quote_all:
        server.execute("SET LOCAL quote_all_identifiers = on")
    rows = server.fetch(_LOCKED, {"oids": list(oids), "encoding": encoding})
    if changed := [name for _, name, *_, unchanged in rows if not unchanged]:
        raise DumpInterrupted(
            f"Another session truncated, rewrote or replaced the table {changed[0]} while the dump began: back up again."
        )
    return [RangedTable(*row) for *row, _ in rows]


def lock_statement(names: Sequence[str]) -> str:
    """Return the statement that locks the tables as pg_dump does, and waits for no other session."""
    return f"LOCK TABLE {', '.join(f'ONLY {name}' for name in names)} IN ACCESS SHARE MODE NOWAIT"


def range_statement(table: RangedTable, first: int, end: int | None, encoding: str) -> str:
    """Return the statement that writes the rows of a range, as COPY's text in ``encoding``."""
    upper = "" if end is None else f" AND ctid < '({end},0)'"
    return (
        f"COPY (SELECT {table.columns} FROM ONLY {table.name} WHERE ctid >= '({first},0)'{upper}) "  # noqa: S608 - quoted names
        f"TO STDOUT (ENCODING '{encoding}')"
    )


_COLUMNS = "a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"

# pg_dump loads a hash partition of some types by way of the partitioned table (forcePartitionRootLoad() in pg_dump.c). Here, no hash partition
# is splittable. pg_dump reads the names on its command line in the encoding of the dump, so other names than ASCII's need UTF-8 there. The
# size is checked first, since only large tables need the other checks.
_SIZES = f"""
SELECT c.oid::bigint, n.nspname, c.relname, s.size, CASE WHEN s.size >= %(least)s AND c.oid <> 'pg_catalog.pg_largeobject'::pg_catalog.regclass
THEN c.relpersistence = 'p' AND (SELECT m.amname = 'heap' FROM pg_catalog.pg_am m WHERE m.oid = c.relam)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) p
        JOIN pg_catalog.pg_partitioned_table r ON r.partrelid = p.relid WHERE r.partstrat = 'h'
    )
    AND (n.nspname || c.relname !~ '[^\\x01-\\x7f]' OR (pg_catalog.getdatabaseencoding() = 'UTF8' AND %(utf8)s))
    AND coalesce(
        (SELECT pg_catalog.sum(pg_catalog.octet_length(pg_catalog.quote_ident(a.attname)) + 4) FROM pg_catalog.pg_attribute a WHERE {_COLUMNS}),
        %(longest)s
    ) < %(longest)s
ELSE false END
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid
CROSS JOIN LATERAL (
    SELECT (c.relpages::bigint + coalesce(t.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint AS size
) s
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND (n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    OR c.oid = 'pg_catalog.pg_largeobject'::pg_catalog.regclass)
ORDER BY s.size DESC, c.oid
"""  # noqa: S608 - constants

# The table's file on the server is another one if a session rewrote the table after the snapshot. Its rows are then newer than the snapshot.
# The name may even be another table's by now: pg_dump's locks are gone if it has ended.
_LOCKED = f"""
SELECT c.oid::bigint, t.name, t.columns, t.pages, pg_catalog.pg_table_size(c.oid) / greatest(t.pages, 1),
    pg_catalog.convert_to('COPY ' || t.name || ' (' || t.columns || E') FROM stdin;\\n', %(encoding)s),
    c.relfilenode = pg_catalog.pg_relation_filenode(c.oid) AND pg_catalog.to_regclass(t.name) = c.oid
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name,
        (
            SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum)
            FROM pg_catalog.pg_attribute a WHERE {_COLUMNS}
        ) AS columns,
        pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::bigint AS pages
) t
WHERE c.oid = ANY (%(oids)s::pg_catalog.oid[]) ORDER BY c.oid
"""  # noqa: S608 - constants
