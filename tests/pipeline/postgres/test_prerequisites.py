"""The roles, extensions and tablespaces that an archive of pg_dump needs on a server."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.postgres_fixtures import Database

from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.prerequisites import make_roles, missing_extensions, missing_roles, named_extensions, named_roles
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.postgres.toc import Toc
from pipeline.postgres.toc_format import read_toc

ROLES = ("owner", "Gr an;tee", 'gr"antor', "to", "reader", "mapped", "settled", "defaulter", "heir", "ONE", "zwei_ü")


@pytest.fixture
def toc(postgres: ThrowawayCluster, database: Database, tmp_path: Path) -> Toc:
    """The table of contents of a database. Each role of ROLES occurs in a different way. Other text only looks like a role's name."""
    quoted = ['"' + role.replace('"', '""') + '"' for role in ROLES]
    owner, grantee, grantor, to, reader, mapped, settled, defaulter, heir, one, two = quoted
    with Server(Conninfo.parse(database.conninfo)) as server:
        server.execute("SET search_path = public")
        for role in quoted:
            server.execute(f"CREATE ROLE {role}")
        for statement in (
            f'CREATE TABLE "GRANT x TO nobody;" (i integer, "FOR ROLE nobody" text); ALTER TABLE "GRANT x TO nobody;" OWNER TO {owner}',
            f'GRANT SELECT ("FOR ROLE nobody") ON "GRANT x TO nobody;" TO {grantee}',
            f"CREATE TABLE t (i integer); GRANT SELECT ON t TO {grantor} WITH GRANT OPTION",
            f"SET SESSION AUTHORIZATION {grantor}; GRANT SELECT ON t TO {to}; RESET SESSION AUTHORIZATION",
            f"CREATE POLICY p ON t TO {reader}, {one} USING (i IS DISTINCT FROM 1 AND current_user <> 'x TO nobody')",
            "CREATE POLICY everyone ON t WITH CHECK (EXTRACT(year FROM now()) > i)",
            f"CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE USER MAPPING FOR {mapped} SERVER s",
            f'ALTER ROLE {settled} IN DATABASE {database.name} SET search_path TO nowhere, "x TO nobody"',
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {defaulter} GRANT SELECT ON TABLES TO {heir}",
            f"CREATE FUNCTION f(a interval) RETURNS text LANGUAGE sql AS 'SELECT 1::text'; GRANT EXECUTE ON FUNCTION f TO {two}, PUBLIC",
            "REVOKE ALL ON FUNCTION f FROM PUBLIC; COMMENT ON TABLE t IS 'GRANT ALL ON t TO nobody;'",
        ):
            server.execute(statement)
    folder = tmp_path / "archive"
    pg_dump = [postgres.bin_dir / "pg_dump", "-Fd", "--no-sync", f"--file={folder}", f"--dbname={database.conninfo}"]
    subprocess.run(pg_dump, check=True)
    with Server(Conninfo.parse(database.conninfo)) as server:
        for role in quoted:
            server.execute(f"DROP OWNED BY {role} CASCADE")
            server.execute(f"ALTER ROLE {role} IN DATABASE {database.name} RESET ALL")
            server.execute(f"DROP ROLE {role}")
    return read_toc((folder / "toc.dat").read_bytes())


def test_exactly_the_named_roles_are_found(toc: Toc) -> None:
    assert named_roles(toc) - {"postgres", "pg_database_owner"} == set(ROLES)


def test_missing_roles_are_made(toc: Toc, postgres: ThrowawayCluster) -> None:
    with (
        ThrowawayCluster(search=[postgres.bin_dir]) as own,
        Server(Conninfo.parse(own.conninfo())) as server,
    ):
        assert missing_roles(server, named_roles(toc)) == sorted(ROLES)
        make_roles(server, [*missing_roles(server, named_roles(toc)), "pg_of_a_later_version"], toc)
        assert missing_roles(server, named_roles(toc)) == []
        assert server.fetch("SELECT FROM pg_roles WHERE (rolcanlogin OR rolsuper) AND rolname <> 'postgres'") == []


def test_extensions_that_the_server_lacks_are_found(toc: Toc, postgres: ThrowawayCluster) -> None:
    extension = replace(toc.entries[0], description="EXTENSION", tag="no_such")
    with Server(Conninfo.parse(postgres.conninfo())) as server:
        assert missing_extensions(server, named_extensions(toc)) == []
        assert missing_extensions(server, named_extensions(replace(toc, entries=(*toc.entries, extension)))) == [
            "no_such"
        ]
