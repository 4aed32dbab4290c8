"""Manifests that a writer of the bucket made up. Commands name and keep these manifests, but don't believe them."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.manifests import canonical
from support.pgstow import assert_one_sentence, run_pgstow
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.backup.database import back_up
from pipeline.backup.request import BackupRequest
from pipeline.config import Limits
from pipeline.postgres.conninfo import Conninfo
from storage_backends import Body, ObjectInfo, StorageError
from storage_backends.local import LocalBackend

NOT_FOUND = 8
Forgery = Callable[[dict[str, Any]], object]


def forge(stored: StoredSample, backup_id: str, change: Forgery, **fields: Any) -> Path:
    """Put a copy of the sample's manifest under another ID, changed, with a checksum that fits."""
    [original] = (stored.folder / "manifests").rglob("*.json")
    content = json.loads(original.read_bytes()) | {"backup_id": backup_id} | fields
    change(content)
    path = original.with_name(f"{backup_id}.json")
    path.write_bytes(canonical(content))
    return path


def empty(content: dict[str, Any]) -> None:
    totals = dict.fromkeys(content["totals"], 0)
    content |= {"files": [], "objects": [], "totals": totals}


def at(moment: str) -> dict[str, str]:
    return dict.fromkeys(("started_at", "snapshot_at", "finished_at"), f"{moment}.000000Z")


def test_a_backup_of_the_future_that_holds_nothing_costs_no_good_one(stored_sample: StoredSample) -> None:
    real = stored_sample.manifest.backup_id
    bogus = "20990101T000000Z-aaaaaa"
    forge(stored_sample, bogus, empty, **at("2099-01-01T00:00:00"))
    folder = stored_sample.folder

    assert json.loads(run_pgstow("show", "--from", folder, "--json").stdout)["backup_id"] == real
    listed = run_pgstow("list", "--from", folder)
    assert listed.exit_code == 7
    assert re.search(f"{bogus} .* NOT BELIEVED$", listed.stdout, re.MULTILINE)
    assert re.search(f"^The manifest .*{bogus}.json is not believed: .*future", listed.stdout, re.MULTILINE)
    for level in ("objects", "bytes", "archive"):
        assert run_pgstow("verify", bogus, "--from", folder, "--level", level).exit_code == 7
    pruned = run_pgstow("prune", "--from", folder, "--keep-last", 1, "--yes", "--json")
    assert pruned.exit_code == 7
    plan = {one["backup_id"]: one for one in json.loads(pruned.stdout)["plan"]}
    assert plan[real]["keep"]
    assert plan[bogus]["keep"]
    assert "future" in plan[bogus]["reasons"][0]
    assert run_pgstow("verify", "--from", folder).exit_code == 0


def test_one_that_a_wrong_clock_made_can_be_restored_by_its_id(stored_sample: StoredSample, tmp_path: Path) -> None:
    wrong = "20990101T000000Z-aaaaaa"
    forge(stored_sample, wrong, lambda _: None, **at("2099-01-01T00:00:00"))
    folder = stored_sample.folder
    for command in (("restore", wrong, "--to-directory", tmp_path / "out", "--quiet"), ("show", wrong)):
        result = run_pgstow(*command, "--from", folder)
        assert result.exit_code == 0
        assert "is not believed: its time 2099-01-01 00:00:00Z is in the future" in result.stderr
    assert (tmp_path / "out" / "toc.dat").exists()
    verified = run_pgstow("verify", wrong, "--from", folder)
    assert verified.exit_code == 7
    assert "NOT BELIEVED" in verified.stdout


def test_a_copied_folder_with_older_times_says_what_changed_them(stored_sample: StoredSample) -> None:
    [manifest] = (stored_sample.folder / "manifests").rglob("*.json")
    os.utime(manifest, (0, 0))
    assert_one_sentence(
        run_pgstow("show", "--from", stored_sample.folder),
        NOT_FOUND,
        "stored at 1970-01-01 00:00:00Z by the store's clock, unless copying the store changed the time when it was stored",
    )
    os.utime(manifest)
    assert run_pgstow("show", "--from", stored_sample.folder).exit_code == 0


def test_odd_names_in_a_folder_stop_no_command(stored_sample: StoredSample) -> None:
    folder, real = stored_sample.folder, stored_sample.manifest.backup_id
    names = [b"%41", b"a\\b", b"n\xe9", b"x\x1b[2J"]
    for top, more in ((b"manifests", b"20261123T020000Z-aaaaaa.json"), (b"data", b"20261399T000000Z-aaaaaa/z")):
        for name in names:
            path = Path(os.fsdecode(b"/".join([os.fsencode(folder), top, b"prod", name, more])))
            path.parent.mkdir(parents=True)
            path.write_bytes(b"{}")
    listed = run_pgstow("list", "--from", folder, "--json")
    assert listed.exit_code == 7
    entries = json.loads(listed.stdout)
    assert [entry["backup_id"] for entry in entries if "backup_id" in entry] == [real]
    assert len([entry for entry in entries if "key" in entry]) == len(names)
    assert "\x1b" not in run_pgstow("list", "--from", folder).stdout
    commands = (
        ("show",),
        ("verify",),
        ("prune", "--keep-last", 1, "--yes", "-q"),
        ("gc", "--yes", "-q"),
        ("hold", "list"),
    )
    for command in commands:
        result = run_pgstow(*command, "--from", folder)
        assert result.exit_code == 0, result
        assert "\x1b" not in result.stderr


class BehindTheTimes(LocalBackend):
    """A store whose clock is an hour behind this machine's clock. Either clock may be the wrong one."""

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        info = super().put(key, body, sha256=sha256)
        return replace(info, modified=info.modified - timedelta(hours=1))


def test_what_nobody_would_believe_is_not_committed(database: Database, tmp_path: Path) -> None:
    store = BehindTheTimes(tmp_path / "store")
    limits = Limits(jobs=1, spool_parent=tmp_path)
    with pytest.raises(StorageError, match=r"isn't committed, .*: its time .* is in the future.*Correct the clock"):
        back_up(BackupRequest(Conninfo.parse(database.conninfo), limits=limits), [store], lambda _: None)
    assert not list(store.list("manifests/"))
