"""Read the content and the definitions of a database, to compare it with another database."""

from dataclasses import dataclass

import psycopg

# Each row is a relation, and a query that returns its digest. The alias in the query must not be the name of a column, which would hide it.
_WHAT_TO_DIGEST = r"""
SELECT oid::regclass::text,
       format('SELECT count(*), md5(coalesce(string_agg(whole_row::text, chr(10) ORDER BY whole_row::text COLLATE "C"), ''''))'
              ' FROM ONLY %s AS whole_row', oid::regclass)
FROM pg_class
WHERE relkind IN ('r', 'm') AND relispopulated AND relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
UNION ALL
SELECT 'large objects',
       'SELECT (SELECT count(*) FROM pg_largeobject_metadata),'
       ' md5(coalesce(string_agg(concat_ws('' '', loid, pageno, data), chr(10) ORDER BY loid, pageno), ''''))'
       ' FROM pg_largeobject'
ORDER BY 1
"""

_DEFINITIONS = r"""
WITH ours AS (
    SELECT oid, relkind FROM pg_class
    WHERE relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^(pg_|information_schema$)'
)
SELECT concat_ws(' ', 'relation', oid::regclass, relkind) FROM ours
UNION ALL
SELECT concat_ws(' ', 'column', attrelid::regclass, attnum, quote_ident(attname), format_type(atttypid, atttypmod), attnotnull,
                 attidentity, attgenerated, pg_get_expr(adbin, adrelid))
FROM ours JOIN pg_attribute ON attrelid = ours.oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT concat_ws(' ', 'constraint', conrelid::regclass, quote_ident(conname), pg_get_constraintdef(c.oid))
FROM ours JOIN pg_constraint AS c ON conrelid = ours.oid
WHERE contype <> 'n' -- since PostgreSQL 18, NOT NULL is a constraint, too, but a dump does not keep its name
UNION ALL
SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid)) FROM ours JOIN pg_index ON indrelid = ours.oid
UNION ALL
SELECT concat_ws(' ', 'view', oid::regclass, pg_get_viewdef(oid)) FROM ours WHERE relkind IN ('v', 'm')
UNION ALL
SELECT concat_ws(' ', 'partition', ours.oid::regclass, pg_get_expr(relpartbound, c.oid))
FROM ours JOIN pg_class AS c USING (oid) WHERE relispartition
UNION ALL
SELECT concat_ws(' ', 'sequence', oid::regclass, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle,
                 pg_sequence_last_value(oid))
FROM ours JOIN pg_sequence ON seqrelid = oid
UNION ALL
SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid)) FROM ours JOIN pg_trigger AS t ON tgrelid = ours.oid WHERE NOT tgisinternal
UNION ALL
SELECT concat_ws(' ', 'policy', polrelid::regclass, quote_ident(polname), polcmd, pg_get_expr(polqual, polrelid))
FROM ours JOIN pg_policy ON polrelid = ours.oid
UNION ALL
SELECT concat_ws(' ', 'function', pg_get_functiondef(oid)) FROM pg_proc
WHERE pronamespace::regnamespace::text !~ '^(pg_|information_schema$)' AND prokind IN ('f', 'p')
UNION ALL
SELECT concat_ws(' ', 'enum', enumtypid::regtype, enumsortorder, enumlabel) FROM pg_enum
UNION ALL
SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(oid)) FROM pg_statistic_ext
UNION ALL
SELECT concat_ws(' ', 'comment', o.type, o.identity, description)
FROM pg_description, pg_identify_object(classoid, objoid, objsubid) AS o WHERE objoid >= 16384
ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a table, of a materialized view, or of all large objects."""

    rows: int
    digest: str
    """MD5 of the rows as text, in order."""


def contents(conninfo: str) -> dict[str, Content]:
    """Return the number of rows and a digest of each table and materialized view, by quoted name, and of all large objects.

    The role must be a superuser, since other roles can't read pg_largeobject. Raise psycopg.Error.
    """
    with psycopg.connect(conninfo) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        digests = connection.execute(_WHAT_TO_DIGEST.encode()).fetchall()
        found = {}
        for name, query in digests:
            [(rows, digest)] = connection.execute(query.encode()).fetchall()
            found[name] = Content(rows, digest)
        return found


def definitions(conninfo: str) -> list[str]:
    """Return a sorted line for each relation, column, constraint, index, view, trigger, function, comment and so on. Raise psycopg.Error."""
    with psycopg.connect(conninfo) as connection:
        return [line for (line,) in connection.execute(_DEFINITIONS.encode()).fetchall()]
