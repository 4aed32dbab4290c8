"""pgstow does its work even if standard output and standard error are closed, on a full disk, or without a reader."""

import itertools
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from support.pgstow import PATIENCE, PGSTOW, Result, committed_backups
from support.postgres_fixtures import Database, DatabaseMaker
from support.stored_sample import StoredSample

BROKEN = ("closed", "full", "unread")


def run(*arguments: object, stdin: str = "", stdout: str = "", stderr: str = "") -> Result:
    """Run pgstow with these arguments. ``stdin``, ``stdout`` and ``stderr`` say how a stream is broken, or are empty if it works."""
    redirections = {"closed": "{}>&-", "full": "{}>/dev/full"}
    shell = " ".join(
        redirections[how].format(number) for number, how in enumerate((stdin, stdout, stderr)) if how in redirections
    )
    with unread_pipe() as pipe:
        done = subprocess.run(
            ["sh", "-c", f'exec "$@" {shell}', "sh", PGSTOW, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=pipe if stdout == "unread" else subprocess.PIPE,
            stderr=pipe if stderr == "unread" else subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    return Result(done.returncode, done.stdout or "", done.stderr or "")


@contextmanager
def unread_pipe() -> Iterator[IO[str]]:
    """Yield the write end of a pipe whose reader has gone."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        yield pipe


@pytest.mark.parametrize("broken", BROKEN)
def test_a_backup_is_made_whatever_becomes_of_messages(broken: str, database: Database, tmp_path: Path) -> None:
    """The work also succeeds if all three streams are closed. Other files and sockets could then get the descriptors 0 to 2."""
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
    backup = ("backup", database.conninfo, "--to", tmp_path, "--statement-timeout", 60)
    made = run(*backup, stderr=broken)
    assert made.exit_code == 0, made
    assert made.stdout.startswith("Backed up ")
    assert len(committed_backups(tmp_path)) == 1

    made = run(*backup, stdin="closed", stdout=broken, stderr=broken)
    assert made.exit_code == 0, made
    assert made.stdout == ""
    assert len(committed_backups(tmp_path)) == 2


def test_the_exit_code_of_work_is_the_works(database: Database, tmp_path: Path) -> None:
    """If standard output can't take the result, one sentence on standard error says what was done."""
    database.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS n")
    store = tmp_path / "store"
    store.mkdir()
    made = run("backup", database.conninfo, "--to", store, "-q", stdout="closed")
    [backup_id] = committed_backups(store)
    assert_told(made, f"Backed up localhost/{database.name} as {backup_id}.")

    told = run("verify", backup_id, "--from", store, "--attest", "-q", "--json", stdout="full")
    assert_told(told, f"Verified 1 backup. Good: {database.name} {backup_id}.")
    assert len(list((store / "attestations").rglob("*.json"))) == 1
    told = run("restore", backup_id, "--from", store, "--to-directory", tmp_path / "out", "-q", stdout="unread")
    assert_told(told, backup_id)
    assert (tmp_path / "out" / "toc.dat").exists()

    shutil.copytree(
        store / "data" / "localhost" / database.name / backup_id, store / "data/a/b/20200101T000000Z-abcdef"
    )
    for leftover in (store / "data/a/b").rglob("*"):
        os.utime(leftover, (0, 0))
    told = run("gc", "--from", store, "--yes", "-q", stdout="closed")
    assert_told(told, "[0-9]+ objects .* are gone.")
    assert not (store / "data/a").exists() or not list((store / "data/a").rglob("*.zst"))

    assert run("backup", database.conninfo, "--to", store, "-q").exit_code == 0
    told = run("prune", "--from", store, "--keep-last", 1, "--yes", "-q", "--json", stdout="full")
    assert_told(told, "Removed 1 backup")
    assert len(committed_backups(store)) == 1


def assert_told(result: Result, done: str) -> None:
    assert result.exit_code == 0, result
    assert len(result.stderr_lines) == 1, result
    assert re.search(f"{done}.* The result could not be written to standard output: ", result.stderr), result


@pytest.mark.parametrize("broken", BROKEN)
def test_a_run_is_done_whatever_becomes_of_its_words(broken: str, database: Database, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    config = tmp_path / "pgstow.toml"
    config.write_text(
        f'[destinations.here]\nurl = "{tmp_path / "store"}"\n[databases.{database.name}]\nconninfo = "{database.conninfo}"\n'
    )
    assert run("run", "--config", config, "--log-format", "json", stderr=broken).exit_code == 0
    told = run("run", "--config", config, stdout=broken)
    assert told.exit_code == 0, told
    assert f"Backups made: {database.name} {committed_backups(tmp_path / 'store')[-1]}. Failures: 0." in told.stderr
    assert "Traceback" not in told.stderr
    assert len(committed_backups(tmp_path / "store")) == 2


PRODUCTS = (
    ("list",),
    ("list", "--json"),
    ("show",),
    ("show", "--json"),
    ("show", "--toc"),
    ("prune", "--keep-last", "1"),
    ("hold", "list"),
    ("config", "schema"),
    ("schedule", "cron"),
    ("--help",),
    ("--version",),
)


def test_output_that_is_all_that_was_wanted(stored_sample: StoredSample) -> None:
    """A full disk and a closed stream are failures of the machine. A reader that has gone ends the command quietly, as in a shell."""
    for product, broken in zip(PRODUCTS, itertools.cycle(BROKEN), strict=False):
        reads = product[0] in ("list", "show", "prune", "hold")
        result = run(*product, *(["--from", stored_sample.folder] if reads else []), stdout=broken)
        lines = [line for line in result.stderr_lines if "dry run" not in line and not line.endswith("…")]
        assert result.exit_code == (141 if broken == "unread" else 9), (product, broken, result)
        assert len(lines) == (0 if broken == "unread" else 1), (product, broken, result)
        assert all(line.startswith("pgstow: Standard output could not be written: ") for line in lines), result


@pytest.mark.parametrize("format_", ["plain", "directory"])
def test_an_export_that_nothing_takes(format_: str, stored_sample: StoredSample) -> None:
    """pg_restore writes a script, and pgstow itself writes an archive."""
    for broken in BROKEN:
        result = run("export", "--from", stored_sample.folder, "-q", "-F", format_, stdout=broken)
        assert result.exit_code == (141 if broken == "unread" else 9), (broken, result)
        assert len(result.stderr_lines) == (0 if broken == "unread" else 1), (broken, result)


def test_a_failure_has_its_exit_code_without_words(tmp_path: Path) -> None:
    failures: list[tuple[tuple[object, ...], int]] = [
        (("show", "--from", tmp_path), 8),
        (("--debug", "show", "--from", tmp_path), 8),
        (("frobnicate",), 2),
        (("list", "--from", tmp_path, "--frobnicate"), 2),
        ((), 2),
        (("backup", "host=/nowhere dbname=x", "--to", tmp_path), 3),
        (("run", "--config", tmp_path / "none.toml", "--log-format", "json"), 2),
    ]
    for (arguments, exit_code), broken in zip(failures, itertools.cycle(BROKEN), strict=False):
        result = run(*arguments, stderr=broken)
        assert result.exit_code == exit_code, (arguments, result)
        assert result.stdout == "" or arguments == (), result


def test_ctrl_d_is_no_answer() -> None:
    """Ctrl-D ends standard input on a terminal. pgstow then removes nothing, and this is no failure."""
    ours, its = pty.openpty()
    script = "from cli.retention_options import is_confirmed as asked; print(asked('Remove it?', yes=False, dry_run=False, json=False))"
    os.write(ours, b"\x04")
    done = subprocess.run([sys.executable, "-c", script], stdin=its, stdout=subprocess.PIPE, stderr=its, check=False)
    shown = os.read(ours, 1000).decode()
    os.close(ours)
    os.close(its)
    assert (done.returncode, done.stdout.strip()) == (0, b"False"), shown
    assert shown.endswith("\nNothing was removed.\r\n")


def test_what_standard_output_cannot_encode(stored_sample: StoredSample, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    assert run("show", "--all", "--from", stored_sample.folder).exit_code == 0
    shown = json.loads(run("show", "--json", "--from", stored_sample.folder).stdout)
    assert "größe ∑ 名前 🐘" in {file["relation"] for file in shown["files"]}


def test_what_standard_error_cannot_encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the JSON log is valid JSON in any encoding."""
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    (tmp_path / "store").mkdir()
    config = tmp_path / "pgstow.toml"
    config.write_text(
        f'[destinations.here]\nurl = "{tmp_path / "store"}"\n[databases."größe 🐘"]\nconninfo = "host=/nowhere dbname=x"\n'
    )
    result = run("run", "--config", config, "--log-format", "json")
    assert result.exit_code == 3, result
    assert {json.loads(line).get("database") for line in result.stderr_lines} == {"größe 🐘"}


def test_a_locale_that_is_not_utf8(
    make_database: DatabaseMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are UTF-8 in any locale, also as arguments of pg_dump and pg_restore. The output escapes what the locale lacks."""
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    database = make_database("größe 🐘")
    database.execute('CREATE TABLE "名前" AS SELECT 1 AS n')
    store = ("--from", tmp_path)
    made = run("backup", database.conninfo, "--to", tmp_path, "-t", "名前")
    assert made.exit_code == 0, made
    assert "Dumping gr\\xf6\\xdfe \\U0001f418 with" in made.stderr
    assert "Committing ..." in made.stderr
    for command in (("--help",), ("check", database.conninfo, "--to", tmp_path), ("list", *store)):
        result = run(*command)
        assert result.exit_code == 0, result
        assert (result.stdout + result.stderr).isascii()
    exported = run("export", *store, "--partial", "--database", "größe 🐘", "-t", "名前")
    assert exported.exit_code == 0, exported
    assert 'CREATE TABLE public."名前"' in exported.stdout
