"""A superuser runs every command on a database in which another user has laid traps.

The traps are functions, operators, views and domains with the names of PostgreSQL's own. Most are in the schema ``evil``, which the
database's search path names before ``pg_catalog``. The others are operators in ``public`` for pairs of types that PostgreSQL has no operator
for. A trap that runs writes a message to the server's log, and tries to make the role ``waiting`` a superuser.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pgstow import Result, run_pgstow
from support.postgres_fixtures import Database

from pipeline.postgres.throwaway import ThrowawayCluster

ROOT = Path(__file__).parents[2]
WORDS = sorted(
    {
        word
        for path in (ROOT / "pipeline").rglob("*.py")
        for word in re.findall(r"\bpg_\w+|\b[a-z_]+(?=\()", path.read_text())
    }
)
"""The names of all functions and catalogs that pgstow's SQL may use."""

SPRUNG = "a trap was sprung"

PREPARE = """
CREATE ROLE waiting LOGIN;
CREATE ROLE clerk LOGIN;
"""

# The role ``waiting`` runs these statements.
SPRING = f"""
CREATE SCHEMA evil;
CREATE FUNCTION evil.spring(what text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE LOG '{SPRUNG}: % by %', what, current_user;
    ALTER ROLE waiting SUPERUSER;
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
CREATE FUNCTION evil.sprung(what text) RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN PERFORM evil.spring(what); RETURN true; END $$;
"""

# Functions and operators with the names and types of PostgreSQL's own, views of its relations, and domains over its types.
SHADOWS = r"""
SET search_path = pg_catalog;
DO $do$
DECLARE one record; body text;
BEGIN
    FOR one IN
        SELECT p.oid, p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
        FROM pg_proc p
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.proname = ANY (string_to_array('{words}', ','))
          AND NOT EXISTS (SELECT FROM pg_type t WHERE t.oid IN (p.prorettype) AND t.typtype = 'p')
          AND NOT EXISTS (SELECT FROM unnest(p.proargtypes) a JOIN pg_type t ON t.oid = a WHERE t.typtype = 'p' AND t.typname <> 'anyarray')
          AND p.provariadic = 0 AND NOT p.proretset AND NOT (p.prokind = 'a' AND p.pronargs = 0)
    LOOP
        EXECUTE format('CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN NULL; END $f$',
            one.proname, one.arguments, one.result, 'function ' || one.proname);
    END LOOP;
    FOR one IN
        SELECT o.oprname, o.oprleft::regtype AS l, o.oprright::regtype AS r, o.oprresult::regtype AS result FROM pg_operator o
        WHERE o.oprname IN ('=', '<>', '!~', '||', '*', '+', '-') AND o.oprleft <> 0 AND o.oprresult <> 0
          AND {builtin_left} AND {builtin_right}
    LOOP
        body := format('evil.%I', 'operator ' || one.oprname || one.l || one.r);
        EXECUTE format('CREATE FUNCTION %s (%s, %s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN NULL; END $f$',
            body, one.l, one.r, one.result, 'operator ' || one.oprname);
        EXECUTE format('CREATE OPERATOR evil.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s)', one.oprname, one.l, one.r, body);
    END LOOP;
    FOR one IN
        SELECT DISTINCT o.oprname, l.t AS l, r.t AS r
        FROM unnest(ARRAY['=', '<>', '!~', '||']) AS o (oprname),
             unnest(ARRAY['name', 'oid', '"char"']::regtype[]) AS l (t),
             unnest(ARRAY['name', 'text', '"char"']::regtype[]) AS r (t)
        WHERE NOT EXISTS (SELECT FROM pg_operator p WHERE p.oprname = o.oprname AND p.oprleft = l.t AND p.oprright = r.t)
    LOOP
        body := format('public.%I', 'operator ' || one.oprname || one.l || one.r);
        EXECUTE format(
            'CREATE FUNCTION %s (%s, %s) RETURNS boolean LANGUAGE plpgsql AS $f$ BEGIN PERFORM evil.spring(%L); RETURN NULL; END $f$',
            body, one.l, one.r, 'operator public.' || one.oprname);
        EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = %s)', one.oprname, one.l, one.r, body);
    END LOOP;
    FOR one IN
        SELECT relname FROM pg_class c WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v')
          AND relname = ANY (string_to_array('{words}', ',')) AND has_table_privilege(c.oid, 'SELECT')
          AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid = 'anyarray'::regtype)
    LOOP
        body := 'view ' || one.relname;
        EXECUTE format('CREATE VIEW evil.%I AS SELECT * FROM pg_catalog.%I WHERE evil.sprung(%L)', one.relname, one.relname, body);
    END LOOP;
    FOR one IN SELECT unnest(ARRAY['oid', 'text', 'name', 'float8', 'regclass', 'regnamespace', 'bool', 'int8']) AS typname
    LOOP
        EXECUTE format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (evil.sprung(%L))', one.typname, one.typname, 'type ' || one.typname);
    END LOOP;
END $do$;
"""

SHOP = """
CREATE SCHEMA shop;
CREATE TABLE public.customer (id integer PRIMARY KEY, name text);
INSERT INTO public.customer SELECT i, 'customer ' || i FROM generate_series(1, 50) AS i;
CREATE TABLE shop.visit (id integer, at date) PARTITION BY RANGE (id);
CREATE TABLE shop.visit_low PARTITION OF shop.visit FOR VALUES FROM (0) TO (100);
INSERT INTO shop.visit SELECT i, '2026-01-01' FROM generate_series(1, 60) AS i;
CREATE MATERIALIZED VIEW shop.names AS SELECT name FROM public.customer;
SELECT lo_from_bytea(0, 'large');
"""


def lay_traps(cluster: ThrowawayCluster, database: str) -> None:
    """Lay the traps in a database whose owner is the role ``waiting``."""
    owner = Database(database, f"{cluster.conninfo(database)} user=waiting")
    owner.execute(SPRING)
    builtin = "('name', 'text', 'oid', 'int4', 'int8', 'char', 'bool', 'timestamptz')"
    shadows = SHADOWS.replace("{words}", ",".join(WORDS))
    for side in ("left", "right"):
        shadows = shadows.replace(
            f"{{builtin_{side}}}", f"o.opr{side} IN (SELECT oid FROM pg_type WHERE typname IN {builtin})"
        )
    owner.execute(shadows)
    owner.execute(f"ALTER DATABASE {database} SET search_path = evil, public, pg_catalog")


@pytest.fixture(scope="module")
def cluster() -> Iterator[ThrowawayCluster]:
    """Yield a server with traps in the database to back up, and in postgres, to which pgstow connects for work on the whole server."""
    with ThrowawayCluster() as cluster:
        server = Database("postgres", cluster.conninfo())
        server.execute(PREPARE)
        server.execute("CREATE DATABASE trapped OWNER waiting")
        server.execute("ALTER DATABASE postgres OWNER TO waiting")
        Database("trapped", f"{cluster.conninfo('trapped')} user=waiting").execute(SHOP)
        for database in ("trapped", "postgres"):
            Database(database, cluster.conninfo(database)).execute("GRANT CREATE ON SCHEMA public TO waiting")
            lay_traps(cluster, database)
        yield cluster


def sprung(cluster: ThrowawayCluster) -> list[str]:
    """Return the messages about traps in the server's log."""
    return re.findall(rf"LOG:  {SPRUNG}: (.*)", cluster.log)


def test_the_traps_work(cluster: ThrowawayCluster) -> None:
    """Otherwise the next test would prove nothing."""
    trapped = Database("trapped", cluster.conninfo("trapped"))
    before = len(sprung(cluster))
    for query in (
        "SELECT count(*) FROM pg_class WHERE relname !~ '^pg_'",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT quote_ident('x'), current_setting('block_size')",
        "SELECT 1::oid",
        "SET search_path = public; SELECT 'x'::name !~ '^pg_'",
    ):
        trapped.fetch(query) if not query.startswith("SET") else trapped.execute(query)
    found = sprung(cluster)[before:]
    assert {one.split(" by ")[0].split()[0] for one in found} == {"view", "operator", "function", "type"}, found
    trapped.execute("SET search_path = pg_catalog; ALTER ROLE waiting NOSUPERUSER")


def test_no_command_springs_one(cluster: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    """A proof doesn't make the role ``waiting`` a superuser either, neither on its own server nor on a scratch server."""
    before = len(sprung(cluster))
    source, server = cluster.conninfo("trapped"), cluster.conninfo("postgres")

    def run(*arguments: object) -> Result:
        result = run_pgstow(*arguments, "--spool-dir", spool_dir)
        assert sprung(cluster)[before:] == [], arguments
        return result

    def succeeds(*arguments: object) -> None:
        result = run(*arguments)
        assert result.exit_code == 0, (arguments, result)

    examined = run("check", source, "--to", tmp_path / "folder", "--json", "-t", "customer", "-t", "shop.*")
    assert json.loads(examined.stdout)["ready"], examined
    succeeds("backup", source, "--to", tmp_path / "folder", "--dry-run", "-t", "customer")
    succeeds("backup", source, "--to", tmp_path / "folder", "-q", "--jobs", 2, "--statement-timeout", 60)
    succeeds("backup", source, "--to", tmp_path / "plain", "-q", "--format", "plain")
    succeeds("backup", server, "--to", tmp_path / "all", "-q", "--all-databases")
    succeeds("backup", server, "--to", tmp_path / "script", "-q", "--all-databases", "--format", "plain")

    # Restore a lost table and lost rows into the database with the traps.
    into = ("--from", tmp_path / "folder", "-q", "--into", source)
    owner = Database("trapped", f"{source} user=waiting")
    owner.execute("SET search_path = pg_catalog; DROP TABLE shop.visit_low; TRUNCATE public.customer")
    succeeds("restore", *into, "-t", "shop.visit_low")
    succeeds("restore", *into, "-t", "public.customer", "--data-only")
    succeeds("restore", *into, "-t", "public.customer", "--to-schema", "before", "--as", "customer_before")
    succeeds("restore", "--from", tmp_path / "all", "-q", "--into", server, "--globals-only")
    succeeds("export", "--from", tmp_path / "folder", "--file", tmp_path / "exported", "-q")

    # An assertion runs with the database's search path, so its SQL names everything in full.
    roles = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) 'waiting'"
    proof = ("verify", "--level", "restore", "--assert", f"SELECT NOT ({roles})")
    succeeds(*proof, "--from", tmp_path / "folder", "--checksums", "--scratch", server)
    succeeds(*proof, "--from", tmp_path / "plain")
    assert Database("postgres", server).fetch(roles) == [(False,)]
