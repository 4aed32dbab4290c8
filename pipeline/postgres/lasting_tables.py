"""Tables that existed during a whole dump, so that the dump must have their data.

A row of the catalogs has the number of the transaction that wrote it (``xmin``). The whole server gives out these numbers in order.
"""

from pipeline.postgres.server import Server

# An extension's table, or a table in an extension's schema, has its data in a dump only if the extension says so.
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
    """Return schema and name of each table that has its data in a dump and whose definition is older than the transaction ``since``.

    ``unlogged`` is false if the dump leaves out the rows of unlogged tables. Only tables with names in ASCII are returned. Other names may
    have other bytes in a dump, whose encoding may differ. Raises ConnectionFailed.
    """
    rows = server.fetch(_LASTING, {"since": str(since % 2**32), "unlogged": unlogged})
    return {(schema, name) for schema, name in rows if schema.isascii() and name.isascii()}
