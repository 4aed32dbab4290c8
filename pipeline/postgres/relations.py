"""Queries on a database's tables, views and the like."""

from collections.abc import Sequence

import psycopg

from pipeline.errors import ConnectionFailed, InvalidRequest
from pipeline.postgres.session import Session

_NAMED = "pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
_BY_USERS = "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"


def _made_by_extension(catalog: str, oid: str) -> str:
    """Return the SQL condition that is true if ``d``, a row of pg_depend, says that an extension made an object of that catalogue."""
    return f"d.classid = 'pg_catalog.{catalog}'::pg_catalog.regclass AND d.objid = {oid} AND d.deptype = 'e'"


class Relations(Session):
    """A session with queries on the relations of its database. Methods raise ConnectionFailed if a query fails or the connection ends."""

    def relations(self) -> set[tuple[str, str]]:
        """Return schema and name of every table, view, sequence and the like, without those of the system and of extensions."""
        rows = self.fetch(
            f"SELECT n.nspname, c.relname FROM {_NAMED} WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND {_BY_USERS} "  # noqa: S608 - constants
            f"AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE {_made_by_extension('pg_class', 'c.oid')})"
        )
        return {(schema, name) for schema, name in rows}

    def visible_relations(self) -> set[int]:
        """Return the OIDs of the tables, views and the like that the users' ``search_path`` finds without their schemas.

        pg_dump resolves patterns in the same way (``expand_table_name_patterns`` in pg_dump.c). pgstow sets the users' ``search_path`` for
        one query only, in which every name has its schema.
        """
        self.execute("RESET search_path")
        try:
            rows = self.fetch("SELECT c.oid FROM pg_catalog.pg_class c WHERE pg_catalog.pg_table_is_visible(c.oid)")
        finally:
            self.execute("SET search_path = ''")
        return {oid for (oid,) in rows}

    def names_in(self, encoding: str) -> list[tuple[str, bytes]]:
        """Return the names of schemas, relations and columns that aren't in ASCII, and the bytes of each name in ``encoding``.

        Raises InvalidRequest if the encoding lacks a character of a name.
        """
        try:
            return [
                (name, data)
                for name, data in self.fetch(
                    "SELECT name::pg_catalog.text, pg_catalog.convert_to(name, %s) FROM (SELECT nspname FROM pg_catalog.pg_namespace "
                    "UNION SELECT relname FROM pg_catalog.pg_class UNION SELECT attname FROM pg_catalog.pg_attribute WHERE NOT attisdropped) "
                    "AS names (name) WHERE name ~ '[^\\x01-\\x7f]' ORDER BY 1",
                    [encoding],
                )
            ]
        except ConnectionFailed as exc:
            if isinstance(exc.__cause__, psycopg.errors.UntranslatableCharacter):
                why = " ".join(str(exc.__cause__).split())
                raise InvalidRequest(f"A name can't be written in the encoding {encoding}: {why}.") from exc
            raise

    def schemas(self) -> set[str]:
        """Return the names of all schemas."""
        return {name for (name,) in self.fetch("SELECT nspname FROM pg_catalog.pg_namespace")}

    def count_objects(self) -> int:
        """Return the number of relations, functions and large objects that users made: 0 in a new database."""
        [(functions, large_objects)] = self.fetch(
            "SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace "  # noqa: S608 - constants
            f"WHERE {_BY_USERS} AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE {_made_by_extension('pg_proc', 'p.oid')})), "
            "(SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata)"
        )
        return len(self.relations()) + int(functions) + int(large_objects)

    def partition_roots(self) -> dict[tuple[str, str], int]:
        """Return the OID of each partition's outermost partitioned table, by the partition's schema and name."""
        rows = self.fetch(
            f"SELECT n.nspname, c.relname, pg_catalog.pg_partition_root(c.oid)::pg_catalog.oid::bigint FROM {_NAMED} "  # noqa: S608 - constants
            "WHERE c.relispartition AND c.relkind = 'r'"
        )
        return {(schema, name): root for schema, name, root in rows}

    def extension_tables(self) -> set[tuple[str, str]]:
        """Return schema and name of every table that an extension made."""
        rows = self.fetch(
            f"SELECT n.nspname, c.relname FROM {_NAMED} "  # noqa: S608 - constants
            f"JOIN pg_catalog.pg_depend d ON {_made_by_extension('pg_class', 'c.oid')} WHERE c.relkind IN ('r', 'p')"
        )
        return {(schema, name) for schema, name in rows}

    def filtered_tables(self) -> set[tuple[str, str]]:
        """Return schema and name of every table in which row security may hide rows from this role."""
        rows = self.fetch(
            f"SELECT n.nspname, c.relname FROM {_NAMED} "  # noqa: S608 - constants
            "WHERE c.relrowsecurity AND pg_catalog.row_security_active(c.oid)"
        )
        return {(schema, name) for schema, name in rows}

    def relation_sizes(self, oids: Sequence[int]) -> dict[int, int]:
        """Return the bytes of each table on the server's disk, by OID: with its TOAST, without its indexes; 0 for a missing table."""
        rows = self.fetch(
            "SELECT oid::bigint, pg_catalog.pg_table_size(oid) FROM pg_catalog.unnest(%s::pg_catalog.oid[]) AS oid",
            [list(oids)],
        )
        return {oid: size or 0 for oid, size in rows}

    def estimated_sizes(self, oids: Sequence[int]) -> dict[int, int]:
        """Return the estimated bytes of each existing table, by OID: with its TOAST, as VACUUM and ANALYZE last counted them.

        The query locks no table, so it waits for no lock.
        """
        rows = self.fetch(
            "SELECT c.oid::bigint, (c.relpages + coalesce(t.relpages, 0)) * pg_catalog.current_setting('block_size')::bigint "
            "FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid WHERE c.oid = ANY (%s::pg_catalog.oid[])",
            [list(oids)],
        )
        return dict(rows)

    def estimated_size(self) -> int:
        """Return the estimated bytes of all tables together: with their TOAST, without the system's tables."""
        [(size,)] = self.fetch(
            "SELECT coalesce(pg_catalog.sum(c.relpages::bigint + coalesce(t.relpages, 0)), 0)::bigint "
            "* pg_catalog.current_setting('block_size')::bigint "
            "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
            "LEFT JOIN pg_catalog.pg_class t ON t.oid = c.reltoastrelid "
            "WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        )
        return int(size)
