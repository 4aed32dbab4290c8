"""The tables, sequences and large objects that pg_dump would read, and the role's privileges on them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.postgres.patterns import compile_pattern
from pipeline.postgres.server import Server
from pipeline.selection import Selection


@dataclass(frozen=True, slots=True)
class Relation:
    """A table that pg_dump locks and reads, or a sequence whose value it reads. pg_dump reads no rows of views and foreign tables."""

    oid: int
    schema: str
    name: str
    quoted_schema: str
    quoted: str
    """Schema and name, as in SQL."""
    sequence: bool
    owner: int | None
    """The OID of the table whose column the sequence belongs to; None for other relations. pg_dump dumps the sequence with the table."""
    identity: bool
    """True if the sequence belongs to an identity column. pg_dump never dumps such a sequence without its table."""
    schema_usable: bool
    readable: bool
    rows_hidden: bool
    """True if row security would hide rows from the role. pg_dump then fails."""
    parents: tuple[int, ...]
    """The OIDs of the tables of which this table is a partition or a child."""
    visible: bool
    """True if the users' ``search_path`` finds the relation without its schema."""


@dataclass(frozen=True, slots=True)
class LargeObjects:
    """The large objects that the role may not read."""

    count: int
    """The number of all large objects that the role may not read."""
    examples: tuple[int, ...]
    """The lowest OIDs."""


def relations_to_dump(server: Server, selection: Selection) -> list[Relation]:
    """Return every table and sequence that pg_dump would dump for this selection.

    Raises ConnectionFailed, or InvalidRequest if a pattern is invalid.
    """
    visible = server.visible_relations()
    relations = [
        Relation(*(*row, tuple(parents or ()), row[0] in visible)) for *row, parents in server.fetch(_RELATIONS)
    ]
    return select_relations(relations, selection)


def select_relations(relations: Sequence[Relation], selection: Selection) -> list[Relation]:
    """Return the relations in the selection, by pg_dump's rules: with ``--table``, it ignores ``--schema`` and ``--exclude-schema``.

    Raises InvalidRequest if a pattern is invalid.
    """
    tables = _Tables(relations, selection.tables, selection.values("--table-and-children"))
    exclude_tables = _Tables(relations, selection.exclude_tables, selection.values("--exclude-table-and-children"))
    schemas, exclude_schemas = _Patterns(selection.schemas), _Patterns(selection.exclude_schemas)

    def is_chosen(relation: Relation) -> bool:
        if relation.oid in exclude_tables.found:
            return False
        if tables:
            return relation.oid in tables.found
        return (not schemas or schemas.match_schema(relation)) and not exclude_schemas.match_schema(relation)

    chosen = {relation.oid for relation in relations if is_chosen(relation)}
    return [
        relation
        for relation in relations
        if relation.owner in chosen or (relation.oid in chosen and not relation.identity)
    ]


def without_excluded_data(relations: Iterable[Relation], selection: Selection) -> list[Relation]:
    """Return the tables among ``relations`` whose rows the selection includes. Raises InvalidRequest if a pattern is invalid."""
    relations = list(relations)
    excluded = _Tables(relations, selection.exclude_table_data, selection.values("--exclude-table-data-and-children"))
    return [relation for relation in relations if not relation.sequence and relation.oid not in excluded.found]


def unreadable_large_objects(server: Server, examples: int) -> LargeObjects:
    """Return the large objects that the role may not read, with at most ``examples`` OIDs. Raises ConnectionFailed."""
    denied = "NOT pg_catalog.has_largeobject_privilege(oid, 'SELECT')" if server.major >= 18 else _DENIED_BY_ACL
    rows = server.fetch(
        f"SELECT oid::bigint, pg_catalog.count(*) OVER () FROM pg_catalog.pg_largeobject_metadata "  # noqa: S608 - constants
        f"WHERE {denied} ORDER BY oid LIMIT {examples:d}"
    )
    return LargeObjects(rows[0][1] if rows else 0, tuple(oid for oid, _ in rows))


def grant_reading(relations: Sequence[Relation], quoted_role: str, *, at_most: int) -> tuple[str, ...]:
    """Return the statements that let the role read the relations.

    If the role may not read more than ``at_most`` tables of a schema, one statement lets it read all tables of the schema. The same holds for
    sequences.
    """
    schemas = {relation.quoted_schema for relation in relations if not relation.schema_usable}
    statements = [f"GRANT USAGE ON SCHEMA {schema} TO {quoted_role};" for schema in sorted(schemas)]
    lacking: dict[tuple[str, str], list[str]] = {}
    for relation in relations:
        if not relation.readable:
            kind = "SEQUENCE" if relation.sequence else "TABLE"
            lacking.setdefault((relation.quoted_schema, kind), []).append(relation.quoted)
    for (schema, kind), names in sorted(lacking.items()):
        what = f"{kind} {', '.join(names)}" if len(names) <= at_most else f"ALL {kind}S IN SCHEMA {schema}"
        statements.append(f"GRANT SELECT ON {what} TO {quoted_role};")
    return tuple(statements)


def grant_large_objects(lacking: LargeObjects, quoted_role: str) -> str:
    """Return the statement that lets the role read the large objects. If there are more than the examples, it names all large objects."""
    if lacking.count == len(lacking.examples):
        return f"GRANT SELECT ON LARGE OBJECT {', '.join(map(str, lacking.examples))} TO {quoted_role};"
    return (
        "DO $pgstow$ DECLARE lo pg_catalog.oid; BEGIN FOR lo IN SELECT oid FROM pg_catalog.pg_largeobject_metadata LOOP "  # noqa: S608 - as the server quoted it
        f"EXECUTE pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %s', lo, $role${quoted_role}$role$); END LOOP; END $pgstow$;"
    )


class _Tables:
    """The relations that the given patterns name. Its truth value is True if there are any patterns."""

    def __init__(self, relations: Sequence[Relation], alone: Iterable[str], with_children: Iterable[str]) -> None:
        one, several = _Patterns(alone), _Patterns(with_children)
        self._given = bool(one or several)
        self.found = {relation.oid for relation in relations if one.match(relation)}
        """The OIDs of the relations."""
        children: dict[int, list[int]] = {}
        for relation in relations:
            for parent in relation.parents:
                children.setdefault(parent, []).append(relation.oid)
        waiting = [relation.oid for relation in relations if several.match(relation)]
        seen = set(waiting)
        while waiting:
            fresh = [oid for oid in children.get(waiting.pop(), ()) if oid not in seen]
            seen.update(fresh)
            waiting += fresh
        self.found |= seen

    def __bool__(self) -> bool:
        return self._given


class _Patterns:
    """Several of pg_dump's patterns. Its truth value is True if there are any."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._compiled = [compile_pattern(pattern) for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def match(self, relation: Relation) -> bool:
        """True if a pattern names the relation."""
        return any(
            name.fullmatch(relation.name)
            and (relation.visible if schema is None else schema.fullmatch(relation.schema))
            for schema, name in self._compiled
        )

    def match_schema(self, relation: Relation) -> bool:
        """True if a pattern, read as a schema's name, names the relation's schema."""
        return any(name.fullmatch(relation.schema) for _, name in self._compiled)


# The result includes the relations of extensions: pg_dump locks them, too, and dumps the rows of some.
# If an object was dropped meanwhile, its privilege is NULL. row_security_active() considers owners, BYPASSRLS and FORCE.
_RELATIONS = """
SELECT c.oid::bigint, n.nspname, c.relname, pg_catalog.quote_ident(n.nspname), pg_catalog.format('%I.%I', n.nspname, c.relname),
       c.relkind = 'S', owned.by, coalesce(owned.identity, false),
       coalesce(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), true),
       coalesce(pg_catalog.has_table_privilege(c.oid, 'SELECT'), true), c.relkind <> 'S' AND pg_catalog.row_security_active(c.oid),
       (SELECT pg_catalog.array_agg(i.inhparent::bigint) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (
    SELECT objid, pg_catalog.min(refobjid)::bigint AS by, pg_catalog.bool_or(deptype = 'i') AS identity FROM pg_catalog.pg_depend
    WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND deptype IN ('a', 'i') AND refobjsubid > 0
    GROUP BY objid
) AS owned ON owned.objid = c.oid AND c.relkind = 'S'
WHERE c.relkind IN ('r', 'p', 'S') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY n.nspname, c.relname
"""

# For servers before 18, which have no has_largeobject_privilege(). Only the owner may read a large object that has no ACL.
_DENIED_BY_ACL = """
pg_catalog.current_setting('lo_compat_privileges') = 'off'
AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
AND NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(coalesce(lomacl, pg_catalog.acldefault('L', lomowner))) AS granted
    WHERE granted.privilege_type = 'SELECT'
      AND CASE granted.grantee WHEN 0 THEN true ELSE pg_catalog.pg_has_role(granted.grantee, 'USAGE') END
)
"""
