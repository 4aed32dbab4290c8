"""--map-role: on a server that lacks the roles of a backup, pgstow restores the backup for other roles."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.postgres.throwaway import ThrowawayCluster

OLD = ("shop", 'Old "boss"; TO x', "alter Käufer", "untouched")
SHOP, BOSS, BUYER, UNTOUCHED = ('"' + role.replace('"', '""') + '"' for role in OLD)
NEW = {"shop": "NEW shop", 'Old "boss"; TO x': "chef", "alter Käufer": "neu€"}

OBJECTS = f"""
CREATE SCHEMA shop AUTHORIZATION {SHOP}; GRANT USAGE ON SCHEMA shop TO {BOSS};
CREATE TABLE shop.shop (id integer PRIMARY KEY, shop text DEFAULT 'TO shop', "FOR shop" name);
INSERT INTO shop.shop VALUES (1, 'GRANT x TO shop;', 'shop');
ALTER TABLE shop.shop OWNER TO {SHOP};
COMMENT ON TABLE shop.shop IS 'GRANT ALL ON shop TO shop;';
GRANT SELECT ON shop.shop TO {BOSS} WITH GRANT OPTION;
GRANT UPDATE ("FOR shop") ON shop.shop TO {BUYER}, PUBLIC;
SET ROLE {BOSS}; GRANT SELECT ON shop.shop TO {UNTOUCHED}; RESET ROLE;
CREATE FUNCTION shop.shop(shop text) RETURNS text LANGUAGE sql AS $$SELECT 'TO shop'::text$$;
REVOKE ALL ON FUNCTION shop.shop FROM PUBLIC; GRANT EXECUTE ON FUNCTION shop.shop TO {BUYER};
ALTER TABLE shop.shop ENABLE ROW LEVEL SECURITY;
CREATE POLICY shop ON shop.shop FOR SELECT TO {BUYER}, {SHOP} USING ("FOR shop" <> 'TO shop' AND shop <> 'alter Käufer');
CREATE POLICY everybody ON shop.shop FOR INSERT WITH CHECK (shop <> 'shop');
ALTER DEFAULT PRIVILEGES FOR ROLE {SHOP} IN SCHEMA shop GRANT SELECT ON TABLES TO {BOSS};
ALTER DEFAULT PRIVILEGES FOR ROLE {BOSS} REVOKE ALL ON FUNCTIONS FROM PUBLIC;
CREATE FOREIGN DATA WRAPPER shop; CREATE SERVER shop FOREIGN DATA WRAPPER shop;
CREATE USER MAPPING FOR {SHOP} SERVER shop OPTIONS ("user" 'shop', "password" 'x''\\FOR shop');
CREATE USER MAPPING FOR public SERVER shop;
SELECT lo_from_bytea(4711, 'large'); ALTER LARGE OBJECT 4711 OWNER TO {SHOP}; GRANT SELECT ON LARGE OBJECT 4711 TO {BUYER};
"""
OF_THE_DATABASE = f"""
GRANT CREATE ON DATABASE shop TO {BUYER};
ALTER DATABASE shop OWNER TO {BOSS};
ALTER ROLE {BUYER} IN DATABASE shop SET work_mem TO '5MB';
"""
DESCRIPTIONS = """
SELECT 'owner', oid::regclass::text, relowner::regrole::text FROM pg_class WHERE oid = 'shop.shop'::regclass
UNION ALL SELECT 'owner of large', oid::text, lomowner::regrole::text FROM pg_largeobject_metadata
UNION ALL SELECT 'acl', c.oid::regclass::text, concat_ws(' ', a.grantor::regrole, a.grantee::regrole, a.privilege_type, a.is_grantable)
    FROM pg_class c, aclexplode(relacl) a WHERE c.oid = 'shop.shop'::regclass
UNION ALL SELECT 'column acl', attname, concat_ws(' ', a.grantor::regrole, a.grantee::regrole, a.privilege_type)
    FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = 'shop.shop'::regclass
UNION ALL SELECT 'function acl', '', concat_ws(' ', a.grantor::regrole, a.grantee::regrole)
    FROM pg_proc p, aclexplode(proacl) a WHERE p.proname = 'shop'
UNION ALL SELECT 'large acl', '', concat_ws(' ', a.grantor::regrole, a.grantee::regrole) FROM pg_largeobject_metadata, aclexplode(lomacl) a
UNION ALL SELECT 'policy', policyname, concat_ws(' ', ARRAY(SELECT role::text FROM unnest(roles) AS role ORDER BY 1), qual, with_check)
    FROM pg_policies
UNION ALL SELECT 'default', defaclobjtype::text, concat_ws(' ', defaclrole::regrole, defaclnamespace::regnamespace, a.grantee::regrole)
    FROM pg_default_acl, aclexplode(defaclacl) a
UNION ALL SELECT 'mapping', usename, ARRAY(SELECT unnest(umoptions) ORDER BY 1)::text FROM pg_user_mappings
UNION ALL SELECT 'comment', '', obj_description('shop.shop'::regclass)
UNION ALL SELECT 'row', '', s::text FROM shop.shop s
UNION ALL SELECT 'database', '', concat_ws(' ', datdba::regrole, a.grantee::regrole, a.privilege_type)
    FROM pg_database, aclexplode(datacl) a WHERE datname = current_database()
UNION ALL SELECT 'setting', setrole::regrole::text, setconfig::text FROM pg_db_role_setting WHERE setdatabase = (
    SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY 1, 2, 3
"""


@pytest.fixture
def orphaned(
    postgres: ThrowawayCluster,
    make_database: DatabaseMaker,
    empty_target: Database,
    tmp_path: Path,
    spool_dir: Path,
) -> Iterator[tuple[Path, Database]]:
    """Yield a store with a backup of a database, and the database. Three roles that the backup names have been renamed."""
    server = Database("postgres", postgres.conninfo())
    for role in (SHOP, BOSS, BUYER, UNTOUCHED):
        server.execute(f"CREATE ROLE {role}")
    source = make_database("shop")
    try:
        source.execute(OBJECTS)
        server.execute(OF_THE_DATABASE)
        made = run_pgstow("backup", source.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
        assert made.exit_code == 0, made
        for old, new in zip((SHOP, BOSS, BUYER), NEW.values(), strict=True):
            server.execute(f'ALTER ROLE {old} RENAME TO "{new}"')
        yield tmp_path / "store", source
    finally:
        for database in ("copy", "shop", empty_target.name):
            server.execute(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        for role in (SHOP, BOSS, BUYER, UNTOUCHED, *(f'"{role}"' for role in NEW.values())):
            server.execute(f"DROP ROLE IF EXISTS {role}")


def restore(store: Path, target: str, spool_dir: Path, roles: dict[str, str], *options: object) -> Result:
    mapping = [word for old, new in roles.items() for word in ("--map-role", f"{old}={new}")]
    # One job: with several jobs, stock pg_restore runs grants in any order. But a role can give a grant only after it got one itself.
    where = ("--from", store, "--into", target, "--spool-dir", spool_dir, "--jobs", 1)
    return run_pgstow("restore", *where, "-q", *mapping, *options)


def test_all_comes_back_for_the_new_roles(
    orphaned: tuple[Path, Database], postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    store, source = orphaned
    copy = Database("copy", postgres.conninfo("copy"))

    result = restore(store, copy.conninfo, spool_dir, NEW, "--create")

    assert result.exit_code == 0, result
    expected = source.fetch(DESCRIPTIONS)
    assert len(expected) > 25
    assert all(any(role in str(line) for line in expected) for role in NEW.values())
    assert copy.fetch(DESCRIPTIONS) == expected


def test_what_is_dropped_first_is_the_new_roles_too(
    orphaned: tuple[Path, Database], empty_target: Database, spool_dir: Path
) -> None:
    store, source = orphaned
    for options in ([], ["--clean"]):
        result = restore(store, empty_target.conninfo, spool_dir, NEW, *options)
        assert result.exit_code == 0, result
    kinds = "WHERE kind NOT IN ('database', 'setting')"
    described = f"SELECT * FROM ({DESCRIPTIONS}) AS all_of_it (kind, name, what) {kinds}"
    assert empty_target.fetch(described) == source.fetch(described)


def test_without_it_the_restore_fails(orphaned: tuple[Path, Database], empty_target: Database, spool_dir: Path) -> None:
    """Otherwise the tests above would prove nothing."""
    store, _ = orphaned
    for left_out in NEW:
        roles = {old: new for old, new in NEW.items() if old != left_out}
        result = restore(store, empty_target.conninfo, spool_dir, roles, "--clean", "--if-exists")
        assert_one_sentence(result, 5, "role .*does not exist")


def test_a_role_that_the_backup_does_not_name(
    orphaned: tuple[Path, Database], empty_target: Database, spool_dir: Path
) -> None:
    store, _ = orphaned
    for absent in ("nobody", "public", "Shop"):
        result = restore(store, empty_target.conninfo, spool_dir, {**NEW, absent: "chef"})
        assert_one_sentence(result, 2, f"name the role {absent}: .* no grant or policy names the role")
    assert empty_target.fetch("SELECT FROM pg_namespace WHERE nspname = 'shop'") == []


def test_roles_in_another_encoding(
    postgres: ThrowawayCluster, empty_target: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """A role's name has the encoding of the database in which it was created. An archive has its own database's encoding."""
    server = Database("postgres", postgres.conninfo())
    server.execute("CREATE DATABASE encoded TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
    source = Database("encoded", postgres.conninfo("encoded") + " client_encoding=UTF8")
    try:
        source.execute(
            'CREATE ROLE "größe"; CREATE TABLE "größe" ("größe" text); ALTER TABLE "größe" OWNER TO "größe";'
            'INSERT INTO "größe" VALUES (\'größe\'); CREATE POLICY "größe" ON "größe" TO "größe" USING ("größe" <> \'größer\')'
        )
        backup = ("backup", source.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
        assert run_pgstow(*backup).exit_code == 0
        source.execute('DROP OWNED BY "größe"; DROP ROLE "größe"')
        empty_target.execute('CREATE ROLE "größer"')
        result = restore(tmp_path / "store", empty_target.conninfo, spool_dir, {"größe": "größer"})
        assert result.exit_code == 0, result
        assert empty_target.fetch("SELECT tablename, tableowner FROM pg_tables WHERE schemaname = 'public'") == [
            ("größe", "größer")
        ]
        assert empty_target.fetch("SELECT policyname, roles::text[], qual FROM pg_policies") == [
            ("größe", ["größer"], "(\"größe\" <> 'größer'::text)")
        ]
    finally:
        server.execute("DROP DATABASE encoded WITH (FORCE)")
        empty_target.execute('DROP OWNED BY "größer"; DROP ROLE "größer"')
