"""Schemas like those of real databases. pgstow restores them exactly as stock pg_dump and pg_restore do."""

import subprocess
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from support.pgstow import run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

from demo import compare
from pipeline.postgres.throwaway import ThrowawayCluster

ROLES = ("schema_owner", "schema_reader")

SCHEMA = r"""
CREATE SCHEMA app AUTHORIZATION schema_owner;
COMMENT ON SCHEMA app IS 'of the application';
ALTER DEFAULT PRIVILEGES FOR ROLE schema_owner IN SCHEMA app GRANT SELECT ON TABLES TO schema_reader;
GRANT USAGE ON SCHEMA app TO schema_reader;

CREATE COLLATION app.by_bytes (PROVIDER = libc, LOCALE = 'C');
CREATE DOMAIN app.email AS text COLLATE app.by_bytes CHECK (VALUE ~ '@') DEFAULT 'a@b';
CREATE TYPE app.mood AS ENUM ('sad', 'so so', 'it''s happy');
CREATE TYPE app.pair AS (a integer, b text);
CREATE TYPE app.span AS RANGE (SUBTYPE = float8);
CREATE FUNCTION app.twice(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2';
CREATE PROCEDURE app.nothing() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE app.total (integer) (SFUNC = int4pl, STYPE = integer, INITCOND = '0');
CREATE OPERATOR app.@@@ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = int4pl);
CREATE CAST (app.pair AS text) WITH INOUT;

CREATE TABLE app.account (
    id bigint GENERATED ALWAYS AS IDENTITY (START 100 INCREMENT 5) PRIMARY KEY,
    email app.email NOT NULL UNIQUE,
    mood app.mood DEFAULT 'so so',
    pair app.pair,
    doubled integer GENERATED ALWAYS AS (app.twice(7)) STORED,
    legacy serial,
    at timestamptz DEFAULT '2026-01-02 03:04:05+06',
    raw bytea, doc jsonb, tags text[], span app.span,
    EXCLUDE USING gist (span WITH &&)
);
INSERT INTO app.account (email, mood, pair, raw, doc, tags, span)
SELECT i || '@x', (enum_range(NULL::app.mood))[1 + i % 3], ROW(i, E'b\t\\.\n' || i)::app.pair, decode(md5(i::text), 'hex'),
       jsonb_build_object('k', i, 'u', U&'\D83D\DE00'), ARRAY['a', NULL, 'c,"d'], app.span(i, i + 0.5)
FROM generate_series(1, 200) AS i;
ALTER TABLE app.account OWNER TO schema_owner;
ALTER TABLE app.account ALTER COLUMN email SET STATISTICS 500, ALTER COLUMN raw SET STORAGE EXTERNAL, SET (fillfactor = 70);
ALTER TABLE app.account ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.account FOR SELECT TO schema_reader USING (email = current_user::text);
GRANT SELECT (id, email) ON app.account TO schema_reader WITH GRANT OPTION;
CREATE INDEX "odd index" ON app.account USING gin (doc jsonb_path_ops) WHERE mood <> 'sad';
CREATE STATISTICS app.dependent (dependencies) ON email, mood FROM app.account;
ALTER TABLE app.account CLUSTER ON account_pkey, REPLICA IDENTITY FULL;

CREATE TABLE app.event (at date NOT NULL, kind text, account bigint REFERENCES app.account) PARTITION BY RANGE (at);
CREATE TABLE app.event_2025 PARTITION OF app.event FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (kind);
CREATE TABLE app.event_2025_a PARTITION OF app.event_2025 FOR VALUES IN ('a');
CREATE TABLE app.event_2025_rest PARTITION OF app.event_2025 DEFAULT;
CREATE TABLE app.event_rest PARTITION OF app.event DEFAULT;
CREATE UNIQUE INDEX ON app.event (at, kind, account);
INSERT INTO app.event SELECT date '2025-01-01' + i * 3, chr(97 + i % 3), 100 + 5 * (i % 200) FROM generate_series(1, 300) AS i;
CREATE TABLE app.mooded (mood app.mood, i integer) PARTITION BY HASH (mood);
CREATE TABLE app.mooded_0 PARTITION OF app.mooded FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE app.mooded_1 PARTITION OF app.mooded FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO app.mooded SELECT (enum_range(NULL::app.mood))[1 + i % 3], i FROM generate_series(1, 60) AS i;

CREATE TABLE app.base (id integer, note text);
CREATE TABLE app.derived (more date, CHECK (id > 0)) INHERITS (app.base);
INSERT INTO app.base VALUES (1, 'base'); INSERT INTO app.derived VALUES (2, 'derived', '2026-02-28');
CREATE UNLOGGED TABLE app.scratch AS SELECT generate_series(1, 10) AS i;
CREATE TABLE app.node (id integer PRIMARY KEY, parent integer REFERENCES app.node DEFERRABLE INITIALLY DEFERRED);
INSERT INTO app.node SELECT i, (i % 50) + 1 FROM generate_series(1, 50) AS i; SET CONSTRAINTS ALL IMMEDIATE;

CREATE VIEW app.happy WITH (security_barrier) AS SELECT * FROM app.account WHERE mood = 'it''s happy' WITH LOCAL CHECK OPTION;
CREATE MATERIALIZED VIEW app.per_kind AS SELECT kind, count(*) FROM app.event GROUP BY kind;
CREATE MATERIALIZED VIEW app.unfilled AS SELECT * FROM app.per_kind WITH NO DATA;
CREATE UNIQUE INDEX ON app.per_kind (kind);
CREATE RULE quiet AS ON DELETE TO app.base DO INSTEAD NOTHING;

CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a restore fires no trigger'; END $$;
CREATE TRIGGER touch BEFORE INSERT ON app.node FOR EACH ROW EXECUTE FUNCTION app.touch();
ALTER TABLE app.node DISABLE TRIGGER touch;
CREATE FUNCTION app.audit() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION app.audit();

CREATE FOREIGN DATA WRAPPER nowhere;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nowhere OPTIONS (host 'x');
CREATE USER MAPPING FOR schema_reader SERVER elsewhere OPTIONS (user 'u');
CREATE FOREIGN TABLE app.remote (id integer OPTIONS (column 'c')) SERVER elsewhere OPTIONS (table 't');

CREATE PUBLICATION chosen FOR TABLE app.account, app.event WITH (publish = 'insert, update');
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE TEXT SEARCH CONFIGURATION app.plain (COPY = simple);

SELECT lo_from_bytea(424242, 'large'); COMMENT ON LARGE OBJECT 424242 IS 'a large one';
ALTER LARGE OBJECT 424242 OWNER TO schema_owner; GRANT SELECT ON LARGE OBJECT 424242 TO schema_reader;
SELECT lo_from_bytea(424243, convert_to(repeat('x', 100000), 'UTF8'));
"""


@pytest.fixture
def original(postgres: ThrowawayCluster, make_database: DatabaseMaker) -> Database:
    server = Database("postgres", postgres.conninfo())
    for role in ROLES:
        with suppress(psycopg.errors.DuplicateObject):
            server.execute(f"CREATE ROLE {role}")
    made = make_database()
    made.execute(SCHEMA)
    for extension in ("hstore", "pg_trgm", "btree_gist", "citext"):
        with suppress(psycopg.errors.FeatureNotSupported):  # the installation may lack the contributed modules
            made.execute(f"CREATE EXTENSION {extension} SCHEMA app")
    return made


def dumped(cluster: ThrowawayCluster, database: Database) -> list[str]:
    """Return pg_dump's script of the database, without the rows of app.mooded: an enum's hashes, and so its partitions, differ by database."""
    pg_dump = [cluster.bin_dir / "pg_dump", "--exclude-table-data=app.mooded_*", "-d", database.conninfo]
    text = subprocess.run(pg_dump, capture_output=True, text=True, check=True).stdout
    return [line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_no_difference_but_what_stock_programs_have(
    postgres: ThrowawayCluster, original: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    stock, ours = make_database(), make_database()
    archive = tmp_path / "stock"
    subprocess.run([postgres.bin_dir / "pg_dump", "-Fd", "-f", archive, "-d", original.conninfo], check=True)
    subprocess.run([postgres.bin_dir / "pg_restore", "--exit-on-error", "-d", stock.conninfo, archive], check=True)

    where = ("--spool-dir", spool_dir, "-q", "--jobs", 2)
    made = run_pgstow("backup", original.conninfo, "--to", tmp_path / "store", *where)
    assert (made.exit_code, made.stderr) == (0, "")
    restored = run_pgstow("restore", "--from", tmp_path / "store", "--into", ours.conninfo, *where)
    assert (restored.exit_code, restored.stderr) == (0, "")

    assert dumped(postgres, ours) == dumped(postgres, stock)
    assert compare.definitions(ours.conninfo) == compare.definitions(stock.conninfo)
    as_it_was, as_it_is = compare.contents(original.conninfo), compare.contents(ours.conninfo)
    for partition in ("app.mooded_0", "app.mooded_1"):
        del as_it_was[partition], as_it_is[partition]
    assert as_it_is == as_it_was
    count = "SELECT count(*), sum(i) FROM app.mooded"
    assert ours.fetch(count) == original.fetch(count)


def test_ten_thousand_schemas(
    postgres: ThrowawayCluster, database: Database, make_database: DatabaseMaker, tmp_path: Path, spool_dir: Path
) -> None:
    for start in range(0, 10_000, 2_000):
        database.execute(
            f"DO $$ BEGIN FOR i IN {start}..{start + 1999} LOOP EXECUTE format('CREATE SCHEMA %I', 'tenant ' || i); END LOOP; END $$"
        )
    database.execute('CREATE TABLE "tenant 7".t AS SELECT 1 AS i')
    target = make_database()
    assert run_pgstow("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir).exit_code == 0
    into = ("--into", target.conninfo, "--spool-dir", spool_dir)
    assert run_pgstow("restore", "--from", tmp_path / "store", *into).exit_code == 0
    assert target.fetch("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant %'") == [(10_000,)]
    assert target.fetch('SELECT i FROM "tenant 7".t') == [(1,)]
