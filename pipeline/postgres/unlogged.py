"""Unlogged tables and sequences, which are empty on a standby, since the write-ahead log doesn't have their rows and values.

On a standby, pg_dump leaves out their rows and values without a message (``no_unlogged_table_data`` in main(), pg_dump.c).
"""

from collections.abc import Sequence

from pipeline.errors import InvalidRequest
from pipeline.postgres.privileges import relations_to_dump, without_excluded_data
from pipeline.postgres.server import Server
from pipeline.selection import Selection

_SHOWN = 10

# pg_dump dumps the rows of an extension's table only if the extension names the table.
_UNLOGGED = """
SELECT c.oid::bigint, pg_catalog.format('%I.%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE pg_catalog.pg_is_in_recovery() AND c.relpersistence = 'u' AND c.relkind IN ('r', 'S')
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      LEFT JOIN pg_catalog.pg_extension e ON d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND e.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e'
        AND NOT c.oid = ANY (coalesce(e.extconfig, '{}'))
  )
ORDER BY 2
"""


def unlogged_left_out(server: Server, selection: Selection) -> list[str]:
    """Return the selected tables and sequences whose rows and values pg_dump leaves out because they are unlogged, as names in SQL.

    Return an empty list on a primary, or if the selection itself leaves out such rows. Raises ConnectionFailed.
    """
    unlogged: dict[int, str] = (
        dict(server.fetch(_UNLOGGED))
        if selection.only != "schema" and not selection.has("--no-unlogged-table-data")
        else {}
    )
    if not unlogged or selection.is_all_tables:
        return list(unlogged.values())
    try:
        relations = relations_to_dump(server, selection)
    except InvalidRequest:  # pg_dump may understand a pattern that pgstow doesn't, and the pattern may match all tables
        return list(unlogged.values())
    chosen = {table.oid for table in without_excluded_data(relations, selection)}
    chosen |= {relation.oid for relation in relations if relation.sequence}
    return [name for oid, name in unlogged.items() if oid in chosen]


def describe_left_out(names: Sequence[str]) -> str:
    """Return a sentence about the names that :func:`unlogged_left_out` returned."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (
        "Unlogged tables and sequences are empty on a standby, so pg_dump leaves out the rows and values of "
        f"{', '.join(names[:_SHOWN])}{more}."
    )
