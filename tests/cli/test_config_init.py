"""``pgstow config init`` writes a file that works, and only after it tried the database and the stores."""

import os
import pty
import re
import subprocess
import tomllib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from support.in_process import call_pgstow
from support.object_stores import StoreBucket
from support.pgstow import PGSTOW, committed_backups, run_pgstow
from support.postgres_fixtures import Database

NOBODY_LISTENS = "host=127.0.0.1 port=1 dbname=x"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pgstow.toml"


@pytest.fixture(autouse=True)
def _no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGSTOW_STORE", raising=False)


def at_a_terminal(*arguments: object, answers: Sequence[str]) -> tuple[int, str]:
    """Run ``pgstow`` on a terminal where the answers are typed. Return its exit code, and what the terminal showed."""
    ours, its = pty.openpty()
    shown = b""
    with subprocess.Popen([PGSTOW, *map(str, arguments)], stdin=its, stdout=its, stderr=its, close_fds=True) as process:
        os.close(its)
        os.write(ours, "".join(f"{answer}\n" for answer in answers).encode() or b"\x04")  # Ctrl-D
        with suppress(OSError):  # EIO: the other end is closed
            while part := os.read(ours, 65536):
                shown += part
    os.close(ours)
    return process.returncode, shown.decode()


def test_a_file_from_questions_is_good_and_runs(database: Database, path: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    answers = [database.conninfo, "n", f"{tmp_path}/store", "y"]
    code, shown = at_a_terminal("config", "init", "--config", path, answers=answers)
    assert code == 0, shown
    assert "Ready to back up" in shown
    content = tomllib.loads(path.read_text())
    assert content["defaults"] == {"verify": "archive"}
    assert content["retention"] == {"default": {"keep_daily": 14, "keep_monthly": 12}}
    assert content["databases"] == {database.name: {"conninfo": database.conninfo}}
    assert run_pgstow("config", "check", "--config", path).exit_code == 0
    assert run_pgstow("run", "--config", path).exit_code == 0
    assert len(committed_backups(tmp_path / "store")) == 1


def test_no_answer_is_no_bug(path: Path) -> None:
    code, shown = at_a_terminal("config", "init", "--config", path, answers=[])
    assert code == 2
    assert "The question got no answer, so pgstow did nothing." in shown


def test_flags_suffice_and_nothing_is_removed_unasked(
    database: Database, s3_bucket: StoreBucket, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "nas").mkdir()
    stores = ["--to", s3_bucket.url, "--to", f"{tmp_path}/nas"]
    result = run_pgstow("config", "init", database.conninfo, *stores, "--config", path, "--name", "shop", "--quiet")
    assert result.exit_code == 0, result
    content = tomllib.loads(path.read_text())
    assert content["defaults"] == {"verify": "archive"}
    assert content["destinations"] == {"s3": {"url": s3_bucket.url}, "folder": {"url": f"{tmp_path}/nas"}}
    assert "retention" not in content
    assert committed_backups(s3_bucket.url) == []


def test_nothing_is_written_if_something_does_not_work(path: Path, tmp_path: Path) -> None:
    result = run_pgstow("config", "init", NOBODY_LISTENS, "--to", tmp_path / "nas", "--config", path)
    assert result.exit_code == 10
    assert "Not ready to back up" in result.stdout
    assert result.stdout.endswith(f"{path} was not written.\n")
    assert not path.exists()


def test_without_trying(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("config", "init", "host=db1 dbname=shop", "--to", "backups", "--config", path, "--no-connect")
    assert call_pgstow(*command, "--keep-daily", 7, "--password-file", "secret", env={"PGHOST": "x"}).exit_code == 2
    (tmp_path / "secret").write_text("hunter2")
    environment = {"PGHOST": "x", "PGTZ": "UTC"}
    result = call_pgstow(*command, "--keep-daily", 7, "--password-file", "secret", env=environment)
    assert result.exit_code == 0, result
    assert re.search(r"also needs these environment variables: .*PGTZ", result.stdout)
    assert "PGHOST" not in result.stdout  # the connection string has a host
    content = tomllib.loads(path.read_text())
    assert content["databases"]["shop"]["conninfo"] == "host=db1 dbname=shop"
    assert content["destinations"] == {"folder": {"url": f"{tmp_path}/backups"}}
    assert content["databases"]["shop"]["password_file"] == f"{tmp_path}/secret"
    assert content["retention"] == {"default": {"keep_daily": 7}}
    assert "hunter2" not in path.read_text()
    assert call_pgstow("config", "check", "--config", path).exit_code == 0

    before = path.read_bytes()
    again = call_pgstow(*command)
    assert (again.exit_code, again.stderr) == (
        2,
        f"pgstow: {path} already exists: remove it, or name another file with --config.\n",
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("conninfo", "written"),
    [
        ("shop", r"host=/var/run/odd\ place port=5433 dbname=shop"),
        ("postgresql://me@db1/shop", "host=db1 port=5433 user=me dbname=shop"),
        ("service=shop", "service=shop"),  # its file may have another port, which libpq prefers
    ],
)
def test_the_address_in_the_environment_is_written(path: Path, tmp_path: Path, conninfo: str, written: str) -> None:
    environment = {"PGHOST": "/var/run/odd place", "PGPORT": "5433", "PGPASSWORD": "hunter2"}
    command = ("config", "init", conninfo, "--to", tmp_path, "--config", path, "--no-connect")
    result = call_pgstow(*command, env=environment)
    assert result.exit_code == 0, result
    [database] = tomllib.loads(path.read_text())["databases"].values()
    assert conninfo_to_dict(database["conninfo"]) == conninfo_to_dict(written)
    assert "hunter2" not in path.read_text()
    [line] = [line for line in result.stdout.splitlines() if "also needs" in line]
    assert "PGPASSWORD" in line
    assert ("PGPORT" in line) == (conninfo == "service=shop")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "The file needs a database"),
        (["service=shop"], "The backups need a store"),
        (["postgresql://me:hunter2@db1/shop", "--to", "/mnt"], "pgstow: The password must not be in the file"),
        (["service=shop", "--to", "s3:bucket"], "a path can't begin with “s3:”"),
        (["service=shop", "--to", "s3://me:hunter2@bucket"], "redentials"),
        (["service=shop", "--to", "/mnt/\udcff"], "not UTF-8"),
        (["service=shop", "--to", "/mnt", "--to", "/mnt"], "the same url"),
        (["service=shop", "--to", "/mnt", "--name", "a\0b"], "NUL"),
    ],
)
def test_what_cannot_be_right_is_refused(path: Path, arguments: list[str], words: str) -> None:
    result = call_pgstow("config", "init", *arguments, "--config", path, "--no-connect")
    assert result.exit_code == 2, result
    assert words in result.stderr
    assert "hunter2" not in result.stderr
    assert not path.exists()
