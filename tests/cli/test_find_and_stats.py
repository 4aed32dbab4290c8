"""``pgstow find`` and ``pgstow stats``, as a person runs them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.in_process import call_pgstow
from support.pgstow import Result, assert_one_sentence
from support.shelf import NOW, BackupBuilder
from support.signing import KeyFiles, make_key, sign_manifest

from cli.errors import ExitCode
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import TableData
from storage_backends.local import LocalBackend

NAME = "pens\x1b[31m"
"""A table's name that would turn a terminal red."""
SINCE = (datetime.now(UTC) - NOW).days
"""The days since the newest backup, whatever the time is."""


class Shelf(BackupBuilder):
    """A folder with a backup of each of eight days. Each backup has a table that is one row longer than the day before."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        super().__init__(LocalBackend(folder))
        self.folder = folder
        self.refs = [self.add(age * timedelta(days=1), tables=[_table(10 - age)]) for age in range(8, 0, -1)]

    def run(self, command: str, *arguments: object) -> Result:
        return call_pgstow(command, *arguments, "--from", self.folder, "--no-cache")

    def stats(self, *arguments: object) -> Result:
        return self.run("stats", "--days", SINCE + 30, *arguments)


def _table(rows: int) -> TableData:
    names: dict[str, Any] = {"schema": "public", "relation": NAME}
    return TableData(checksum="a" * 64, columns="", rows=rows, size=10 * rows, **names)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "store")


def sign_all_but(shelf: Shelf, left_out: BackupRef, folder: Path) -> KeyFiles:
    key = make_key(folder)
    for ref in shelf.refs:
        if ref != left_out:
            sign_manifest(shelf.store, ref, key.signer)
    return key


def test_find(shelf: Shelf) -> None:
    found = shelf.run("find", "p*s*")
    lines = found.stdout.splitlines()
    assert (found.exit_code, len(lines)) == (ExitCode.OK, 1 + len(shelf.refs))
    assert shelf.refs[-1].backup_id in lines[1]
    assert "\x1b" not in found.stdout
    document = json.loads(shelf.run("find", "p*s*", "--json").stdout)
    assert [one["rows"] for one in document["tables"]] == list(range(9, 1, -1))
    assert {one["relation"] for one in document["tables"]} == {NAME}


def test_find_nothing(shelf: Shelf) -> None:
    assert "has a table that fits ink" in assert_one_sentence(shelf.run("find", "ink", "--json"), ExitCode.NOT_FOUND)


def test_find_in_backups_that_no_trusted_key_signed(shelf: Shelf, tmp_path: Path) -> None:
    key = sign_all_but(shelf, shelf.refs[3], tmp_path)
    found = shelf.run("find", "p*s*", "--trusted-key", key.public)
    assert found.exit_code == ExitCode.DAMAGED
    [line] = [line for line in found.stdout.splitlines() if "NOT BELIEVED" in line]
    assert shelf.refs[3].backup_id in line
    assert "it is not signed" in found.stdout


def test_stats(shelf: Shelf) -> None:
    shown = shelf.stats()
    assert shown.exit_code == ExitCode.OK
    assert "IN 30 DAYS" in shown.stdout
    assert "\x1b" not in shown.stdout
    [database] = json.loads(shelf.stats("--json").stdout)["databases"]
    assert len(database["nights"]) == 8
    assert database["forecast"]["nights"] == 8
    growth = database["growth"][0]
    assert (growth["relation"], growth["first_rows"], growth["last_rows"]) == (NAME, 2, 9)


def test_stats_of_fewer_days(shelf: Shelf) -> None:
    fewer = ("stats", "--days", SINCE + 4)
    assert "There is no forecast" in shelf.run(*fewer).stdout
    [database] = json.loads(shelf.run(*fewer, "--json").stdout)["databases"]
    assert 2 <= len(database["nights"]) < 7
    assert database["forecast"] is None


def test_stats_of_nothing(shelf: Shelf) -> None:
    assert_one_sentence(shelf.stats("--database", "none", "--json"), ExitCode.NOT_FOUND)
