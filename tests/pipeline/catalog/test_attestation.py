"""Attestations are created once, and read only as they were written. One LIST finds the newest attestation of each backup."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.manifests import canonical

from pipeline.catalog.attestation import (
    Attestation,
    RestoreProof,
    attestation_schema,
    dump_attestation,
    latest_attestations,
    load_attestation,
    shortened,
    store_attestation,
)
from pipeline.catalog.keys import BackupRef
from pipeline.errors import ManifestInvalid
from pipeline.stages.upload import upload
from storage_backends import ObjectAlreadyExists
from storage_backends.memory import MemoryBackend

DOCS = Path(__file__).parents[3] / "docs"
MOMENT = datetime(2026, 11, 25, 2, 45, 1, 123456, UTC)
REF = BackupRef("prod", "größe/x", "20261123T020000Z-7f3a9c")


def made(ref: BackupRef = REF, **fields: Any) -> Attestation:
    content = {
        "cluster": ref.cluster,
        "database": ref.database,
        "backup_id": ref.backup_id,
        "manifest_sha256": "0" * 64,
        "level": "restore",
        "good": True,
        "problems": [],
        "objects": 5,
        "objects_without_checksum": 0,
        "files": 7,
        "restore": RestoreProof(
            server_version="15.18", pg_restore_version="15.18", tables=3, rows=10, compared=None, assertions=["x"]
        ),
        "started_at": MOMENT - timedelta(minutes=1),
        "finished_at": MOMENT,
    }
    return Attestation(**{**content, **fields})


class CountingStore(MemoryBackend):
    gets = 0

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        self.gets += 1
        return super().get(key, offset=offset, length=length, at_most=at_most)


def test_an_attestation_is_created_once_and_read_back() -> None:
    store = MemoryBackend()
    key = store_attestation(store, made())
    assert key == "attestations/prod/gr%C3%B6%C3%9Fe%2Fx/20261123T020000Z-7f3a9c/20261125T024501.123456Z.json"
    assert dump_attestation(load_attestation(store.get(key), key)) == dump_attestation(made())
    with pytest.raises(ObjectAlreadyExists):
        store_attestation(store, made(good=False, problems=["No."]))
    assert load_attestation(store.get(key), key).good


def test_an_attestation_is_refused_if_a_byte_differs() -> None:
    data, key = dump_attestation(made()), REF.attestation_key(MOMENT)
    for at in range(0, len(data), 7):
        for altered in (data[:at], data[:at] + b" " + data[at:], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]):
            with pytest.raises(ManifestInvalid, match=r"^The attestation attestations/.*\.json "):
                load_attestation(altered, key)


def test_fields_of_a_later_minor_version_are_kept() -> None:
    content = json.loads(dump_attestation(made()))
    del content["attestation_checksum"]
    content |= {"attestation_version": "1.3", "mood": ["good"]}
    content["restore"]["weather"] = "fine"
    data = _sealed(content)
    assert dump_attestation(load_attestation(data, REF.attestation_key(MOMENT))) == data


def test_an_attestation_of_version_1_0_keeps_its_meaning() -> None:
    content = json.loads(dump_attestation(made()))
    for later in ("attestation_checksum", "unreadable"):
        del content[later]
    old = load_attestation(_sealed({**content, "attestation_version": "1.0"}), REF.attestation_key(MOMENT))
    assert old.good
    assert not old.unproven


def _sealed(content: dict[str, Any]) -> bytes:
    checksum = hashlib.sha256(canonical(content, checksum=False)).hexdigest()
    return canonical({**content, "attestation_checksum": checksum}, checksum=False)


def test_only_the_newest_attestation_of_each_backup_is_read() -> None:
    store = CountingStore()
    refs = [REF, BackupRef("prod", "größe/x", "20261124T020000Z-aaaaaa"), BackupRef("prod", "other", REF.backup_id)]
    for ref in refs[:2]:
        for hours in (0, 2, 1):
            store_attestation(store, made(ref, finished_at=MOMENT + timedelta(hours=hours), files=hours))
    digests = dict.fromkeys((refs[0], refs[2]), "0" * 64)
    told: list[object] = []
    found = latest_attestations(store, digests, None, None, told.append)
    assert found is not None
    assert {ref: attestation.files for ref, attestation in found.items()} == {REF: 2}
    assert store.gets == 1
    assert told == []


@pytest.mark.parametrize(
    ("history", "counts"),
    [
        (["bytes bad", "objects good"], 0),
        (["bytes unread", "objects good"], 0),
        (["bytes bad", "objects good", "objects good"], 0),
        (["restore bad", "objects good", "bytes good"], 0),
        (["bytes bad", "bytes good"], 1),
        (["bytes bad", "restore good", "objects good"], 2),
        (["objects bad", "bytes good"], 1),
        (["bytes good", "objects bad"], 1),
        (["restore good", "objects good"], 1),
    ],
)
def test_a_verification_of_a_lower_level_refutes_no_bad_attestation(history: list[str], counts: int) -> None:
    store = MemoryBackend()
    for hours, (level, result) in enumerate(map(str.split, history)):
        found = {
            "good": result == "good",
            "problems": ["Damaged."] if result == "bad" else [],
            "unreadable": ["Not given."] if result == "unread" else [],
        }
        store_attestation(store, made(level=level, finished_at=MOMENT + timedelta(hours=hours), files=hours, **found))
    attested = latest_attestations(store, {REF: "0" * 64}, None, None, lambda _: None)
    assert attested is not None
    assert attested[REF].files == counts


@pytest.mark.parametrize("newer", ["garbage", "another manifest", "of the future", "under another time"])
def test_an_ignored_attestation_hides_no_older_one(newer: str) -> None:
    store, later = MemoryBackend(), MOMENT + timedelta(hours=1)
    store_attestation(store, made(good=False, problems=["Damaged."]))
    match newer:
        case "garbage":
            key, body = REF.attestation_key(later), b"{"
        case "another manifest":
            key, body = REF.attestation_key(later), dump_attestation(made(finished_at=later, manifest_sha256="1" * 64))
        case "of the future":
            later = MOMENT.replace(year=2099)
            key, body = REF.attestation_key(later), dump_attestation(made(finished_at=later))
        case _:
            key, body = REF.attestation_key(later), dump_attestation(made(finished_at=later + timedelta(seconds=1)))
    upload(store, key, body)
    told: list[object] = []
    found = latest_attestations(store, {REF: "0" * 64}, None, None, told.append)
    assert found is not None
    assert found[REF].problems == ["Damaged."]
    assert len(told) == 1


def test_problems_beyond_a_thousand_are_counted() -> None:
    told = [f"{number}" for number in range(1003)]
    assert shortened(told[:1000]) == told[:1000]
    assert shortened(told) == [*told[:1000], "There are 3 more problems."]


def test_the_published_schema_and_reference_are_up_to_date() -> None:
    assert json.loads((DOCS / "attestation.schema.json").read_text()) == attestation_schema(), "make reference"
    reference = (DOCS / "attestations.md").read_text()
    for field in (*Attestation.model_fields, *RestoreProof.model_fields, "attestation_checksum"):
        assert f"`{field}`" in reference, field
