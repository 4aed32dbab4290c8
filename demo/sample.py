"""The sample database: tables of very different sizes, many kinds of objects, and odd names."""

from pathlib import Path

import psycopg

SAMPLE_SQL = Path(__file__).with_name("sample.sql")


def fill(conninfo: str, *, scale: float = 1.0) -> None:
    """Fill an empty UTF-8 database, in one transaction. A ``scale`` of 1 makes about 670,000 rows, and 0 makes a few rows in each table."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT set_config('pgstow.scale', %s, true)", [str(scale)])
        connection.execute(SAMPLE_SQL.read_bytes())
