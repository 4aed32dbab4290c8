"""Moves relations to another schema or name, with all of their named parts: indexes, owned sequences, statistics objects."""

from collections.abc import Collection
from dataclasses import dataclass

from psycopg import sql

from pipeline.postgres.patterns import Name
from pipeline.postgres.server import Server

LONGEST_NAME = 63
"""The most bytes of a name. PostgreSQL cuts off the rest (NAMEDATALEN)."""
_PARTS = """
WITH chosen AS (
    SELECT c.oid, c.relnamespace, c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) AS wanted (schema, name)
        ON n.nspname = wanted.schema AND c.relname = wanted.name
), parts (kind, place, name, follows) AS (
    SELECT 'TABLE', relnamespace, relname, relkind = 'S' AND EXISTS (
        SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND objid = chosen.oid
        AND refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND refobjsubid <> 0 AND deptype IN ('a', 'i'))
    FROM chosen
    UNION ALL
    SELECT 'TABLE', i.relnamespace, i.relname, true FROM pg_catalog.pg_index
    JOIN pg_catalog.pg_class i ON i.oid = indexrelid JOIN chosen ON chosen.oid = indrelid
    UNION ALL
    SELECT 'STATISTICS', stxnamespace, stxname, false FROM pg_catalog.pg_statistic_ext JOIN chosen ON chosen.oid = stxrelid
)
SELECT kind, nspname, name, follows FROM parts JOIN pg_catalog.pg_namespace n ON n.oid = place ORDER BY follows, nspname, name
"""


@dataclass(frozen=True, slots=True)
class _Part:
    kind: str
    """``TABLE`` for every relation and index, since ALTER TABLE takes them all, or ``STATISTICS``."""
    schema: str
    name: str
    follows: bool
    """True if the server moves the part together with its table: a sequence that the table owns, or an index."""


def named_objects(server: Server) -> set[tuple[str, str, str]]:
    """Return kind, schema and name of each object whose name may clash with the name of a new table or of its parts.

    The kind is ``TABLE`` for every relation and index, or ``STATISTICS``. Raises ConnectionFailed.
    """
    return {
        (kind, schema, name)
        for kind, schema, name in server.fetch(
            "SELECT 'TABLE', nspname, relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace "
            "UNION ALL SELECT 'STATISTICS', nspname, stxname FROM pg_catalog.pg_statistic_ext "
            "JOIN pg_catalog.pg_namespace n ON n.oid = stxnamespace"
        )
    }


def move_relations(
    server: Server, relations: Collection[Name], *, schema: str | None, rename: tuple[Name, str] | None
) -> dict[Name, Name]:
    """Move relations to ``schema``, and return each relation's new schema and name, by the old schema and name.

    If ``schema`` doesn't exist, it is made. If it is None, the relations stay in their schemas.

    ``rename`` has a relation and its new name. All other relations and all parts then get new names, too: the target of the restore may
    still have the original objects in the same schema. A name that begins with the relation's old name begins with the new name instead. Any
    other name gets ``_`` before it. Raises ConnectionFailed if the server refuses.
    """
    if schema is not None:
        server.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(server.quoted(schema)))
    wanted = [[place for place, _ in relations], [name for _, name in relations]]
    parts = [_Part(*row) for row in server.fetch(_PARTS, wanted)]
    taken = named_objects(server)
    moves: list[tuple[_Part, str, Name]] = []
    for number, part in enumerate(parts):
        # While a renamed object moves, it has a name that no other object has. So names clash in neither schema.
        on_the_way = part.name if rename is None else f"pgstow on the way {number}"
        name = part.name if rename is None else _new_name(part, schema or part.schema, *rename, taken)
        taken.add((part.kind, schema or part.schema, name))
        moves.append((part, on_the_way, (schema or part.schema, name)))
    for part, on_the_way, _ in moves:
        _rename(server, part.kind, (part.schema, part.name), on_the_way)
    for part, on_the_way, (place, _) in moves:
        if place != part.schema and not part.follows:
            _alter(server, part.kind, (part.schema, on_the_way), "SET SCHEMA", place)
    for part, on_the_way, (place, name) in moves:
        _rename(server, part.kind, (place, on_the_way), name)
    moved = {(part.schema, part.name): there for part, _, there in moves if part.kind == "TABLE"}
    return {relation: moved[relation] for relation in relations}


def can_rename_schema(server: Server, old: str, new: str) -> bool:
    """True if the name ``new`` is free, and all extensions in the schema can be moved to another schema. Raises ConnectionFailed."""
    fixed = server.fetch(
        "SELECT FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace WHERE nspname = %s AND NOT extrelocatable",
        [old],
    )
    return new not in server.schemas() and not fixed


def rename_schema(server: Server, old: str, new: str) -> None:
    """Rename a schema with all its objects, and move its extensions back to a new schema of the old name. Raises ConnectionFailed."""
    extensions = server.fetch(
        "SELECT extname FROM pg_catalog.pg_extension JOIN pg_catalog.pg_namespace n ON n.oid = extnamespace WHERE nspname = %s",
        [old],
    )
    server.execute(sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(server.quoted(old), server.quoted(new)))
    if extensions:
        server.execute(sql.SQL("CREATE SCHEMA {}").format(server.quoted(old)))
    for (extension,) in extensions:
        server.execute(sql.SQL("ALTER EXTENSION {} SET SCHEMA {}").format(server.quoted(extension), server.quoted(old)))


def _new_name(part: _Part, place: str, renamed: Name, new: str, taken: set[tuple[str, str, str]]) -> str:
    if part.kind == "TABLE" and (part.schema, part.name) == renamed:
        return new
    old = renamed[1]
    name = new + part.name.removeprefix(old) if part.name.startswith(old) else f"_{part.name}"
    fresh, number = _cut(name, LONGEST_NAME), 1
    while (part.kind, place, fresh) in taken:
        number += 1
        fresh = f"{_cut(name, LONGEST_NAME - len(str(number)))}{number}"
    return fresh


def _cut(name: str, size: int) -> str:
    return name.encode()[:size].decode(errors="ignore")


def _rename(server: Server, kind: str, relation: Name, name: str) -> None:
    if name != relation[1]:
        _alter(server, kind, relation, "RENAME TO", name)


def _alter(server: Server, kind: str, name: Name, action: str, to: str) -> None:
    server.execute(
        sql.SQL("ALTER {} {} {} {}").format(sql.SQL(kind), server.quoted(*name), sql.SQL(action), server.quoted(to))
    )
