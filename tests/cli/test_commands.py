"""The output of list, show, verify and restore for a person and a script, and their errors."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import typer
from support.in_process import call_pgstow
from support.manifests import canonical
from support.pgstow import (
    PATIENCE,
    PGSTOW,
    assert_one_sentence,
    finish,
    run_pgstow,
    start_pgstow,
    wait_until,
)
from support.postgres_fixtures import Database, DatabaseMaker
from support.shelf import BackupBuilder
from support.stored_sample import StoredSample
from typer.main import get_command

from cli import display, errors, retention_options, values
from cli.logs import logging
from cli.main import app
from pipeline import errors as pipeline_errors
from pipeline.catalog.manifest import Manifest
from pipeline.prune.deletion import Deleted
from storage_backends import errors as storage_errors
from storage_backends.local import LocalBackend

EXIT_CODES = Path(__file__).parents[2] / "docs" / "exit-codes.md"
HEAVY = ("boto3", "botocore", "google", "psycopg", "pydantic", "zstandard", "tenacity")


@pytest.mark.parametrize("arguments", [["--help"], ["backup", "--help"], ["restore", "-h"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert not _imported(*arguments) & set(HEAVY)


@pytest.mark.parametrize(
    ("arguments", "command"), [(["--version"], None), (["backup", "--help"], "backup"), (["list", "-h"], "list")]
)
def test_a_command_starts_without_the_others(arguments: list[str], command: str | None) -> None:
    others = {f"cli.{name}" for name in get_command(app).commands} - {f"cli.{command}"}
    assert not _imported(*arguments) & others


def test_an_option_with_its_opposite_may_have_neither() -> None:
    """By default, ``verify`` attests only at the level restore."""
    verify = get_command(app).commands["verify"]
    parameters = verify.get_params(verify.context_class(verify))
    assert next(one for one in parameters if one.name == "attest").default is None


def test_a_list_needs_no_server_and_no_sdk(stored_sample: StoredSample) -> None:
    modules = _imported("list", "--from", str(stored_sample.folder))
    assert set(HEAVY) & modules == {"pydantic", "tenacity"}


def _imported(*arguments: str) -> set[str]:
    """Return the names of the modules that a process of ``pgstow`` has imported at its end."""
    program = (
        f"import sys; sys.argv[1:] = {arguments!r}\nfrom cli.main import main\ntry:\n    main()\nfinally:\n"
        "    print('imported', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    word, *modules = done.stdout.splitlines()[-1].split()
    assert word == "imported"
    return set(modules)


@pytest.mark.parametrize("command", ["backup", "restore", "list", "show", "verify", "check"])
def test_every_command_explains_itself(command: str) -> None:
    result = run_pgstow(command, "--help")
    assert result.exit_code == 0
    assert command in run_pgstow("--help").stdout
    assert "PGSTOW_STORE" in result.stdout


def test_the_store_may_come_from_the_environment(stored_sample: StoredSample) -> None:
    assert "sample_template" in run_pgstow("list", env={"PGSTOW_STORE": str(stored_sample.folder)}).stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["list"],
        ["list", "--from", "/x", "--frobnicate"],
        ["verify", "--from", "/x", "--level", "everything"],
        ["restore", "--from", "/x", "--into", "x", "--memory", "much"],
        ["restore", "--from", "/x", "--into", "x", "--jobs", "0"],
        ["restore", "--from", "/x", "--at", "yesterday"],
        ["backup", "--to", "/x", "--level", "99"],
    ],
)
def test_what_is_not_understood_ends_with_2_before_anything_is_done(arguments: list[str]) -> None:
    result = run_pgstow(*arguments, env={"PGSTOW_STORE": ""})
    assert result.exit_code == 2, result
    assert "Traceback" not in result.stderr
    assert result.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "matching"),
    [
        (["--from", "ftp://host/x"], 2, "ftp"),
        (["--from", "s3://"], 2, "s3://"),
        (["--from", "s3://b/p", "-o", "frobnicate=1"], 2, "frobnicate"),
        (["--from", "s3://b/p", "-o", "region"], 2, "region=VALUE"),
    ],
)
def test_a_store_that_is_none(arguments: list[str], exit_code: int, matching: str) -> None:
    assert_one_sentence(run_pgstow("list", *arguments), exit_code, matching)


def test_limits_that_contradict_each_other(tmp_path: Path) -> None:
    result = run_pgstow("backup", "x", "--to", tmp_path, "--memory", "1MiB", "-q")
    assert_one_sentence(result, 2, "memory limit must hold two objects")


@pytest.mark.parametrize("text", ["host='x", "postgresql://[", "nonsense=1", "host=x password=secret bad"])
def test_a_connection_string_that_is_none_is_not_repeated(tmp_path: Path, text: str) -> None:
    result = run_pgstow("restore", "--from", tmp_path, "--into", text, "-q")
    assert result.exit_code == 2
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("backup", "postgresql://u:hush@127.0.0.1:1/d", "--to"),
        ("check", "host=127.0.0.1 port=1 password=hush", "--to"),
        ("restore", "--into", "postgresql://u:hush@127.0.0.1:1/d", "--from"),
        ("verify", "--level", "restore", "--scratch", "host=127.0.0.1 port=1 password=hush", "--from"),
    ],
)
def test_a_password_in_an_argument_is_warned_of(tmp_path: Path, command: tuple[str, ...]) -> None:
    result = call_pgstow(*command, tmp_path)
    warning = (
        "pgstow: Other users of this machine can read the password in the list of processes: "
        "keep it in ~/.pgpass or in a service file."
    )
    assert result.stderr_lines.count(warning) == 1
    assert "hush" not in result.stderr + result.stdout
    assert warning not in call_pgstow(*command, tmp_path, "--quiet").stderr


def test_nothing_there(tmp_path: Path) -> None:
    assert run_pgstow("list", "--from", tmp_path).stdout.startswith("No backups in file://")
    selected = run_pgstow("list", "--from", tmp_path, "--cluster", "prod", "--database", "shop")
    assert selected.stdout.startswith("No backups of prod/shop in file://")
    assert json.loads(run_pgstow("list", "--from", tmp_path, "--json").stdout) == []
    for command in ("show", "verify"):
        assert_one_sentence(run_pgstow(command, "--from", tmp_path), 8, "pgstow list shows what there is")


def test_documents_for_machines(stored_sample: StoredSample, tmp_path: Path) -> None:
    manifest = stored_sample.manifest
    store = ("--from", stored_sample.folder, "--json")

    [listed] = json.loads(run_pgstow("list", *store).stdout)
    shown = json.loads(run_pgstow("show", *store).stdout)
    assert listed["backup_id"] == shown["backup_id"] == manifest.backup_id
    assert listed["totals"]["rows"] == sum(file.rows or 0 for file in manifest.files)
    assert shown.pop("signature") is None
    assert shown.pop("lock") == {"retained_until": None, "held": False, "needs": []}
    assert Manifest.model_validate(shown) == manifest
    assert {file["relation"] for file in shown["files"]} >= {"new\nline", "größe ∑ 名前 🐘", 'it\'s "quoted"'}

    verified = json.loads(run_pgstow("verify", *store, "--level", "objects").stdout)
    assert verified == {
        "cluster": "prod",
        "database": "sample_template",
        "backup_id": manifest.backup_id,
        "level": "objects",
        "good": True,
        "objects": len(manifest.objects),
        "objects_without_checksum": 0,
        "files": 0,
        "read": 0,
        "restored": None,
        "problems": [],
        "unreadable": [],
        "replaced": [],
        "attestation": None,
    }
    extracted = json.loads(run_pgstow("restore", *store, "--to-directory", tmp_path / "out").stdout)
    assert extracted["files"] == len(manifest.files)
    assert extracted["size"] == manifest.totals.size


def test_show_explains_a_backup_with_odd_names(stored_sample: StoredSample) -> None:
    shown = run_pgstow("show", "--from", stored_sample.folder, "--all")
    assert shown.exit_code == 0
    assert shown.stderr == ""
    for expected in (
        "sample_template of cluster prod",
        stored_sample.manifest.backup_id,
        "13,363 in 27 tables",
        "new␤line",
        "größe ∑ 名前 🐘",
        "wild*card?[a-z]|(x)",
        "10 large objects",
    ):
        assert expected in shown.stdout, expected
    assert shown.stdout.count("odd names/日本 %41") > 10


def test_the_manifest_says_which_levels_compressed_the_backup(sample_database: Database, tmp_path: Path) -> None:
    for arguments, level in (([], 3), (["--level", "auto"], 3), (["--level", 6], 6)):
        store = tmp_path / f"store{len(arguments)}{level}"
        assert run_pgstow("backup", sample_database.conninfo, "--to", store, "-q", *arguments).exit_code == 0
        [compression] = [json.loads(path.read_text())["compression"] for path in store.rglob("manifests/**/*.json")]
        levels = compression.pop("levels")
        assert compression == {"algorithm": "zstd", "level": level}
        assert min(levels) == level
        assert levels == [6] or level == 3
        shown = run_pgstow("show", "--from", store).stdout
        assert f"(zstd level{'s' * (len(levels) > 1)} {', '.join(map(str, levels))})" in shown


def test_a_whole_servers_backup_has_no_level_of_its_own(tmp_path: Path) -> None:
    BackupBuilder(LocalBackend(tmp_path)).add_cluster(timedelta(days=1))
    for database, words in (("@cluster", "in 0 objects"), ("shop", "in 2 objects (zstd level 3)")):
        shown = call_pgstow("show", "--from", tmp_path, "--database", database).stdout
        assert [line.rpartition(" stored ")[2].rstrip() for line in shown.splitlines() if " stored " in line] == [words]


@pytest.mark.parametrize("text", ["", "0", "20", "-3", "3.0", "Auto", "٣", "9" * 5000])
def test_a_level_is_auto_or_a_number_from_1_to_19(text: str) -> None:
    assert [values.parse_level(good) for good in ("auto", "1", "19", 3)] == ["auto", 1, 19, 3]
    with pytest.raises(typer.BadParameter, match=r"is not a level; write auto, or a number from 1 to 19$"):
        values.parse_level(text)


def test_a_name_is_no_markup_and_no_terminal_code(make_database: DatabaseMaker, tmp_path: Path) -> None:
    made = make_database("[red]x[/red] \x1b[31m\r")
    made.execute('CREATE TABLE "[bold]\x1b]0;title\x07" ()')
    store = tmp_path / "store"
    assert run_pgstow("backup", made.conninfo, "--to", store, "-q").exit_code == 0
    for command in ("list", "show"):
        printed = run_pgstow(command, "--from", store)
        assert printed.exit_code == 0
        assert "[red]x[/red]" in printed.stdout
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", printed.stdout)


def test_list_shows_what_it_can_beside_a_damaged_manifest(stored_sample: StoredSample) -> None:
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    damaged = path.with_name("20200101T000000Z-aaaaaa.json")
    damaged.write_bytes(path.read_bytes()[:-7])

    as_table = run_pgstow("list", "--from", stored_sample.folder)
    assert as_table.exit_code == 7
    assert damaged.stem in as_table.stdout
    assert path.stem in as_table.stdout
    assert "13,363" in as_table.stdout

    as_json = run_pgstow("list", "--from", stored_sample.folder, "--json")
    assert as_json.exit_code == 7
    first, second = json.loads(as_json.stdout)
    assert (first["backup_id"], second["backup_id"]) == (damaged.stem, path.stem)
    assert "damaged" in first["problem"]


def test_list_says_what_is_only_a_part(stored_sample: StoredSample, database: Database, tmp_path: Path) -> None:
    database.execute("CREATE TABLE a (); CREATE TABLE b ()")
    store = tmp_path / "store"
    assert run_pgstow("backup", database.conninfo, "--to", store, "-q", "-t", "a").exit_code == 0
    assert "partial" in run_pgstow("list", "--from", store).stdout
    assert "partial" not in run_pgstow("list", "--from", stored_sample.folder).stdout
    assert "--table=a" in run_pgstow("show", "--from", store, "--partial").stdout


def test_a_key_that_no_pgstow_wrote(stored_sample: StoredSample) -> None:
    content = canonical({"manifest_version": "1.0"})
    stray = stored_sample.folder / "manifests/prod/%FF/20200101T000000Z-aaaaaa.json"
    stray.parent.mkdir()
    stray.write_bytes(content)
    listed = run_pgstow("list", "--from", stored_sample.folder)
    assert listed.exit_code == 7
    assert "manifests/prod/%FF/20200101T000000Z-aaaaaa.json: pgstow gives no manifest" in " ".join(
        listed.stdout.split()
    )
    assert stored_sample.manifest.backup_id in listed.stdout


def test_a_dry_run_says_what_it_would_do_and_does_not(database: Database, tmp_path: Path) -> None:
    """The dry run also works if the table of contents is larger than the spool's limit."""
    database.execute(
        "CREATE TABLE t (); DO $$ BEGIN FOR i IN 1..200 LOOP EXECUTE format("
        "'CREATE FUNCTION f%s() RETURNS text LANGUAGE sql AS %L', i, format('SELECT %L', repeat(md5(i::text), 2000))"
        "); END LOOP; END $$"
    )
    arguments = ("--to", tmp_path / "store", "--dry-run", "--spool-limit", "16MiB", "--spool-dir", tmp_path, "-q")
    result = run_pgstow("backup", database.conninfo, *arguments)
    assert result.exit_code == 0, result
    assert f"Would back up localhost/{database.name}" in result.stdout
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "store"] == []


def test_a_dry_run_shows_no_secret_of_the_stores_url() -> None:
    result = run_pgstow("backup", "x", "--to", "s3://KEY:SECRET@bucket", "--dry-run")
    assert_one_sentence(result, 2, "may not have credentials in it")
    assert "SECRET" not in result.stdout + result.stderr


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGTSTP])
def test_signals_that_were_ignored_or_are_to_be(
    number: signal.Signals, database: Database, tmp_path: Path, spool_dir: Path
) -> None:
    """A process that ignores SIGCHLD can't learn the end of a child. A Ctrl-Z would leave pg_dump running without a limit of its spool."""
    previous = signal.signal(number, signal.SIG_IGN) if number is signal.SIGCHLD else None
    try:
        backup = ("backup", database.conninfo, "--to", tmp_path / "store", "--spool-dir", spool_dir, "-q")
        with closing(psycopg.connect(database.conninfo)) as locking, start_pgstow(*backup) as process:
            locking.execute("CREATE TABLE t ()")
            locking.commit()
            locking.execute("LOCK TABLE t")
            if number is signal.SIGTSTP:
                wait_until(lambda: list(spool_dir.iterdir()), "pgstow has begun")
                process.send_signal(number)
            locking.rollback()
            result = finish(process, PATIENCE)
    finally:
        if previous is not None:
            signal.signal(number, previous)
    assert result.exit_code == 0, result


def test_a_pipe_that_closes_early_is_no_traceback(stored_sample: StoredSample) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        done = subprocess.run(
            [PGSTOW, "show", "--from", stored_sample.folder, "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("268435456", 268435456),
        ("256MiB", 2**28),
        ("256MB", 2**28),
        ("256M", 2**28),
        ("256 m", 2**28),
        ("64kB", 2**16),
        ("1GiB", 2**30),
        (" 2T ", 2**41),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert values.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "1e3", "1 000", "12PB", "1MM", "١٢x"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a size"):
        values.parse_size(text)


def test_moments() -> None:
    assert values.parse_moment("2026-11-23T02:00:00Z") == datetime(2026, 11, 23, 2, tzinfo=UTC)
    assert values.parse_moment("2026-11-23 02:00+05:30") == datetime(2026, 11, 22, 20, 30, tzinfo=UTC)
    assert values.parse_moment("2026-11-23").tzinfo is not None
    with pytest.raises(typer.BadParameter, match="is not a time"):
        values.parse_moment("yesterday")


def test_durations() -> None:
    assert [retention_options.parse_duration(text) for text in ("36h", "30d", " 8w")] == [
        timedelta(hours=36),
        timedelta(days=30),
        timedelta(weeks=8),
    ]
    for text in ("", "d", "1.5d", "-1d", "30", "1m", "٣d"):
        with pytest.raises(typer.BadParameter, match="is not a duration"):
            retention_options.parse_duration(text)
    with pytest.raises(typer.BadParameter, match="more than a hundred years"):
        retention_options.parse_duration("999999d")


def test_json_commands_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"name": "é\x1b\x7f\x9b31m\u202e\u2028", "rows": [1]}
    display.print_json(document)
    with logging("json", quiet=False, debug=False) as log:
        log.trouble(document["name"])
    captured = capsys.readouterr()
    for text in captured:
        assert "é" in text
        assert all(line.isprintable() for line in text.split("\n"))
    assert json.loads(captured.out) == document
    assert json.loads(captured.err)["message"] == document["name"]


def test_json_is_indented_as_by_python(capsys: pytest.CaptureFixture[str]) -> None:
    items = [{"é": ['"\\\n\x01/', [], {}, {"a": [1e16, -0.5, 2**70, None, True]}]}, [], "\n  ", {"moment": Path("x")}]
    for number in range(len(items) + 1):
        expected = json.dumps(items[:number], indent=2, ensure_ascii=False, default=str) + "\n"
        display.print_json(items[:number])
        assert capsys.readouterr().out == expected
        display.print_json_list(iter(items[:number]))
        assert capsys.readouterr().out == expected


@pytest.mark.parametrize("text", ["/mnt/\udcff", "\ud800", "é\udc80\x9b"])
def test_a_path_that_is_not_utf_8_is_escaped_in_json(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    document = {"path": text, "rows": [1]}
    display.print_json(document)
    printed = capsys.readouterr().out
    assert json.loads(printed) == document
    assert all(line.isprintable() for line in printed.split("\n"))
    display.print_json_list([document])
    assert json.loads(capsys.readouterr().out) == [document]


def test_words_for_what_was_removed() -> None:
    until = datetime(2026, 12, 1, tzinfo=UTC)
    assert display.describe_removal(Deleted(1200, 2**20)) == "1,200 objects (1.0 MiB) are gone"
    assert display.describe_removal(Deleted(1, 5)) == "1 object (5 B) is gone"
    assert display.describe_removal(Deleted(2, 5, hidden=True)) == (
        "2 objects (5 B) are hidden, not gone: the bucket keeps their versions until its lifecycle rules remove them"
    )
    assert display.describe_removal(Deleted(0, 0, {"a": until})) == (
        "0 objects (0 B) are gone; 1 object stays, locked until 2026-12-01 00:00Z at the latest"
    )
    assert display.describe_removal(Deleted(0, 0, {"a": None})).endswith("; 1 object stays, locked by a legal hold")
    assert display.describe_removal(Deleted(0, 0, {"a": until, "b": None})).endswith(
        "; 2 objects stay, locked until 2026-12-01 00:00Z at the latest, 1 by a legal hold"
    )


def test_words_for_sizes_and_times() -> None:
    assert [display.format_size(size) for size in (0, 1023, 1024, 1536, 2**30, 5 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "1.0 GiB",
        "5.0 TiB",
    ]
    assert [display.format_duration(seconds) for seconds in (0.04, 59.9, 60, 245, 7380)] == [
        "0.0s",
        "59.9s",
        "1m 00s",
        "4m 05s",
        "2h 03m",
    ]
    now = datetime.now(UTC)
    assert display.format_age(now - timedelta(hours=3, minutes=5)) == "3 hours ago"
    assert display.format_age(now - timedelta(days=1, hours=5)) == "1 day ago"
    assert display.format_age(now) == "just now"


def test_every_failure_has_a_documented_code() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", EXIT_CODES.read_text("utf-8"), re.MULTILINE)}
    assert {int(code) for code in errors.ExitCode} <= documented
    kinds = [kind for kind, _ in errors._CODES]
    for module, base in (
        (pipeline_errors, pipeline_errors.PipelineError),
        (storage_errors, storage_errors.StorageError),
    ):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, base) and kind is not pipeline_errors.PipelineError:
                assert any(issubclass(kind, known) for known in kinds), f"{kind.__name__} would end as unexpected"


def test_debug_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    result = run_pgstow("--debug", "show", "--from", tmp_path)
    assert result.exit_code == 8
    assert "Traceback" in result.stderr
    assert result.stderr_lines[-1].startswith("pgstow: There is no backup")
