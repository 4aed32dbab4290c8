"""A backup that dumps tables in ranges has the same content as a backup that doesn't."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from integration.test_split_tables import ODD
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc_format import TocReader

MORE = r"""
CREATE SCHEMA "z.z";
CREATE TABLE "z.z"."b*$ ""Odd""
name" (a int, "select" text);
INSERT INTO "z.z"."b*$ ""Odd""
name" SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 20000) AS i;
CREATE TABLE "z.z".odd AS SELECT 1 AS a;
CREATE TABLE "z.z"."Odd" AS SELECT 2 AS a;
CREATE TABLE hash (id int) PARTITION BY HASH (id);
CREATE TABLE hash_0 PARTITION OF hash FOR VALUES WITH (MODULUS 1, REMAINDER 0);
INSERT INTO hash SELECT generate_series(1, 1000);
CREATE UNLOGGED TABLE volatile AS SELECT 1 AS a;
CREATE TABLE sparse AS SELECT i AS id, repeat('x', 1000) AS note FROM generate_series(1, 8000) AS i;
CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM base;
SELECT lo_from_bytea(0, 'a large object');
"""
"""``sparse`` gets empty pages in the middle and at the end, and dead rows."""
CHANGES = (
    "DELETE FROM sparse WHERE id % 3 = 0 OR id BETWEEN 3000 AND 5000 OR id > 7000",
    "VACUUM (TRUNCATE off) sparse",
    "UPDATE sparse SET note = 'new' WHERE id % 5 = 0",
)
SPLIT = ("--jobs", 3, "--split-tables", 1)


@pytest.fixture(scope="module")
def database(postgres: ThrowawayCluster) -> Iterator[Database]:
    with made_database(postgres, "split_dump") as database:
        for statement in (ODD, MORE, *CHANGES):
            database.execute(statement)
        yield database
