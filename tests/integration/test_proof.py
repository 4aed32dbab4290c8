"""pgstow proves a backup by a restore, and writes an attestation of the result to the store."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jsonschema
import pytest
from psycopg.conninfo import make_conninfo
from support.manifests import canonical, edit_manifest
from support.pgstow import Result, assert_one_sentence, processes_naming, run_pgstow
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.postgres.throwaway import ThrowawayCluster

DOCS = Path(__file__).parents[2] / "docs"


def verify(store: Path, spool_dir: Path, *more: object) -> Result:
    """Verify at level restore, and assert that no server and no file is left."""
    result = run_pgstow("verify", "--from", store, "--level", "restore", "--spool-dir", spool_dir, *more)
    assert not processes_naming(spool_dir)
    assert not list(spool_dir.iterdir())
    return result


def proven(store: Path, spool_dir: Path, *more: object) -> dict[str, Any]:
    """Verify a backup that must be good. Return the output of ``--json``."""
    result = verify(store, spool_dir, "--json", *more)
    assert result.exit_code == 0, result
    assert result.stderr == ""
    return json.loads(result.stdout)


def attestations(store: Path) -> list[dict[str, Any]]:
    """Return the store's attestations, oldest first. Check each by the published schema and the rules of docs/attestations.md."""
    found = []
    schema = json.loads((DOCS / "attestation.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for path in sorted((store / "attestations").rglob("*.json")):
        content = json.loads(path.read_bytes())
        jsonschema.validate(content, schema)
        claimed = content.pop("attestation_checksum")
        assert hashlib.sha256(canonical(content, checksum=False)).hexdigest() == claimed
        assert canonical({**content, "attestation_checksum": claimed}, checksum=False) == path.read_bytes()
        found.append(content)
    return found


@pytest.fixture
def server(postgres: ThrowawayCluster) -> Database:
    """Return the server that all tests share, for use as a scratch server. A test must leave no new database on it."""
    return Database("postgres", postgres.conninfo())


def databases(server: Database) -> set[str]:
    return {name for (name,) in server.fetch("SELECT datname FROM pg_database")}


def test_the_whole_is_restored_counted_compared_and_attested(
    stored_sample: StoredSample, postgres: ThrowawayCluster, spool_dir: Path
) -> None:
    manifest, began = stored_sample.manifest, datetime.now(UTC)
    [(version,)] = Database("postgres", postgres.conninfo()).fetch("SHOW server_version")

    told = proven(stored_sample.folder, spool_dir, "--checksums", "--assert", "SELECT count(*) = 40 FROM shop.product")

    assert told["restored"] == {
        "server_version": version,
        "tables": 27,
        "rows": manifest.totals.rows,
        "compared": 27,
        "assertions": ["SELECT count(*) = 40 FROM shop.product"],
    }
    assert (told["objects"], told["files"]) == (len(manifest.objects), len(manifest.files))
    [attestation] = attestations(stored_sample.folder)
    moments = [datetime.fromisoformat(attestation.pop(name)) for name in ("started_at", "finished_at")]
    assert began < moments[0] < moments[1] < datetime.now(UTC)
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    assert told["attestation"].startswith(f"attestations/prod/sample_template/{manifest.backup_id}/")
    assert (stored_sample.folder / told["attestation"]).is_file()
    assert attestation == {
        "attestation_version": "1.2",
        "cluster": "prod",
        "database": "sample_template",
        "backup_id": manifest.backup_id,
        "manifest_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "level": "restore",
        "good": True,
        "problems": [],
        "unreadable": [],
        "replaced": [],
        "objects": len(manifest.objects),
        "objects_without_checksum": 0,
        "files": len(manifest.files),
        "restore": {
            **told["restored"],
            "pg_restore_version": version.split()[0],
        },
        "tool": manifest.tool,
    }


def test_a_person_reads_what_was_proven(stored_sample: StoredSample, spool_dir: Path) -> None:
    result = verify(stored_sample.folder, spool_dir, "--checksums", "--jobs", 1, "-q", "--no-attest")
    assert result.exit_code == 0
    assert "13,363 rows of 27 tables, with the same content in 27 of these tables" in result.stdout
    assert attestations(stored_sample.folder) == []


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_roles_and_tablespaces_that_are_nowhere_else(
    server: Database, database: Database, tmp_path: Path, spool_dir: Path, postgres: ThrowawayCluster, format_: str
) -> None:
    """On its own server, pgstow makes missing roles. A scratch server must have the roles, and for a script also the tablespaces."""
    if postgres.major < 15:
        pytest.skip("before PostgreSQL 15, a tablespace needs a folder of its own")
    store = tmp_path / "store"
    server.execute('CREATE ROLE landlord; CREATE ROLE "Gu est"; CREATE ROLE watch SUPERUSER')
    in_place = make_conninfo(server.conninfo, options="-c allow_in_place_tablespaces=on")
    Database("postgres", in_place).execute("CREATE TABLESPACE fast LOCATION ''")
    try:
        database.execute(
            "CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 10) AS i; ALTER TABLE t OWNER TO landlord;"
            'CREATE MATERIALIZED VIEW m AS SELECT * FROM t; ALTER MATERIALIZED VIEW m OWNER TO "Gu est";'
            'GRANT SELECT ON t TO "Gu est"; ALTER DEFAULT PRIVILEGES FOR ROLE landlord GRANT SELECT ON TABLES TO "Gu est";'
            "CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
            "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION f(); ALTER EVENT TRIGGER e OWNER TO watch"
        )
        server.execute(
            f'ALTER DATABASE {database.name} OWNER TO landlord; GRANT CREATE ON DATABASE {database.name} TO "Gu est"'
        )
        to = ("--to", store, "--spool-dir", spool_dir, "-F", format_, "-q")
        assert run_pgstow("backup", database.conninfo, *to).exit_code == 0
        assert proven(store, spool_dir, "--checksums", "--scratch", server.conninfo)["restored"]["rows"] == 10
    finally:
        database.execute(
            f"DROP EVENT TRIGGER e; DROP TABLE t CASCADE; ALTER DATABASE {database.name} OWNER TO postgres"
        )
        server.execute("DROP TABLESPACE fast")
        database.execute('DROP OWNED BY "Gu est", landlord')
        server.execute('DROP ROLE landlord; DROP ROLE "Gu est"; DROP ROLE watch')
    if format_ == "plain":  # a manifest before version 1.2 names no superusers
        edit_manifest(store, lambda content: content["source"].pop("superusers"))
    assert proven(store, spool_dir, "--checksums")["restored"]["compared"] == 1
    before = databases(server)
    result = verify(store, spool_dir, "--scratch", server.conninfo, "-q")
    assert_one_sentence(result, 2, "lacks roles that the backup's owners and grants name: Gu est, landlord, watch")
    assert databases(server) == before
    assert server.fetch("SELECT FROM pg_roles WHERE rolname = 'landlord'") == []

    server.execute('CREATE ROLE landlord; CREATE ROLE "Gu est"; CREATE ROLE watch SUPERUSER')
    try:
        result = verify(store, spool_dir, "--scratch", server.conninfo, "-q", "--no-attest")
    finally:
        server.execute('DROP ROLE landlord; DROP ROLE "Gu est"; DROP ROLE watch')
    if format_ == "plain":
        assert_one_sentence(result, 2, "The script names a tablespace that the scratch server lacks")
    else:
        assert result.exit_code == 0, result
    assert databases(server) == before


@pytest.mark.parametrize("where", ["own", "scratch"])
def test_a_damaged_object(stored_sample: StoredSample, server: Database, where: str, spool_dir: Path) -> None:
    [_, hurt, *_] = stored_sample.objects_of("telemetry.reading")
    body = bytearray(stored_sample.path(hurt).read_bytes())
    body[len(body) // 2] ^= 1
    stored_sample.path(hurt).write_bytes(body)
    before = databases(server)

    result = verify(
        stored_sample.folder, spool_dir, "-q", *(["--scratch", server.conninfo] if where == "scratch" else [])
    )

    assert_one_sentence(result, 7, hurt.key)
    assert "NOT PROVEN" in result.stdout
    assert databases(server) == before
    [attestation] = attestations(stored_sample.folder)
    assert (attestation["good"], attestation["restore"]) == (False, None)
    assert hurt.key in " ".join(attestation["problems"])


@pytest.mark.parametrize("selection", [(), ("-t", "t")])
def test_a_backup_that_is_whole_and_yet_cannot_be_restored(
    database: Database, selection: tuple[str, ...], tmp_path: Path, spool_dir: Path
) -> None:
    """At the lower levels, the backup is good. Only a restore finds that rows violate a constraint of their table."""
    database.execute(
        "CREATE FUNCTION small(i integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT i < 10';"
        "CREATE TABLE t (i integer CHECK (public.small(i))); INSERT INTO t SELECT generate_series(1, 9);"
        "CREATE OR REPLACE FUNCTION small(i integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT i < 5'"
    )
    store = tmp_path / "store"
    backup = ("backup", database.conninfo, "--to", store, "--spool-dir", spool_dir, "-q")
    assert run_pgstow(*backup, *selection).exit_code == 0
    below = ("--from", store, "--level", "archive", "--spool-dir", spool_dir, "-q", "--partial")
    assert run_pgstow("verify", *below).exit_code == 0

    sentence = assert_one_sentence(verify(store, spool_dir, "-q", "--partial"), 7, "pg_restore failed: ")

    assert ("violates check constraint" in sentence) == (not selection)
    assert ("a part of the database" in sentence) == bool(selection)
    [attestation] = attestations(store)
    assert (attestation["good"], attestation["restore"]) == (False, None)


def test_a_manifest_of_other_rows(stored_sample: StoredSample, spool_dir: Path) -> None:
    def one_more(manifest: dict[str, Any]) -> None:
        [file] = [file for file in manifest["files"] if file["relation"] == "product"]
        file["rows"] += 1

    edit_manifest(stored_sample.folder, one_more)
    result = verify(stored_sample.folder, spool_dir, "-q")
    assert_one_sentence(result, 7, r"the number of rows that the manifest says \(41\)")


def test_content_that_is_not_what_was_dumped(stored_sample: StoredSample, spool_dir: Path) -> None:
    """The changed time zone makes the server print other values than were dumped."""
    edit_manifest(stored_sample.folder, lambda manifest: manifest["source"].update(time_zone="Asia/Kathmandu"))
    assert proven(stored_sample.folder, spool_dir)["restored"]["compared"] is None
    result = verify(stored_sample.folder, spool_dir, "--checksums", "--json")
    assert result.exit_code == 7
    told = json.loads(result.stdout)
    named = {problem.partition(" ")[0] for problem in told["problems"]}
    assert named == {"shop.order_2023", "shop.order_item", "telemetry.reading", "telemetry.scratch"}
    assert told["restored"]["compared"] == 27
    assert [attestation["good"] for attestation in attestations(stored_sample.folder)] == [True, False]


def test_a_manifest_that_does_not_say_how_it_was_dumped(stored_sample: StoredSample, spool_dir: Path) -> None:
    edit_manifest(stored_sample.folder, lambda manifest: manifest["source"].pop("time_zone"))
    assert_one_sentence(verify(stored_sample.folder, spool_dir, "--checksums", "-q"), 2, "without --checksums")
    proven(stored_sample.folder, spool_dir)


def test_assertions(stored_sample: StoredSample, spool_dir: Path, tmp_path: Path, server: Database) -> None:
    good, bad = tmp_path / "good.sql", tmp_path / "bad.sql"
    good.write_text("-- two; of them\nSELECT count(*) > 0 FROM shop.customer;\n\nSELECT ';' = $$;$$;\n")
    bad.write_text("SELECT true; SELECT count(*) FROM shop.product; SELECT true, true; SET work_mem = '1MB';")
    where = ("--scratch", server.conninfo)

    told = proven(stored_sample.folder, spool_dir, *where, "--sql-check", good, "--assert", "SELECT true")
    assert told["restored"]["assertions"] == ["SELECT true", str(good)]

    before = databases(server)
    assertions = (
        "SELECT max(stars) < 5 FROM shop.review",
        "SELECT FROM shop.absent",
        "SELECT 1 WHERE false",
        "",
        "SELECT null",
    )
    options = [option for assertion in assertions for option in ("--assert", assertion)]
    result = verify(stored_sample.folder, spool_dir, *where, *options, "--sql-check", bad, "--sql-check", good, "-q")
    assert result.exit_code == 7
    for line, matching in zip(
        result.stderr_lines,
        (
            "max(stars) < 5 FROM shop.review doesn't hold: it returned False",
            'SELECT FROM shop.absent fails: relation "shop.absent" does not exist',
            "SELECT 1 WHERE false doesn't hold: it returned 0 rows",
            "it returned 0 rows",
            "SELECT null doesn't hold: it returned None",
            f"{bad} doesn't hold (statement 2): it returned 40",
            f"{bad} doesn't hold (statement 3): it returned 1 row of 2 values",
            f"{bad} doesn't hold (statement 4): it returned 0 rows",
        ),
        strict=True,
    ):
        assert matching in line
    assert databases(server) == before


@pytest.mark.parametrize(
    "options",
    [
        ("--level", "archive", "--checksums"),
        ("--scratch", "x"),
        ("--level", "bytes", "--assert", "SELECT true"),
        ("--latest-of-each", "20261123T020000Z-7f3a9c"),
        ("--level", "restore", "--sql-check", "/no/such/file"),
    ],
)
def test_what_makes_no_sense(stored_sample: StoredSample, options: tuple[str, ...]) -> None:
    result = run_pgstow("verify", "--from", stored_sample.folder, "-q", *options)
    assert_one_sentence(
        result, 2, "need --level restore|exclude each other|--sql-check /no/such/file can't be read: No such file"
    )


def test_no_server_to_be_had(
    stored_sample: StoredSample, postgres: ThrowawayCluster, spool_dir: Path, tmp_path: Path
) -> None:
    """If there is no server, nothing is known about the backup, so pgstow attests nothing."""
    assert_one_sentence(verify(stored_sample.folder, spool_dir, "--bin-dir", tmp_path, "-q"), 9, "initdb")
    with TemporaryDirectory() as name:
        broken = Path(name)
        broken.chmod(0o755)
        for program in ("pg_restore", "initdb"):
            (broken / program).write_text(
                f'#!/bin/sh\n[ "$1" = --version ] && echo "{program} (PostgreSQL) 99.1" && exit\necho error: no room >&2; exit 1\n'
            )
            (broken / program).chmod(0o755)
        result = verify(stored_sample.folder, spool_dir, "--bin-dir", broken, "-q")
    assert_one_sentence(result, 9, "cannot be set up: error: no room")
    result = verify(stored_sample.folder, spool_dir, "--scratch", f"host={tmp_path}", "-q")
    assert_one_sentence(result, 3, "Cannot connect")
    assert attestations(stored_sample.folder) == []


@pytest.fixture
def small_disk(spool_dir: Path) -> Iterator[Path]:
    """Yield a folder on a disk that has room for a new server, but not for a large table."""
    folder = spool_dir / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m,mode=755", "pgstow-test", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("only root can make a small disk, and only where it may mount")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    folder.rmdir()


def test_a_full_disk_says_nothing_about_the_backup(database: Database, small_disk: Path, tmp_path: Path) -> None:
    database.execute("CREATE TABLE t AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 60000)")
    store = tmp_path / "store"
    assert run_pgstow("backup", database.conninfo, "--to", store, "-q").exit_code == 0
    result = verify(store, small_disk, "-q")
    assert_one_sentence(result, 9, "The server's disk is full.*(No space left on device|wrote only)")
    assert attestations(store) == []


def test_every_level_attests_when_asked_to(stored_sample: StoredSample, spool_dir: Path) -> None:
    store = ("--from", stored_sample.folder, "--spool-dir", spool_dir, "-q")
    for level in ("objects", "bytes", "archive"):
        assert run_pgstow("verify", *store, "--level", level).exit_code == 0
        assert run_pgstow("verify", *store, "--level", level, "--attest").exit_code == 0
    found = attestations(stored_sample.folder)
    assert [attestation["level"] for attestation in found] == ["objects", "bytes", "archive"]
    assert all(attestation["good"] and attestation["restore"] is None for attestation in found)


def test_list_says_when_and_how_each_was_proven_last(stored_sample: StoredSample, spool_dir: Path) -> None:
    store, spool = ("--from", stored_sample.folder), ("--spool-dir", spool_dir, "-q")

    def column() -> str:
        return run_pgstow("list", *store).stdout.splitlines()[1]

    def document() -> dict[str, Any] | None:
        [listed] = json.loads(run_pgstow("list", *store, "--json").stdout)
        return listed["proven"]

    assert "never" in column()
    assert document() is None
    assert run_pgstow("verify", *store, *spool, "--level", "objects", "--attest").exit_code == 0
    assert run_pgstow("verify", *store, *spool, "--level", "archive", "--attest").exit_code == 0
    newest = attestations(stored_sample.folder)[-1]
    assert f"{newest['finished_at'][:10]} archive" in column()
    words = {"level": "archive", "good": True, "unreadable": [], "replaced": []}
    assert document() == {**words, "finished_at": newest["finished_at"]}

    stored_sample.path(stored_sample.manifest.objects[0]).unlink()
    assert run_pgstow("verify", *store, *spool, "--attest").exit_code == 7
    assert "bytes: failed" in column()
    assert document()["good"] is False


@pytest.mark.parametrize("change", ["altered", "moved", "of another manifest"])
def test_list_takes_no_attestation_that_is_not_in_order(
    stored_sample: StoredSample, change: str, spool_dir: Path
) -> None:
    store = ("--from", stored_sample.folder)
    assert run_pgstow("verify", *store, "--level", "objects", "--attest", "-q").exit_code == 0
    [path] = (stored_sample.folder / "attestations").rglob("*.json")
    match change:
        case "altered":
            path.write_bytes(path.read_bytes().replace(b'"good":true', b'"good":null'))
        case "moved":
            content = json.loads(path.read_bytes())
            del content["attestation_checksum"]
            content["backup_id"] = "20200101T000000Z-aaaaaa"
            checksum = hashlib.sha256(canonical(content, checksum=False)).hexdigest()
            path.write_bytes(canonical({**content, "attestation_checksum": checksum}, checksum=False))
        case _:
            edit_manifest(stored_sample.folder, lambda manifest: manifest.update(tool="forged"))
    result = run_pgstow("list", *store)
    assert result.exit_code == 0
    assert "never" in result.stdout
    assert len(result.stderr_lines) == 1
    assert {"altered": "damaged", "moved": "it was moved"}.get(change, "another manifest") in result.stderr


def test_the_latest_of_each_database(
    stored_sample: StoredSample, sample_database: Database, database: Database, server: Database, spool_dir: Path
) -> None:
    """pgstow verifies the other backups even if a backup is damaged. The exit code says that not all backups are good."""
    store, spool = stored_sample.folder, ("--spool-dir", spool_dir, "-q")
    database.execute("CREATE TABLE t AS SELECT 1 AS i")
    for cluster in ("a", "prod", "z"):
        backup = ("backup", database.conninfo, "--to", store, "--cluster", cluster, *spool)
        assert run_pgstow(*backup).exit_code == 0
    assert run_pgstow("backup", database.conninfo, "--to", store, "--cluster", "a", *spool).exit_code == 0
    where = ("--latest-of-each", "--scratch", server.conninfo)

    told = json.loads(verify(store, spool_dir, *where, "--json").stdout)
    newest = {}
    for path in sorted(
        (store / "manifests").rglob("*.json"), key=lambda path: json.loads(path.read_bytes())["snapshot_at"]
    ):
        newest[path.parent] = path.stem  # two backups may have begun in the same second
    assert [one["backup_id"] for one in told] == [newest[folder] for folder in sorted(newest)]
    assert len(newest) == 4
    assert all(one["good"] for one in told)

    [damaged] = [path for path in newest if path.parts[-2:] == ("prod", database.name)]
    for path in (store / "data" / "prod" / database.name / newest[damaged]).glob("pack-*"):
        path.unlink()
    [unreadable] = [path for path in newest if path.parts[-2:] == ("z", database.name)]
    (unreadable / f"{newest[unreadable]}.json").write_bytes(b"")
    result = verify(store, spool_dir, *where, "-q")
    assert result.exit_code == 7
    assert result.stdout.count("is good") == 2
    assert result.stdout.count("NOT PROVEN") == 1
    assert "not whole JSON" in result.stderr
    assert f"z/{database.name}" in result.stderr
    good = json.loads(verify(store, spool_dir, *where, "--cluster", "a", "--json").stdout)
    assert [one["good"] for one in good] == [True]


def test_the_latest_of_none(tmp_path: Path) -> None:
    result = run_pgstow("verify", "--from", tmp_path, "--latest-of-each", "-q")
    assert_one_sentence(result, 8, "There is no backup in")


def test_a_scratch_server_by_a_role_that_may_not_create_databases(
    stored_sample: StoredSample, server: Database, spool_dir: Path
) -> None:
    server.execute("CREATE ROLE humble LOGIN")
    try:
        scratch = make_conninfo(server.conninfo, user="humble")
        result = verify(stored_sample.folder, spool_dir, "--scratch", scratch, "-q")
        assert_one_sentence(result, 3, "permission denied to create database")
    finally:
        server.execute("DROP ROLE humble")


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_subscriptions_neither_contact_anybody_nor_stay(
    database: Database, server: Database, format_: str, tmp_path: Path, spool_dir: Path
) -> None:
    """A server refuses to drop a database that has a subscription, or is a template. pgstow drops the scratch database all the same."""
    subscription = "CREATE SUBSCRIPTION news CONNECTION 'host=/nowhere dbname=x' PUBLICATION p WITH (connect = false)"
    database.execute(subscription)
    database.execute(f"CREATE TABLE t AS SELECT 1 AS i; ALTER DATABASE {database.name} IS_TEMPLATE true")
    before = databases(server)
    try:
        backup = ("backup", database.conninfo, "--to", tmp_path, "--spool-dir", spool_dir, "-q", "-F", format_)
        assert run_pgstow(*backup).exit_code == 0
        result = verify(tmp_path, spool_dir, "--scratch", server.conninfo, "-q")
        assert result.exit_code == 0, result
        assert databases(server) == before
        assert [attestation["good"] for attestation in attestations(tmp_path)] == [True]
        assert server.fetch("SELECT subname, datname FROM pg_subscription s JOIN pg_database d ON d.oid = subdbid") == [
            ("news", database.name)
        ]
    finally:
        database.execute(f"ALTER DATABASE {database.name} IS_TEMPLATE false")
        for change in ("ALTER SUBSCRIPTION news SET (slot_name = NONE)", "DROP SUBSCRIPTION news"):
            database.execute(change)


def test_a_scratch_database_that_cannot_be_dropped_is_told(database: Database, tmp_path: Path, spool_dir: Path) -> None:
    """The server can't drop the database, since the assertion leaves a prepared transaction in it."""
    database.execute("CREATE EXTENSION dblink; CREATE TABLE t AS SELECT 1 AS i")
    assert run_pgstow("backup", database.conninfo, "--to", tmp_path, "--spool-dir", spool_dir, "-q").exit_code == 0
    assertion = (
        "SELECT dblink_exec(format('host=%s port=%s dbname=%s user=postgres', current_setting('unix_socket_directories'), "
        "current_setting('port'), current_database()), 'BEGIN; CREATE TABLE p (); PREPARE TRANSACTION ''p''') LIKE 'PREPARE%'"
    )
    with ThrowawayCluster(settings={"max_prepared_transactions": "1"}) as cluster:
        scratch = cluster.conninfo()
        result = verify(tmp_path, spool_dir, "--scratch", scratch, "--assert", assertion, "-q")
        assert result.exit_code == 3, result
        [left] = databases(Database("postgres", scratch)) - {"postgres", "template0", "template1"}
        Database(left, cluster.conninfo(left)).execute("ROLLBACK PREPARED 'p'")

        attested = attestations(tmp_path)
        shutil.rmtree(tmp_path / "attestations")
        (tmp_path / "attestations").touch()
        failed = verify(tmp_path, spool_dir, "--scratch", scratch, "--assert", assertion, "-q")
        assert failed.exit_code == 6, failed
        assert re.search(r"^pgstow: The database pgstow_proof_\w+ could not be dropped", failed.stderr, re.MULTILINE)
    sentence = assert_one_sentence(result, 3, r"is proven\. The database pgstow_proof_\w+ could not be dropped")
    assert left in sentence
    assert [attestation["good"] for attestation in attested] == [True]
