"""The sample database: rows in skewed amounts, what else PostgreSQL can hold, and odd names."""

from pathlib import Path

import psycopg

SAMPLE_SQL = Path(__file__).with_name("sample.sql")


def fill(conninfo: str, *, scale: float = 1.0) -> None:
    """Fill an empty UTF-8 database, in one transaction; ``scale`` 1 makes some 670,000 rows, and 0 a few in each table."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("SELECT set_config('pgstow.scale', %s, true)", [str(scale)])
        connection.execute(SAMPLE_SQL.read_bytes())
