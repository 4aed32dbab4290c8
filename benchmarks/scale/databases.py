"""Build databases with very many small things: tables, schemas, partitions, large objects."""

import itertools
from collections.abc import Iterable

import psycopg

TABLES_OF_A_SCHEMA = 5
PARTITIONED_TABLES = 2
ROWS = 20
"""The number of rows in each table and partition."""
_LARGE_OBJECT = 256  # bytes
_BATCH = 500
"""The number of tables that a transaction creates. The server keeps a lock for each of them until the transaction ends."""


def build_tables(conninfo: str, count: int) -> None:
    """Create ``count`` tables in the empty database at ``conninfo``, each with a primary key and 20 rows."""
    _build(conninfo, (_table(f"table_{number:05}") for number in range(1, count + 1)))


def build_schemas(conninfo: str, count: int) -> None:
    """Create ``count`` schemas with five tables each."""
    names = [f"schema_{number:05}" for number in range(1, count + 1)]
    tables = range(1, TABLES_OF_A_SCHEMA + 1)
    _build(
        conninfo,
        (f"CREATE SCHEMA {name};" + "".join(_table(f"{name}.table_{one}") for one in tables) for name in names),
    )


def build_partitions(conninfo: str, count: int) -> None:
    """Create two partitioned tables with ``count`` partitions each."""
    for name in (f"parted_{number}" for number in range(1, PARTITIONED_TABLES + 1)):
        parent = f"CREATE TABLE {name} (id integer PRIMARY KEY, body text NOT NULL) PARTITION BY RANGE (id);"
        partitions = (
            f"CREATE TABLE {name}_{number:05} PARTITION OF {name} FOR VALUES FROM ({number * ROWS}) TO ({(number + 1) * ROWS});"
            for number in range(count)
        )
        rows = f"INSERT INTO {name} SELECT id, md5(id::text) FROM generate_series(0, {count * ROWS - 1}) id;"
        _build(conninfo, (parent, *partitions, rows))


def build_large_objects(conninfo: str, count: int) -> None:
    """Create ``count`` large objects of 256 bytes each."""
    content = f"convert_to(repeat(md5(n::text), {_LARGE_OBJECT // 32}), 'UTF8')"
    _build(conninfo, (f"SELECT lo_from_bytea(0, {content}) FROM generate_series(1, {count}) n",))


def create_databases(conninfo: str, names: Iterable[str]) -> None:
    """Create empty databases on the server at ``conninfo``."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for name in names:
            connection.execute(f"CREATE DATABASE {name}".encode())


def _table(name: str) -> str:
    return (
        f"CREATE TABLE {name} (id integer PRIMARY KEY, body text NOT NULL);"
        f"INSERT INTO {name} SELECT id, md5('{name}' || id) FROM generate_series(1, {ROWS}) id;"
    )


def _build(conninfo: str, statements: Iterable[str]) -> None:
    """Run the statements, a batch in each transaction. At the end, vacuum, freeze and analyze the database."""
    remaining = iter(statements)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while batch := "".join(itertools.islice(remaining, _BATCH)):
            connection.execute(batch.encode())
        connection.execute("VACUUM (FREEZE, ANALYZE)")
