"""Backups and restores on servers of several major versions, with clients of the same version, and restores into newer servers."""

import itertools
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from support import pg_restore_page
from support.archives import described, split_tables
from support.loading import AUDITED, CONFIGURED, FILL_CONFIGURED
from support.pgstow import Result, assert_one_sentence, run_pgstow
from support.postgres_fixtures import SAMPLE_SCALE, Database

from demo import compare, sample
from pipeline.catalog.find import BackupSelector, find_backup
from pipeline.postgres.throwaway import ThrowawayCluster
from storage_backends.local import LocalBackend

MAJORS = (14, 16, 17, 18)
NEWEST = 18


Servers = Callable[[int], ThrowawayCluster]


@pytest.fixture(scope="module")
def servers(programs: Callable[[int], Path]) -> Iterator[Servers]:
    """Yield a function that returns a server of a major version. The server's database ``sample`` holds the sample."""
    running: dict[int, ThrowawayCluster] = {}
    with ExitStack() as stack:

        def start(major: int) -> ThrowawayCluster:
            if major not in running:
                running[major] = stack.enter_context(ThrowawayCluster(search=[programs(major)]))
                assert running[major].major == major
                with closing(psycopg.connect(running[major].conninfo(), autocommit=True)) as connection:
                    connection.execute("CREATE DATABASE sample")
                sample.fill(running[major].conninfo("sample"), scale=SAMPLE_SCALE)
            return running[major]

        yield start


@pytest.fixture
def pgstow(programs: Callable[[int], Path], spool_dir: Path) -> Callable[..., Result]:
    """Return a function that runs pgstow with the programs of the major versions ``having``."""

    def run(command: str, *arguments: object, having: tuple[int, ...] = MAJORS) -> Result:
        folders = [word for major in having for word in ("--bin-dir", programs(major))]
        return run_pgstow(command, *arguments, *folders, "--spool-dir", spool_dir, "-q")

    return run


@pytest.mark.parametrize("major", MAJORS)
def test_a_server_of_each_major_comes_back_by_its_own_programs(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path, major: int
) -> None:
    server = servers(major)
    made = pgstow("backup", server.conninfo("sample"), "--to", tmp_path, "--object-size", 64 * 1024)
    assert (made.exit_code, made.stderr) == (0, "")
    manifest = find_backup(LocalBackend(tmp_path), BackupSelector())
    versions = (manifest.source.server_version, manifest.source.pg_dump_version)
    assert [version.partition(".")[0] for version in versions] == [str(major)] * 2

    assert pgstow("verify", "--from", tmp_path, "--level", "archive").exit_code == 0
    copy = server.conninfo("copy")
    restored = pgstow("restore", "--from", tmp_path, "--into", copy, "--create", "--jobs", 2, "--split-tables", 1)
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert compare.contents(copy) == compare.contents(server.conninfo("sample"))
    assert compare.definitions(copy) == compare.definitions(server.conninfo("sample"))


@pytest.mark.parametrize("major", MAJORS)
def test_a_dump_in_ranges_has_the_archive_of_pg_dump(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path, major: int
) -> None:
    Database("sample", servers(major).conninfo("sample")).execute("ANALYZE")
    archives = []
    for split in ("never", "1"):
        to, archive = tmp_path / split, tmp_path / f"archive-{split}"
        options = ("--jobs", 2, "--split-tables", split, *(["--statistics"] if major >= 18 else []))
        made = pgstow("backup", servers(major).conninfo("sample"), "--to", to, *options)
        assert (made.exit_code, made.stderr) == (0, "")
        assert run_pgstow("restore", "--from", to, "--to-directory", archive, "-q").exit_code == 0
        archives.append(archive)
    assert described(archives[1]) == described(archives[0])
    assert "customer" in split_tables(archives[1])


@pytest.mark.parametrize("major", MAJORS)
def test_several_jobs_load_rows_before_what_acts_on_them_and_referenced_tables_first(
    servers: Servers, programs: Callable[[int], Path], pgstow: Callable[..., Result], tmp_path: Path, major: int
) -> None:
    """The database has triggers on a partitioned table, and an extension whose script makes foreign keys between its tables."""
    server = servers(major)
    extensions = programs(major).parent / "share" / "extension"
    (extensions / "configured.control").write_text("default_version = '1'\nrelocatable = false\n")
    (extensions / "configured--1.sql").write_text(CONFIGURED)
    original, copy = Database("", server.conninfo("audited")), Database("", server.conninfo("audited_copy"))
    Database("", server.conninfo()).execute("CREATE DATABASE audited")
    original.execute(AUDITED)
    original.execute("CREATE EXTENSION configured")
    original.execute(FILL_CONFIGURED)
    assert pgstow("backup", original.conninfo, "--to", tmp_path).exit_code == 0
    restored = pgstow("restore", "--from", tmp_path, "--into", copy.conninfo, "--create", "--jobs", 4)
    assert (restored.exit_code, restored.stderr) == (0, "")
    was, came = compare.contents(original.conninfo), compare.contents(copy.conninfo)
    for partition in ("mooded_0", "mooded_1"):  # an enum's hashes differ from database to database
        del was[partition], came[partition]
    assert came == was


@pytest.mark.parametrize(
    ("major", "format_"),
    [(MAJORS[0], "tar"), *itertools.product((MAJORS[0], NEWEST), ("custom", "plain"))],
)
def test_in_every_format(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path, major: int, format_: str
) -> None:
    server = servers(major)
    made = pgstow("backup", server.conninfo("sample"), "--format", format_, "--to", tmp_path)
    assert (made.exit_code, made.stderr) == (0, "")
    assert pgstow("verify", "--from", tmp_path, "--level", "archive").exit_code == 0
    copy = server.conninfo(f"copy_{format_}")
    restored = pgstow("restore", "--from", tmp_path, "--into", copy, "--create")
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert compare.contents(copy) == compare.contents(server.conninfo("sample"))


@pytest.mark.parametrize("major", MAJORS[:-1])
def test_each_major_can_be_restored_into_the_newest(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path, major: int
) -> None:
    old, new = servers(major), servers(NEWEST)
    assert pgstow("backup", old.conninfo("sample"), "--to", tmp_path).exit_code == 0
    copy = new.conninfo(f"from_{major}")
    restored = pgstow("restore", "--from", tmp_path, "--into", copy, "--create")
    assert (restored.exit_code, restored.stderr) == (0, "")
    assert compare.contents(copy) == compare.contents(old.conninfo("sample"))


@pytest.mark.parametrize(("old", "new"), [(14, 14), (14, 18), (18, 18)])
def test_a_table_beside_the_one_that_is_there(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path, old: int, new: int
) -> None:
    """The target's server renames the objects, so the pg_dump that dumps their definitions again must fit the target's server."""
    assert pgstow("backup", servers(old).conninfo("sample"), "--to", tmp_path).exit_code == 0
    target = Database("sample", servers(new).conninfo("sample"))
    for options in (("-t", "shop.*", "--to-schema", "aside"), ("-t", "telemetry.reading", "--as", "before")):
        result = pgstow("restore", "--from", tmp_path, "--into", target.conninfo, *options)
        assert (result.exit_code, result.stderr) == (0, "")
    contents = compare.contents(target.conninfo)
    moved = {name: content for name, content in contents.items() if name.startswith(("aside.", "telemetry.before"))}
    target.execute("DROP SCHEMA aside CASCADE; DROP TABLE telemetry.before")
    source = compare.contents(servers(old).conninfo("sample"))
    expected = {f"aside.{name[5:]}": content for name, content in source.items() if name.startswith("shop.")}
    expected |= {
        name.replace("reading", "before"): content
        for name, content in source.items()
        if name.startswith("telemetry.reading")
    }
    assert moved == expected
    assert len(expected) > 5
    assert target.fetch("SELECT FROM pg_database WHERE datname LIKE 'pgstow%'") == []


def test_an_older_client_is_never_used(servers: Servers, pgstow: Callable[..., Result], tmp_path: Path) -> None:
    result = pgstow("backup", servers(17).conninfo("sample"), "--to", tmp_path / "store", having=(14, 16))
    assert_one_sentence(
        result, 9, r"pg_dump of PostgreSQL 17 or newer is needed, but there is only 14\.\d+, 16\.\d+ in"
    )
    assert list((tmp_path / "store").iterdir()) == []


def test_a_newer_client_does_where_there_is_no_other(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    server = servers(14)
    assert pgstow("backup", server.conninfo("sample"), "--to", tmp_path, having=(16,)).exit_code == 0
    assert find_backup(LocalBackend(tmp_path), BackupSelector()).source.pg_dump_version.startswith("16.")
    copy = server.conninfo("by_16")
    assert pgstow("restore", "--from", tmp_path, "--into", copy, "--create", having=(16,)).exit_code == 0
    assert compare.contents(copy) == compare.contents(server.conninfo("sample"))


def test_an_older_server_is_refused_unless_told(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    new, old = servers(16), servers(14)
    assert pgstow("backup", new.conninfo("sample"), "--to", tmp_path).exit_code == 0
    into = ("--from", tmp_path, "--into", old.conninfo("from_newer"), "--create")
    assert_one_sentence(pgstow("restore", *into), 2, r"of PostgreSQL 16\.\d+.* is older \(14\.\d+\).*--allow-older")
    assert Database("", old.conninfo()).fetch("SELECT FROM pg_database WHERE datname = 'from_newer'") == []
    assert pgstow("restore", *into, "--allow-older").exit_code == 0
    assert compare.contents(old.conninfo("from_newer")) == compare.contents(new.conninfo("sample"))


def test_a_pg_restore_that_the_server_does_not_understand(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    """Stock pg_restore 18 stops at once: unrecognized configuration parameter "transaction_timeout"."""
    old = servers(16)
    assert pgstow("backup", old.conninfo("sample"), "--to", tmp_path).exit_code == 0
    result = pgstow("restore", "--from", tmp_path, "--into", old.conninfo("never"), "--create", having=(18,))
    assert_one_sentence(
        result, 9, r"pg_restore of PostgreSQL 16 \(newer.*this old\) is needed, but there is only 18\.\d+"
    )
    assert Database("", old.conninfo()).fetch("SELECT FROM pg_database WHERE datname = 'never'") == []


def test_a_server_that_no_pg_restore_of_the_backup_speaks_to(
    servers: Servers, pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    """The options that the message suggests work."""
    new, old = servers(NEWEST), servers(16)
    assert pgstow("backup", new.conninfo("sample"), "--to", tmp_path).exit_code == 0
    into = ("--from", tmp_path, "--into", old.conninfo("from_newest"), "--create")
    going_on = "--allow-older --keep-going --allow-error transaction_timeout --jobs 1"
    told = rf"PostgreSQL 16\.\d+ can't take a backup that pg_dump {NEWEST}\..*into {NEWEST} or newer, try {going_on}, or adapt"
    for more in ([], ["--allow-older"], ["--allow-older", "--jobs", 1]):
        assert_one_sentence(pgstow("restore", *into, *more), 2, told)
    scratch = pgstow("verify", "--from", tmp_path, "--level", "restore", "--scratch", old.conninfo())
    assert_one_sentence(
        scratch, 2, rf"scratch server is too old.*16\.\d+.*Name a server of PostgreSQL {NEWEST} or newer"
    )
    aside = pgstow(
        "restore", "--from", tmp_path, "--into", old.conninfo(), "-t", "shop.product", "--as", "x", "--keep-going"
    )
    assert "--keep-going" not in assert_one_sentence(aside, 2, "can't take a backup")
    assert Database("", old.conninfo()).fetch("SELECT FROM pg_database WHERE datname = 'from_newest'") == []
    Database("", new.conninfo()).execute("CREATE ROLE not_made")
    assert pgstow("backup", new.conninfo(), "--all-databases", "--schema-only", "--to", tmp_path / "all").exit_code == 0
    cluster = ("restore", "--all-databases", "--from", tmp_path / "all", "--into", old.conninfo(), "--partial")
    assert_one_sentence(pgstow(*cluster, "--allow-older"), 2, "can't take a backup")
    assert Database("", old.conninfo()).fetch("SELECT FROM pg_roles WHERE rolname = 'not_made'") == []

    assert pgstow("restore", *into, *going_on.split()).exit_code == 0
    assert compare.contents(old.conninfo("from_newest")) == compare.contents(new.conninfo("sample"))


def test_the_newest_options_do_what_stock_pg_restore_does(
    servers: Servers, programs: Callable[[int], Path], pgstow: Callable[..., Result], tmp_path: Path
) -> None:
    server, stock = servers(NEWEST), programs(NEWEST)
    secured, ours, theirs = (Database(name, server.conninfo(name)) for name in ("secured", "ours", "theirs"))
    administered = Database("", server.conninfo())
    administered.execute("CREATE DATABASE secured")
    secured.execute(
        "CREATE TABLE t AS SELECT generate_series(1, 300) AS i; CREATE POLICY p ON t USING (true);"
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY; ANALYZE t"
    )
    wrapper = tmp_path / "bin" / "pg_dump"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\ncase $1 in --version) ;; *) set -- --statistics "$@" ;; esac\nexec {stock}/pg_dump "$@"\n'
    )
    wrapper.chmod(0o755)
    store, archive = tmp_path / "store", tmp_path / "archive"
    made = run_pgstow("backup", secured.conninfo, "--to", store, "--bin-dir", wrapper.parent)
    assert made.exit_code == 0, made
    assert pgstow("restore", "--from", store, "--to-directory", archive).exit_code == 0

    def held(database: Database) -> list[tuple]:
        return database.fetch(
            "SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM pg_policy), relrowsecurity, reltuples, "
            "(SELECT count(*) FROM pg_stats WHERE tablename = 't') FROM pg_class WHERE relname = 't'"
        )

    seen = []
    for options in (
        [],
        ["--no-statistics"],
        ["--statistics"],
        ["--no-data"],
        ["--no-policies"],
        ["--no-policies", "--transaction-size", 1, "--no-statistics"],
    ):
        for database in (ours, theirs):
            administered.execute(f"DROP DATABASE IF EXISTS {database.name}")
            administered.execute(f"CREATE DATABASE {database.name}")
        result = pgstow("restore", "--from", store, "--into", ours.conninfo, "--jobs", 4, *options)
        assert (result.exit_code, result.stderr) == (0, "")
        command = [stock / "pg_restore", f"--dbname={theirs.conninfo}", *map(str, options), archive]
        subprocess.run(command, check=True)
        assert held(ours) == held(theirs)
        seen.append(held(ours)[0])
    assert {(rows, policies, statistics) for rows, policies, _, _, statistics in seen} == {
        (300, 1, 1),
        (300, 1, 0),
        (0, 1, 1),
        (300, 0, 1),
        (300, 0, 0),
    }
    ours.execute("TRUNCATE t")
    assert pgstow("restore", "--from", store, "--into", ours.conninfo, "--no-schema").exit_code == 0
    assert pgstow("restore", "--from", store, "--into", ours.conninfo, "--statistics-only").exit_code == 0
    assert held(ours) == [(300, 0, False, 300, 1)]
    into_17 = ("restore", "--from", store, "--into", servers(17).conninfo("secured"), "--create", "--allow-older")
    assert_one_sentence(pgstow(*into_17), 2, r"statistics, which need PostgreSQL 18 or newer.*--no-statistics")
    assert pgstow(*into_17, "--no-statistics").exit_code == 0


@pytest.mark.parametrize("major", MAJORS)
def test_the_page_on_options_has_those_of_pg_restore(programs: Callable[[int], Path], major: int) -> None:
    command = [programs(major) / "pg_restore", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"^  (?:(-\S), )?(--[\w-]+)", text, re.MULTILINE)
    expected = [option for option in pg_restore_page.OPTIONS if option.since <= major]
    assert sorted(found) == sorted((("", *option.spellings)[-2:]) for option in expected)


@pytest.mark.parametrize("major", [16, NEWEST])
def test_icu_rules_are_kept(servers: Servers, pgstow: Callable[..., Result], tmp_path: Path, major: int) -> None:
    """These servers were built without ICU, so they refuse the rules. The error shows that pgstow sent the rules."""
    server = servers(major)
    administered = Database("postgres", server.conninfo())
    administered.execute("CREATE DATABASE ruled")
    administered.execute("UPDATE pg_database SET daticurules = '&a < g' WHERE datname = 'ruled'")
    assert pgstow("backup", server.conninfo("ruled"), "--to", tmp_path).exit_code == 0
    assert find_backup(LocalBackend(tmp_path), BackupSelector()).source.icu_rules == "&a < g"
    result = pgstow("restore", "--from", tmp_path, "--into", server.conninfo("ruled_too"), "--create")
    assert_one_sentence(result, 3, "ICU rules cannot be specified unless locale provider is ICU")
