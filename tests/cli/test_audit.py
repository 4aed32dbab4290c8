"""Tests of ``pgstow audit``: the text, the files, and the exit code."""

import csv
import json
import pwd
import re
import sys
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.in_process import call_pgstow
from support.shelf import NOW, BackupBuilder
from support.signing import make_key, sign_manifest

from cli.audit_files import json_lines
from pipeline.audit.report import report_schema
from storage_backends.local import LocalBackend

DAYS = ("--days", (datetime.now(UTC) - NOW).days + 7, "--no-cache")
"""The options for an audit of the backups in these tests, whatever the time is."""
FORMULA = "=cmd|'/c calc'!A0"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store with a good backup, and with one that lost an object. The name of its database is a formula with escape codes."""
    made = tmp_path / "store"
    made.mkdir()
    shelf = BackupBuilder(LocalBackend(made))
    shelf.add(timedelta(hours=2))
    lost = shelf.add(timedelta(hours=1), f"{FORMULA}\x1b[31m\u202e", cluster="@prod")
    shelf.store.delete([f"{lost.data_prefix}0.dat.00000.zst"])
    return made


def test_findings_come_first_and_no_name_controls_the_terminal(folder: Path) -> None:
    done = call_pgstow("audit", "--from", folder, *DAYS)
    assert done.exit_code == 13
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[1:5]] == [
        "critical object-missing",
        "critical no-backup",
        "note no-trusted-keys",
        "note no-rpo",
    ]
    assert lines[-1] == "2 critical findings, 2 notes."
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout


def test_the_heads_of_several_stores_are_told_apart(tmp_path: Path) -> None:
    key, stores = make_key(tmp_path), [tmp_path / name for name in ("first", "second")]
    heads = {}
    for number, store in enumerate(stores):
        store.mkdir()
        shelf = BackupBuilder(LocalBackend(store))
        heads[store.name] = sign_manifest(shelf.store, shelf.add(timedelta(hours=1 + number)), key.signer).sha256
    options = ("--trusted-key", key.public, *DAYS)
    both = call_pgstow("audit", "--from", stores[0], "--from", stores[1], *options).stdout
    for name, sha256 in heads.items():
        assert re.search(rf"{name} +prod +shop +db1 +{sha256}", both)
    assert "STORE" not in call_pgstow("audit", "--from", stores[0], *options).stdout


@pytest.mark.parametrize("head", ["", "abc", "0" * 63, "g" * 64])
def test_a_head_that_is_no_sha256_is_refused(folder: Path, head: str) -> None:
    """An empty variable in a script must not look like a removed backup."""
    done = call_pgstow("audit", "--from", folder, *DAYS, "--expect-head", head)
    assert done.exit_code == 2
    assert "64 hexadecimal digits" in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(("fail_on", "code"), [("critical", 13), ("note", 13), ("never", 0)])
def test_the_exit_code_is_the_user_s_choice(folder: Path, fail_on: str, code: int) -> None:
    assert call_pgstow("audit", "--from", folder, *DAYS, "--fail-on", fail_on).exit_code == code


def test_accepted_findings_do_not_fail(folder: Path, tmp_path: Path) -> None:
    policy = tmp_path / "audit.toml"
    entries = [f'[[ignore]]\nfinding = "{name}"\nreason = "known"\n' for name in ("object-missing", "no-backup")]
    policy.write_text("".join(entries))
    done = call_pgstow("audit", "--from", folder, *DAYS, "--policy", policy)
    assert done.exit_code == 0, done
    assert done.stdout.count("The policy accepts this finding: known") == 2
    assert "by audit.toml." in done.stdout


def test_the_json_follows_its_schema(folder: Path) -> None:
    done = call_pgstow("audit", "--from", folder, *DAYS, "--json", "-")
    document = json.loads(done.stdout)
    schema = report_schema()
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(document)
    assert set(document) == set(schema["properties"])
    assert [one["severity"] for one in document["findings"]] == ["critical"] * 2 + ["note"] * 2
    assert [one["database"] for one in document["databases"]] == [f"{FORMULA}\x1b[31m\u202e", "shop"]
    assert "\x1b" not in done.stdout
    assert "\\u001b" in done.stdout
    assert "\u202e" not in done.stdout


def test_the_tables_run_no_formula(folder: Path, tmp_path: Path) -> None:
    backups, findings = tmp_path / "backups.csv", tmp_path / "findings.csv"
    done = call_pgstow("audit", "--from", folder, *DAYS, "--csv", backups, "--csv-findings", findings)
    assert done.stdout, "the text is printed, too"
    rows: list[dict[str, Any]] = list(csv.DictReader(backups.read_text("utf-8").splitlines()))
    assert [(row["cluster"], row["database"]) for row in rows] == [("'@prod", f"'{FORMULA}␛[31m�"), ("prod", "shop")]
    assert [row["doubt"] == "" for row in rows] == [False, True]
    assert rows[1]["size"] == "0"
    rows = list(csv.DictReader(findings.read_text("utf-8").splitlines()))
    assert [row["name"] for row in rows] == ["object-missing", "no-backup", "no-trusted-keys", "no-rpo"]
    assert not any(cell.startswith(tuple("=+-@")) for row in rows for cell in row.values())


def test_no_formula_follows_a_semicolon(folder: Path) -> None:
    BackupBuilder(LocalBackend(folder)).add(timedelta(hours=3), f"a;{FORMULA};-1; b")
    done = call_pgstow("audit", "--from", folder, *DAYS, "--csv", "-")
    assert f"prod,a;'{FORMULA};'-1; b," in done.stdout


@pytest.mark.parametrize("option", ["--json", "--csv", "--csv-findings", "--html"])
def test_a_full_disk_is_told_with_the_file(folder: Path, option: str) -> None:
    done = call_pgstow("audit", "--from", folder, *DAYS, option, "/dev/full")
    assert done.exit_code == 9
    assert "Cannot write to /dev/full: No space left on device." in done.stderr


def test_a_user_without_a_home_has_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "CACHE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # it raises KeyError, too
    done = call_pgstow("audit", "--from", folder, *DAYS[:2])
    assert done.exit_code == 13, done
    assert "has no home directory" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--json", "-", "--csv", "-"), "Two outputs go to the same place"),
        (("--json", "/nowhere/report.json"), "give a file in a folder that exists"),
        (("--policy", "/nowhere/audit.toml"), "Cannot read /nowhere/audit.toml"),
        (("--from", "{folder}"), "leave out one --from"),
    ],
)
def test_bad_requests_are_refused(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    done = call_pgstow("audit", "--from", folder, *(each.format(folder=folder) for each in arguments))
    assert done.exit_code == 2
    assert words in done.stderr


def test_no_store_is_named() -> None:
    done = call_pgstow("audit", env={"PGSTOW_STORE": ""})
    assert (done.exit_code, "give --from URL" in done.stderr) == (2, True)


def test_the_page_has_the_findings_and_no_name_controls_it(folder: Path, tmp_path: Path) -> None:
    done = call_pgstow("audit", "--from", folder, *DAYS, "--html", tmp_path / "report.html")
    assert done.exit_code == 13
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<h1>2 critical findings</h1>" in page
    assert "object-missing" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert unescape(page).count(FORMULA) > 5
    assert call_pgstow("audit", "--from", folder, *DAYS, "--html", "-").stdout.startswith("<!doctype html>")


def test_a_page_needs_its_libraries_before_the_audit_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    done = call_pgstow("audit", "--from", folder, *DAYS, "--html", "-")
    assert (done.exit_code, done.stdout) == (9, "")
    assert "pip install 'pgstow[report]'" in done.stderr


def test_a_large_report_is_written_in_parts(folder: Path) -> None:
    from pipeline.audit.audit import AuditRequest, audit

    store = LocalBackend(folder)
    report = audit(AuditRequest(NOW.date()), [store], lambda _: None, datetime.now(UTC))
    longest = max(len(part) for part in json_lines(report, "utf-8"))
    assert longest < len("".join(json_lines(report, "utf-8"))) / 2
