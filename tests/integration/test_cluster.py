"""A whole server: roles, tablespaces and every database, to the store and onto a new server."""

import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.faulty_backups import FaultyStore
from support.faulty_http import Fault
from support.locales import server_with_locales
from support.manifests import canonical, forge_script
from support.pgstow import Result, assert_one_sentence, finish, run_pgstow, start_pgstow, wait_until
from support.postgres_fixtures import Database
from typer.main import get_command

from cli.errors import exit_code_of
from cli.main import app
from pipeline.backup.request import BackupRequest
from pipeline.catalog.find import BackupSelector
from pipeline.cluster.backup import back_up_cluster
from pipeline.cluster.request import ClusterRequest, ServerTarget
from pipeline.cluster.restore import restore_cluster
from pipeline.config import Limits
from pipeline.errors import BackupBroken, InvalidRequest
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.backend import Body, ObjectInfo
from storage_backends.local import LocalBackend

CLUSTER = ("--cluster", "prod")


def dump_all(cluster: ThrowawayCluster) -> list[str]:
    """Return the lines in which pg_dumpall writes a whole server, without the lines that differ between two runs."""
    command = [cluster.bin_dir / "pg_dumpall", "-d", cluster.conninfo()]
    dumped = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line for line in dumped.splitlines() if line and not line.startswith(("--", "\\restrict", "\\unrestrict"))]


@pytest.fixture
def source() -> Iterator[ThrowawayCluster]:
    with ThrowawayCluster() as cluster:
        yield cluster


@pytest.fixture
def target() -> Iterator[ThrowawayCluster]:
    with ThrowawayCluster() as cluster:
        yield cluster


@pytest.fixture
def german_target() -> Iterator[ThrowawayCluster]:
    """A server whose messages are in German, if its package has the German translation."""
    with server_with_locales("de_DE", lc_messages="de_DE.UTF-8") as cluster:
        yield cluster


def execute(cluster: ThrowawayCluster, database: str, *statements: str) -> None:
    with closing(psycopg.connect(cluster.conninfo(database), autocommit=True)) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def give_to_server(cluster: ThrowawayCluster, folder: Path) -> None:
    """Make the server's user the owner of the folder, so that the server can write to it."""
    [(data,)] = Database("postgres", cluster.conninfo()).fetch("SHOW data_directory")
    status = Path(data).stat()
    os.chown(folder, status.st_uid, status.st_gid)  # if root runs the tests, the server's user has no name


def furnish(cluster: ThrowawayCluster) -> None:
    """Roles, and databases that use them."""
    execute(
        cluster,
        "postgres",
        "CREATE ROLE owner LOGIN PASSWORD 'secret' VALID UNTIL '2031-01-01'",
        'CREATE ROLE "Re ader" NOLOGIN CONNECTION LIMIT 3',
        'GRANT "Re ader" TO owner WITH ADMIN OPTION',
        "ALTER ROLE owner SET work_mem TO '5MB'",
        "ALTER ROLE owner SET default_tablespace TO 'gone'",  # a NOTICE with an error's SQLSTATE, 42704
        "COMMENT ON ROLE owner IS 'it''s theirs'",
        "CREATE DATABASE shop OWNER owner ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        """CREATE DATABASE "odd / n@me" TEMPLATE template0""",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
        "ALTER DATABASE shop SET search_path TO sales",
        "ALTER ROLE owner IN DATABASE shop SET statement_timeout TO '1h'",
        'REVOKE CONNECT ON DATABASE shop FROM PUBLIC; GRANT CONNECT ON DATABASE shop TO "Re ader"',
        "COMMENT ON DATABASE shop IS 'the shop'",
        "CREATE TABLE in_postgres AS SELECT 1 AS id",
        "ALTER DATABASE postgres SET work_mem TO '6MB'",
    )
    execute(
        cluster,
        "shop",
        "CREATE SCHEMA sales AUTHORIZATION owner",
        "CREATE TABLE sales.item AS SELECT i, 'item ' || i AS name FROM generate_series(1, 1000) AS i",
        'ALTER TABLE sales.item OWNER TO owner; GRANT SELECT ON sales.item TO "Re ader"',
        "SELECT lo_from_bytea(0, 'large')",
        "CREATE PUBLICATION news FOR TABLE sales.item",  # a WARNING with an error's SQLSTATE, 55000
        'GRANT SELECT (i), UPDATE (name) ON sales.item TO "Re ader" WITH GRANT OPTION; REVOKE ALL ON sales.item FROM owner',
    )
    execute(cluster, "odd / n@me", "CREATE TABLE t AS SELECT generate_series(1, 10) AS i")
    execute(cluster, "template1", "CREATE TABLE in_every_new_one (i integer)")


@pytest.fixture(scope="module")
def furnished() -> Iterator[ThrowawayCluster]:
    """A furnished server; only to read."""
    with ThrowawayCluster() as cluster:
        furnish(cluster)
        yield cluster


def back_up(cluster: ThrowawayCluster, store: Path, spool_dir: Path, *more: object) -> Result:
    where = ("--to", store, "--spool-dir", spool_dir, *CLUSTER, "-q")
    return run_pgstow("backup", cluster.conninfo(), "--all-databases", *where, *more)


def restore(store: Path, cluster: ThrowawayCluster, spool_dir: Path, *more: object) -> Result:
    where = ("--from", store, "--into", cluster.conninfo(), "--spool-dir", spool_dir, "-q")
    return run_pgstow("restore", "--all-databases", *where, *more)


def listed(store: Path) -> dict[str, list[dict]]:
    """The backups in a store by database."""
    found: dict[str, list[dict]] = {}
    for backup in json.loads(run_pgstow("list", "--from", store, "--json").stdout):
        found.setdefault(backup["database"], []).append(backup)
    return found


class ReadOnce(LocalBackend):
    """A store that replaces each manifest after it is read, as an attacker could. A command that reads a manifest twice fails."""

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        data = super().get(key, offset=offset, length=length, at_most=at_most)
        if key.startswith("manifests/"):
            (self._root / key).write_bytes(b"swapped")
        return data


def test_a_whole_server_comes_back(
    furnished: ThrowawayCluster, german_target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    made = back_up(furnished, tmp_path / "store", spool_dir, "--databases-at-once", 3)
    assert (made.exit_code, made.stderr) == (0, "")
    assert set(listed(tmp_path / "store")) == {"@globals", "@cluster", "postgres", "template1", "shop", "odd / n@me"}

    result = restore(tmp_path / "store", german_target, spool_dir)
    assert result.exit_code == 0, result
    closed = "CREATE DATABASE closed TEMPLATE template0 ALLOW_CONNECTIONS false"  # can't be dumped
    execute(german_target, "postgres", closed)
    assert dump_all(german_target) == dump_all(furnished)


def test_a_whole_server_in_the_custom_format(
    furnished: ThrowawayCluster, target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    assert back_up(furnished, tmp_path / "store", spool_dir, "--format", "custom").exit_code == 0
    formats = {backup["dump"]["format"] for name, [backup] in listed(tmp_path / "store").items() if name != "@globals"}
    assert formats == {"custom"}
    server = ServerTarget(Conninfo.parse(target.conninfo()), Limits(spool_parent=spool_dir))
    restore_cluster(BackupSelector(), server, ReadOnce(tmp_path / "store"), lambda _: None)
    execute(target, "postgres", "CREATE DATABASE closed TEMPLATE template0 ALLOW_CONNECTIONS false")  # can't be dumped
    assert dump_all(target) == dump_all(furnished)


class TestScript:
    """All of a server as the one script that pg_dumpall makes of it."""

    def test_it_comes_back(
        self, furnished: ThrowawayCluster, german_target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
    ) -> None:
        target = german_target
        store = tmp_path / "store"
        made = back_up(furnished, store, spool_dir, "--format", "plain")
        assert (made.exit_code, made.stderr) == (0, "")
        [[backup]] = listed(store).values()
        assert (backup["database"], backup["totals"]["rows"]) == ("@cluster", 1011)
        assert backup["dump"]["databases"] == ["template1", "odd / n@me", "postgres", "shop"]
        exported = run_pgstow("export", "--from", store, "--database", "@cluster", "-q").stdout
        lines = [line for line in exported.splitlines() if line]
        assert [line for line in lines if not line.startswith(("--", "\\restrict", "\\unrestrict"))] == dump_all(
            furnished
        )

        for level in ("bytes", "archive"):
            verified = run_pgstow("verify", "--from", store, "--latest-of-each", "--level", level, "--json")
            assert verified.exit_code == 0
            assert [found["database"] for found in json.loads(verified.stdout)] == ["@cluster"]

        forged, marker = tmp_path / "forged", tmp_path / "ran"
        shutil.copytree(store, forged)
        forge_script(forged, lambda script: b"\\! touch %b\n%b" % (bytes(marker), script))
        assert_one_sentence(restore(forged, target, spool_dir), 7, r"psql's command \\!.* The server may hold a part")
        assert not marker.exists()

        result = restore(store, target, spool_dir)
        assert (result.exit_code, result.stderr) == (0, "")
        execute(target, "postgres", "CREATE DATABASE closed TEMPLATE template0 ALLOW_CONNECTIONS false")
        assert dump_all(target) == dump_all(furnished)
        assert_one_sentence(restore(store, target, spool_dir), 5, "already has a database (odd|shop)")

    def test_what_it_leaves_out(self, furnished: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
        more = ("--format", "plain", "--exclude-database", "odd*", "--schema-only", "--no-role-passwords")
        assert back_up(furnished, tmp_path / "store", spool_dir, *more).exit_code == 0
        [[backup]] = listed(tmp_path / "store").values()
        assert backup["dump"]["databases"] == ["template1", "postgres", "shop"]
        assert backup["totals"]["rows"] == 0
        assert not backup["dump"]["role_passwords"]
        assert_one_sentence(restore(tmp_path / "store", furnished, spool_dir), 8, "--partial")

    def test_a_database_that_cannot_be_dumped(self, source: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
        furnish(source)
        execute(source, "postgres", "CREATE ROLE weak LOGIN")
        conninfo = make_conninfo(source.conninfo(), user="weak")
        where = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
        result = run_pgstow("backup", conninfo, "--all-databases", "-F", "plain", "--no-role-passwords", *where)
        assert_one_sentence(result, 4, "pg_dumpall failed: .*permission denied")

        (tmp_path / "bin").mkdir()
        forgetful = f"""{source.bin_dir}/pg_dumpall "$@" | sed '/^COPY sales.item/,/^\\\\\\./d'"""
        (tmp_path / "bin/pg_dumpall").write_text(f"#!/bin/sh\n{forgetful}\n")
        (tmp_path / "bin/pg_dumpall").chmod(0o755)
        result = back_up(source, tmp_path / "store", spool_dir, "--format", "plain", "--bin-dir", tmp_path / "bin")
        assert_one_sentence(result, 4, r"pg_dumpall's script lacks the data of shop\.sales\.item\.")
        assert not (tmp_path / "store" / "manifests").exists()

    def test_an_error_ends_it(
        self, source: ThrowawayCluster, german_target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
    ) -> None:
        """Any error ends the restore, except that a role already exists."""
        target = german_target
        furnish(source)
        assert back_up(source, tmp_path / "store", spool_dir, "--format", "plain").exit_code == 0
        execute(target, "template1", "CREATE TABLE in_the_way (i integer)")
        assert_one_sentence(restore(tmp_path / "store", target, spool_dir), 5, "The database template1 is not empty")

        place = Path(tempfile.mkdtemp(dir="/tmp"))
        give_to_server(source, place)
        execute(source, "postgres", f"CREATE TABLESPACE fast LOCATION '{place}'")
        assert back_up(source, tmp_path / "store", spool_dir, "--format", "plain").exit_code == 0
        execute(source, "postgres", "DROP TABLESPACE fast")
        place.rmdir()
        execute(target, "template1", "DROP TABLE in_the_way")
        result = restore(tmp_path / "store", target, spool_dir)
        assert_one_sentence(result, 5, r"psql failed: (directory|Verzeichnis) .*\. The server may hold a part")


def test_tablespaces_come_back(target: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        with ThrowawayCluster() as source:
            give_to_server(source, place)
            execute(source, "postgres", f"CREATE TABLESPACE fast LOCATION '{place}' WITH (random_page_cost = 1.5)")
            execute(source, "postgres", "CREATE TABLE quick TABLESPACE fast AS SELECT 1 AS id")
            execute(source, "postgres", "CREATE DATABASE all_of_it TABLESPACE fast")
            execute(source, "all_of_it", "CREATE TABLE t AS SELECT 1 AS id")
            assert back_up(source, tmp_path / "store", spool_dir).exit_code == 0
            before = dump_all(source)
        for path in place.iterdir():
            shutil.rmtree(path)
        give_to_server(target, place)
        assert restore(tmp_path / "store", target, spool_dir).exit_code == 0
        assert dump_all(target) == before
    finally:
        target.__exit__(None, None, None)
        shutil.rmtree(place)


def test_a_database_in_a_tablespace_that_is_not_there(
    source: ThrowawayCluster, target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    place = source.make_folder()
    execute(source, "postgres", f"CREATE TABLESPACE fast LOCATION '{place}'", "CREATE DATABASE shop TABLESPACE fast")
    execute(source, "shop", "CREATE TABLE t AS SELECT 1 AS id")
    where = ("--spool-dir", spool_dir, "-q")
    for format_, scratch in (("directory", ()), ("plain", ("--scratch", target.conninfo()))):
        store = tmp_path / format_
        assert run_pgstow("backup", source.conninfo("shop"), "--to", store, "-F", format_, *where).exit_code == 0
        proven = run_pgstow("verify", "--from", store, "--level", "restore", *scratch, *where)
        assert proven.exit_code == 0, proven
        into = ("--from", store, "--into", target.conninfo("shop"), "--create", *where)
        assert_one_sentence(run_pgstow("restore", *into), 5, "the tablespace fast, .*--globals-only .*--no-tablespaces")
        again = ("--from", store, "--into", source.conninfo(f"in_{format_}"), "--create", *where)
        assert run_pgstow("restore", *again).exit_code == 0
    assert run_pgstow("restore", "--from", tmp_path / "directory", *into[2:], "--no-tablespaces").exit_code == 0
    place_of = "SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = '{}'"
    for name, tablespace in (("shop", "fast"), ("in_directory", "fast"), ("in_plain", "fast")):
        assert Database("", source.conninfo()).fetch(place_of.format(name)) == [(tablespace,)]
    assert Database("", target.conninfo()).fetch(place_of.format("shop")) == [("pg_default",)]


def test_a_tablespace_that_has_no_place_is_told(
    source: ThrowawayCluster, target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    give_to_server(source, place)
    execute(source, "postgres", f"CREATE TABLESPACE fast LOCATION '{place}'")
    assert back_up(source, tmp_path / "store", spool_dir).exit_code == 0
    execute(source, "postgres", "DROP TABLESPACE fast")
    place.rmdir()
    result = restore(tmp_path / "store", target, spool_dir)
    assert_one_sentence(result, 5, "roles and tablespaces failed. The first error: directory .* does not exist")


def test_a_database_that_fails_keeps_no_other_from_it(
    source: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    """The other databases are backed up, but pgstow writes no cluster manifest, which would say that the backup is complete."""
    furnish(source)
    execute(source, "postgres", 'CREATE ROLE keeper LOGIN; GRANT pg_read_all_data TO keeper; GRANT "Re ader" TO keeper')
    execute(source, "shop", "SELECT lo_unlink(oid) FROM pg_largeobject_metadata")
    execute(source, "odd / n@me", "ALTER TABLE t ENABLE ROW LEVEL SECURITY")
    # This session is in shop, so the server stores the name of the new database in shop's encoding, LATIN1.
    execute(source, "shop", "SET client_encoding = 'UTF8'", 'CREATE DATABASE "café" TEMPLATE template0')
    where = ("--to", tmp_path / "store", "--spool-dir", spool_dir, *CLUSTER, "-q")
    result = run_pgstow("backup", make_conninfo(source.conninfo(), user="keeper"), "-A", *where)
    assert result.exit_code == 4
    *notices, sentence = result.stderr_lines
    assert "2 of 5 databases could not be backed up" in sentence
    assert any(r"The database caf\xe9 is not backed up" in notice for notice in notices), notices
    assert any("odd / n@me is not backed up. pg_dump failed: query failed" in notice for notice in notices), notices
    assert set(listed(tmp_path / "store")) == {"@globals", "postgres", "template1", "shop"}
    assert_one_sentence(
        run_pgstow("restore", "-A", "--from", tmp_path / "store", "--into", "host=x", "-q"), 8, "no backup"
    )


@pytest.mark.parametrize(("at_once", "part"), [(1, "%40globals"), (3, "odd%20%2F%20n%40me")])
def test_nor_does_a_bug_keep_another_from_it(
    furnished: ThrowawayCluster, tmp_path: Path, spool_dir: Path, at_once: int, part: str
) -> None:
    class Broken(LocalBackend):
        """A store that does what no store should do, with the objects of a part of the cluster."""

        def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
            if f"/{part}/" in key:
                raise NotImplementedError("can't parse this")
            return super().put(key, body, sha256=sha256)

    each = BackupRequest(Conninfo.parse(furnished.conninfo()), cluster="prod", limits=Limits(spool_parent=spool_dir))
    told: list[object] = []
    words = "roles and tablespaces" if "globals" in part else "1 of 4 databases"
    with pytest.raises(
        BackupBroken, match=f"^{words} could not be backed up.*: Unexpected NotImplementedError"
    ) as raised:
        back_up_cluster(ClusterRequest(each, at_once=at_once), [Broken(tmp_path / "store")], told.append)
    assert exit_code_of(raised.value) == 1
    assert isinstance(raised.value.__cause__, NotImplementedError)
    assert [str(event) for event in told if "not backed up. Unexpected NotImplementedError" in str(event)]
    everything = {"@globals", "odd / n@me", "postgres", "template1", "shop"}
    assert set(listed(tmp_path / "store")) == everything - {unquote(part)}


@pytest.mark.parametrize("refused", [["postgres"], ["postgres", "template1"]])
def test_stores_that_refuse_a_database_let_end_what_has_begun(
    furnished: ThrowawayCluster, tmp_path: Path, spool_dir: Path, refused: list[str]
) -> None:
    """Each store refuses another database. The command waits for the backups that have begun, so none runs beside pgstow run's next backup."""
    stores = [tmp_path / f"store of all but {name}" for name in refused]
    for name, store in zip(refused, stores, strict=True):
        (store / "data" / "prod").mkdir(parents=True)
        (store / "data" / "prod" / name).touch()
    to = [word for store in stores for word in ("--to", store)]
    where = ("--cluster", "prod", "--spool-dir", spool_dir, "-q", "--databases-at-once", 8)
    with closing(psycopg.connect(furnished.conninfo("shop"))) as holder:
        holder.execute("LOCK TABLE sales.item")
        with start_pgstow("backup", furnished.conninfo(), "--all-databases", *to, *where) as process:
            wait_until(lambda: list(stores[0].rglob("manifests/prod/odd*/*.json")), "another one is done")
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5)  # if the backup were abandoned, pgstow would end after a second
            holder.rollback()
            result = finish(process)
    assert result.exit_code == 6, result
    for store in stores:
        assert len(list(store.rglob("manifests/prod/shop/*.json"))) == 1
        assert list(store.rglob("manifests/prod/%40cluster/*")) == []


@pytest.mark.parametrize("at_once", [1, 3])
def test_a_store_that_refuses_ends_it(
    furnished: ThrowawayCluster, s3: FaultyStore, spool_dir: Path, at_once: int
) -> None:
    """The store would refuse the other databases too. pgstow writes no cluster manifest, so nobody takes the backup for complete."""
    s3.proxy.fail(method="PUT", path="/data/prod/shop/", with_=Fault.FORBIDDEN, times=math.inf)
    where = ("--to", s3.url, "--spool-dir", spool_dir, *CLUSTER, "-q", "--databases-at-once", at_once)
    assert_one_sentence(
        run_pgstow("backup", furnished.conninfo(), "-A", *where), 6, "data/prod/shop/.*access was denied"
    )
    assert not [key for key in s3.keys if "%40cluster" in key or "manifests/prod/shop/" in key]
    wait_until(lambda: not list(spool_dir.iterdir()), "the spools are gone")


def test_what_is_excluded_makes_it_partial(
    furnished: ThrowawayCluster, target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    store = tmp_path / "store"
    assert (
        back_up(furnished, store, spool_dir, "--exclude-database", "odd*", "--exclude-database", "template1").exit_code
        == 0
    )
    assert set(listed(store)) == {"@globals", "@cluster", "postgres", "shop"}
    assert re.search(r"@cluster .* 2 databases, partial *$", run_pgstow("list", "--from", store).stdout, re.MULTILINE)

    assert_one_sentence(restore(store, target, spool_dir), 8, "only partial backups")
    assert restore(store, target, spool_dir, "--partial").exit_code == 0
    copy = Database("shop", target.conninfo("shop"))
    assert copy.fetch("SELECT count(*) FROM sales.item") == [(1000,)]
    assert_one_sentence(back_up(furnished, store, spool_dir, "--exclude-database", "*"), 2, "No database is left")


def test_a_server_that_has_such_a_database_is_not_touched(
    whole: Path, target: ThrowawayCluster, spool_dir: Path
) -> None:
    execute(target, "postgres", "CREATE DATABASE shop", "CREATE TABLE in_the_way (i integer)")
    assert_one_sentence(restore(whole, target, spool_dir), 5, "already has a database shop")
    execute(target, "postgres", "DROP DATABASE shop")
    before = dump_all(target)
    assert_one_sentence(restore(whole, target, spool_dir), 5, "The database postgres is not empty")
    assert dump_all(target) == before


def test_a_member_that_is_another_is_refused(whole: Path, target: ThrowawayCluster, spool_dir: Path) -> None:
    [manifest] = (whole / "manifests/prod/postgres").iterdir()
    manifest.write_bytes(manifest.read_bytes().replace(b'"jobs"', b'"j0bs"'))
    assert_one_sentence(restore(whole, target, spool_dir), 7, "is not the manifest that the cluster manifest .* names")
    manifest.unlink()
    assert_one_sentence(
        restore(whole, target, spool_dir), 7, "manifests/prod/postgres/.* is missing, but the cluster manifest"
    )


def test_globals_alone(furnished: ThrowawayCluster, target: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    store, spool = tmp_path / "store", ("--spool-dir", spool_dir, "-q")
    to = ("--to", store, *CLUSTER, *spool)
    for what in ("--globals-only", "--tablespaces-only", "--roles-only"):
        assert run_pgstow("backup", furnished.conninfo(), what, *to).exit_code == 0
    shown = run_pgstow("list", "--from", store).stdout
    for kind in ("roles and tablespaces", "tablespaces only", "roles only"):
        assert re.search(rf"@globals .* {kind} *$", shown, re.MULTILINE), shown
    restored = run_pgstow("restore", "--globals-only", "--from", store, "--into", target.conninfo(), *spool)
    assert restored.exit_code == 0, restored
    roles = "SELECT rolname, rolpassword, rolvaliduntil::text, rolconnlimit FROM pg_authid ORDER BY rolname"
    assert Database("", target.conninfo()).fetch(roles) == Database("", furnished.conninfo()).fetch(roles)

    with closing(psycopg.connect(target.conninfo())) as other:
        other.execute("LOCK TABLE pg_authid IN EXCLUSIVE MODE")
        into = ("--into", target.conninfo(), *spool)
        with start_pgstow("restore", "--globals-only", "--from", store, *into) as process:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(lambda: other.execute(waiting).fetchone() != (0,), "psql waits for the lock")
            target.__exit__(None, None, None)
            assert_one_sentence(finish(process), 3, "went away")

    for arguments in (("--into", "dbname=x"), ("--to-directory", tmp_path / "x")):
        one = run_pgstow("restore", listed(store)["@globals"][0]["backup_id"], "--from", store, *arguments, *spool)
        assert_one_sentence(one, 2, "restore it with --globals-only")


def test_the_globals_can_be_verified(whole: Path, spool_dir: Path) -> None:
    arguments = ("--from", whole, "--database", "@globals", "--level", "archive", "--spool-dir", spool_dir)
    assert "is good" in run_pgstow("verify", *arguments).stdout
    [pack] = (whole / "data/prod/%40globals").rglob("pack-*")
    pack.write_bytes(pack.read_bytes()[:-1])
    assert run_pgstow("verify", *arguments).exit_code == 7


def verify(store: Path, spool_dir: Path, *more: object) -> tuple[int, dict[str, dict]]:
    """The exit code, and what ``--json`` says of each part of the cluster's backup by its database."""
    where = ("--from", store, "--database", "@cluster", "--spool-dir", spool_dir, "--json")
    result = run_pgstow("verify", *where, *more)
    return result.exit_code, {one["database"]: one for one in json.loads(result.stdout)}


@pytest.fixture(scope="module")
def _whole_once(furnished: ThrowawayCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("whole")
    assert back_up(furnished, store, tmp_path_factory.mktemp("spool")).exit_code == 0
    return store


@pytest.fixture
def whole(_whole_once: Path, tmp_path: Path) -> Path:
    """A store that holds one backup of a furnished server: a copy of this test's own."""
    return shutil.copytree(_whole_once, tmp_path / "store")


def test_the_whole_can_be_verified(whole: Path, spool_dir: Path) -> None:
    for level in ("objects", "bytes", "archive", "restore"):
        code, found = verify(whole, spool_dir, "--level", level, "--attest")
        assert code == 0
        assert list(found) == ["@globals", "template1", "odd / n@me", "postgres", "shop", "@cluster"]
        assert all(one["good"] for one in found.values())
        total = found.pop("@cluster")
        assert total["objects"] == sum(one["objects"] for one in found.values()) > 0
        assert found["@globals"]["level"] == ("archive" if level == "restore" else level)
        assert {one["proven"]["level"] for one in listed(whole)["@cluster"]} == {level}


def test_a_person_reads_what_was_found_of_the_whole(whole: Path, spool_dir: Path) -> None:
    [record] = listed(whole)["@cluster"]
    result = run_pgstow("verify", record["backup_id"], "--from", whole, "-q", "--spool-dir", spool_dir)
    assert (result.exit_code, result.stderr) == (0, "")
    *members, last = result.stdout.splitlines()
    assert len(members) == 5
    assert last == f"prod/@cluster {record['backup_id']} is good: all of its backups (5) are good."
    assert not (whole / "attestations").exists()


def test_a_member_that_is_damaged_and_one_that_is_another(whole: Path, spool_dir: Path) -> None:
    """verify goes on to the other backups. It attests each backup that it could examine, and the cluster backup."""
    object_ = min((whole / "data/prod/shop").rglob("pack-*"))
    object_.write_bytes(object_.read_bytes()[:-1])
    [manifest] = (whole / "manifests/prod/postgres").iterdir()
    changed = json.loads(manifest.read_bytes())
    changed["tool"] = "another"
    manifest.write_bytes(canonical(changed))  # the manifest is valid by itself
    (whole / "manifests/prod/template1" / listed(whole)["template1"][0]["backup_id"]).with_suffix(".json").unlink()

    code, found = verify(whole, spool_dir, "--attest")
    assert code == 7
    good = {name for name, one in found.items() if one["good"]}
    assert good == {"@globals", "odd / n@me"}
    assert "is not the manifest that" in found["postgres"]["problems"][0]
    assert "is missing, but the cluster manifest" in found["template1"]["problems"][0]
    assert [problem.partition(": ")[0] for problem in found["@cluster"]["problems"]] == [
        "template1",
        "postgres",
        "shop",
    ]
    attested = {path.parents[1].name for path in (whole / "attestations").rglob("*.json")}
    assert attested == {"%40globals", "odd%20%2F%20n%40me", "shop", "%40cluster"}
    [record] = listed(whole)["@cluster"]
    assert record["proven"]["good"] is False

    result = run_pgstow("verify", "--from", whole, "--database", "@cluster", "-q", "--spool-dir", spool_dir)
    assert result.stdout.splitlines()[-1].endswith("is NOT GOOD: not all of its backups (5) are good.")


def test_a_member_that_cannot_be_tried_says_nothing_of_the_whole(
    whole: Path, target: ThrowawayCluster, spool_dir: Path
) -> None:
    """The scratch server lacks the roles of one of the databases."""
    code, found = verify(whole, spool_dir, "--level", "restore", "--scratch", target.conninfo())
    assert code == 2
    assert "lacks roles" in found["shop"]["problems"][0]
    assert [name for name, one in found.items() if not one["good"]] == ["shop"]
    assert "@cluster" not in found
    assert [one["proven"] for one in listed(whole)["@cluster"]] == [None]


def test_passwords_are_left_out_where_they_may_not_be_read(
    source: ThrowawayCluster, target: ThrowawayCluster, tmp_path: Path, spool_dir: Path
) -> None:
    """On managed services, roles usually may not read passwords."""
    furnish(source)
    execute(source, "postgres", "CREATE ROLE humble LOGIN")
    where = ("--to", tmp_path / "store", "--spool-dir", spool_dir, *CLUSTER, "-q")
    result = run_pgstow("backup", make_conninfo(source.conninfo(), user="humble"), "--globals-only", *where)
    assert (result.exit_code, len(result.stderr_lines)) == (0, 1)
    assert "Roles are backed up without their passwords" in result.stderr
    [globals_] = listed(tmp_path / "store")["@globals"]
    assert globals_["dump"]["role_passwords"] is False
    into = ("--into", target.conninfo(), "--spool-dir", spool_dir, "-q")
    assert run_pgstow("restore", "-g", "--from", tmp_path / "store", *into).exit_code == 0
    roles = "SELECT rolname, rolpassword FROM pg_authid WHERE rolname IN ('owner', 'humble') ORDER BY 1"
    assert Database("", target.conninfo()).fetch(roles) == [("humble", None), ("owner", None)]


def test_passwords_are_left_out_where_asked(furnished: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    to = ("--to", tmp_path / "store", "--spool-dir", spool_dir, *CLUSTER, "-q")
    assert run_pgstow("backup", furnished.conninfo(), "-g", "--no-role-passwords", *to).exit_code == 0
    [pack] = (tmp_path / "store/data").rglob("pack-*.tar.zst")
    script = subprocess.run(f"zstd -dcq {pack} | tar -xO", shell=True, capture_output=True, check=True).stdout
    assert b"CREATE ROLE owner" in script
    assert b"SCRAM-SHA-256" not in script


@pytest.mark.parametrize(
    "arguments",
    [
        *("-A -g", "-g -t x", "-A -n x", "-A --dry-run", "-g -s", "-a -s", "--exclude-database x"),
        *("restore -A -g", "restore -A --create", "restore -g -t x"),
    ],
)
def test_modes_that_exclude_each_other(tmp_path: Path, arguments: str) -> None:
    restoring = arguments.startswith("restore")
    where = ("restore", "--from", str(tmp_path), "--into", "x") if restoring else ("backup", "--to", str(tmp_path))
    with pytest.raises(InvalidRequest):
        get_command(app).main([*where, *arguments.removeprefix("restore ").split()], standalone_mode=False)


def test_a_reserved_name(source: ThrowawayCluster, tmp_path: Path, spool_dir: Path) -> None:
    execute(source, "postgres", 'CREATE DATABASE "@globals"')
    where = ("--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
    result = run_pgstow("backup", source.conninfo("@globals"), *where)
    assert_one_sentence(result, 2, "keeps that name for itself")
