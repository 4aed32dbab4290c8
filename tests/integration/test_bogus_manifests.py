"""Manifests that a writer of the bucket made up: named, kept, and believed by no command."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.manifests import canonical
from support.pgstow import run_pgstow
from support.stored_sample import StoredSample

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
    assert "future" in listed.stdout
    for level in ("objects", "bytes", "archive"):
        assert run_pgstow("verify", bogus, "--from", folder, "--level", level).exit_code == 7
    pruned = run_pgstow("prune", "--from", folder, "--keep-last", 1, "--yes", "--json")
    assert pruned.exit_code == 7
    plan = {one["backup_id"]: one for one in json.loads(pruned.stdout)["plan"]}
    assert plan[real]["keep"]
    assert plan[bogus]["keep"]
    assert "future" in plan[bogus]["reasons"][0]
    assert run_pgstow("verify", "--from", folder).exit_code == 0
