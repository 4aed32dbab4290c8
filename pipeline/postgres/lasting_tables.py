"""The tables that existed during a whole dump. The dump must have their data.

Each row of the system catalogues has the number of the transaction that wrote it (``xmin``). The server gives out these numbers in order.
"""

from pipeline.postgres.server import Server

# A dump has the data of an extension's table, or of a table in an extension's schema, only if the extension says so.
_LASTING = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (c.relpersistence = 'p' OR c.relpersistence = 'u' AND %(unlogged)s AND NOT pg_catalog.pg_is_in_recovery())
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND pg_catalog.age(c.xmin) > pg_catalog.age(%(since)s::pg_catalog.xid)
  AND pg_catalog.age(n.xmin) > pg_catalog.age(%(since)s::pg_catalog.xid)
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      WHERE d.deptype = 'e' AND (d.classid, d.objid)
          IN (('pg_catalog.pg_class'::pg_catalog.regclass, c.oid), ('pg_catalog.pg_namespace'::pg_catalog.regclass, n.oid))
  )
"""


def oldest_transaction(server: Server) -> int:
    """Return the number of the oldest running transaction. All transactions with lower numbers have ended. Raises ConnectionFailed."""
    [(number,)] = server.fetch("SELECT pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot())")
    return int(number)


def lasting_tables(server: Server, since: int, *, unlogged: bool = True) -> set[tuple[str, str]]:
    """Return schema and name of each table whose data a dump holds, and whose definition is older than the transaction ``since``.

    ``unlogged`` is false if the dump leaves out the rows of unlogged tables. The result has only tables with names in ASCII: other names
    may have other bytes in the dump, since its encoding may differ. Raises ConnectionFailed.
    """
    rows = server.fetch(_LASTING, {"since": str(since % 2**32), "unlogged": unlogged})
    return {(schema, name) for schema, name in rows if schema.isascii() and name.isascii()}
