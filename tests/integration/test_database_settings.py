"""A restore has the settings of the database before anything depends on them, and reads what it is given as it was written."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support.locales import server_with_locales
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database

from demo import compare
from pipeline.catalog import Wanted, find_backup
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.local import LocalBackend

SCHEMA = r"""
CREATE TABLE price (id int PRIMARY KEY, amount money DEFAULT '5,50'::money, since timestamptz, tags text[], body text, tenant text);
INSERT INTO price SELECT i, (i || ',99')::money, '2026-01-01 23:30:00+00'::timestamptz + i * interval '1 day', ARRAY[NULL, 'a'], 'the cats',
    'tenant ' || i % 2 FROM generate_series(1, 100) AS i;
CREATE DOMAIN fee AS money CHECK (VALUE > '0,10'::money);
CREATE TYPE pair AS (a fee, b int);
CREATE TABLE paid (pair pair); INSERT INTO paid VALUES (('1,10'::money, 1)::pair);
CREATE MATERIALIZED VIEW shown AS SELECT id, amount::text AS amount, since::date AS day, since::text AS at, to_tsvector(body) AS words FROM price;
CREATE MATERIALIZED VIEW own AS SELECT id FROM price WHERE tenant = current_setting('app.tenant');
"""
SETTINGS = {
    "lc_monetary": "'es_AR.UTF-8'",
    "timezone": "'Asia/Tokyo'",
    "datestyle": "'SQL, DMY'",
    "default_text_search_config": "'pg_catalog.english'",
    "app.tenant": "'tenant 1'",
    "search_path": "nowhere, public",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "array_nulls": "off",
    "role": "dummy",
    "session_preload_libraries": "'no_such_library'",
    "idle_session_timeout": "'20ms'",
    "statement_timeout": "'20ms'",
}
"""The last ones, from ``search_path`` on, would be in the way of a restore."""
MANY = tuple(SETTINGS)[:6]


def make(server: ThrowawayCluster, name: str, **settings: str) -> Database:
    Database("", server.conninfo()).execute(f"CREATE DATABASE {name}")
    database = Database(name, server.conninfo(name))
    for setting, value in settings.items():
        database.execute(f'ALTER DATABASE {name} SET "{setting}" TO {value}')
    return database
