"""The summary of a manifest says what the manifest says, and nothing passes for a manifest that isn't one."""

import copy
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.calls import calls
from support.manifests import canonical
from support.stored_sample import StoredSample

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import load_manifest
from pipeline.catalog.plausibility import Contents
from pipeline.catalog.summary import load_summary
from pipeline.errors import ManifestInvalid


@pytest.fixture
def stored(stored_sample: StoredSample) -> tuple[str, bytes]:
    """A real manifest: its key and its bytes."""
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    return path.relative_to(stored_sample.folder).as_posix(), path.read_bytes()


def signed(content: dict[str, Any], change: Callable[[bytes], bytes] = lambda text: text) -> bytes:
    """Return the manifest with a change of its bytes and a checksum that covers the changed bytes, as an attacker can make it."""
    unsigned = {name: value for name, value in content.items() if name != "manifest_checksum"}
    before, after = change(canonical(unsigned, checksum=False)).split(b'"manifest_version":')
    return before + checksum_field(before, after) + b'"manifest_version":' + after


def checksum_field(before: bytes, after: bytes) -> bytes:
    digest = hashlib.sha256(before + b'"manifest_version":' + after).hexdigest()
    return f'"manifest_checksum":"{digest}",'.encode()


def refusals(data: bytes, key: str) -> list[str]:
    """Return the errors of both readers."""
    found = []
    for load in (load_summary, load_manifest):
        with pytest.raises(ManifestInvalid) as caught:
            load(data, key)
        found.append(str(caught.value))
    return found


def test_the_summary_of_a_real_manifest(stored: tuple[str, bytes]) -> None:
    key, data = stored
    summary, manifest = load_summary(data, key), load_manifest(data, key)
    assert summary.manifest == manifest.summary
    assert summary.sha256 == hashlib.sha256(data).hexdigest()
    assert summary.owners == {BackupRef(manifest.cluster, manifest.database, manifest.backup_id)}
    assert summary.contents == Contents.of(manifest.files, tables=False)


def test_unknown_fields_are_kept(stored: tuple[str, bytes]) -> None:
    content = json.loads(stored[1]) | {"manifest_version": "1.7", "mood": {"good": [1, None, "ä"]}}
    content["files"][0]["later"] = content["objects"][0]["later"] = ["field"]
    summary = load_summary(canonical(content), stored[0])
    assert summary.manifest.model_dump(mode="json")["mood"] == {"good": [1, None, "ä"]}
    assert load_manifest(canonical(content), stored[0]).summary == summary.manifest


@pytest.mark.parametrize(
    "harmless",
    [
        {"mood": '"manifest_checksum":"0"'},
        {"mood": {"manifest_checksum": "0" * 64, "files": []}},
        {"mood": "\u2028 \U0001f600 \\ \" \x1f"},
        {"a": 1, "zz": [{}, [], "{["]},
    ],
)  # fmt: skip
def test_text_that_looks_like_a_field_is_only_text(stored: tuple[str, bytes], harmless: dict[str, Any]) -> None:
    data = canonical(json.loads(stored[1]) | harmless)
    assert load_summary(data, stored[0]).manifest == load_manifest(data, stored[0]).summary


FAULTS: dict[str, Callable[[bytes], bytes]] = {
    "white space between fields": lambda text: text.replace(b',"objects":', b', "objects":'),
    "white space before a list": lambda text: text.replace(b',"objects":', b',"objects": '),
    "white space after a list": lambda text: text.replace(b',"previous":', b' ,"previous":'),
    "white space in a field": lambda text: text.replace(b'"totals":{', b'"totals":{ '),
    "white space at the start": lambda text: b" " + text,
    "white space at the end": lambda text: text + b"\n",
    "no newline at the end": lambda text: text.removesuffix(b"\n"),
    "a field twice": lambda text: text.replace(b',"tags":', b',"tags":[],"tags":'),
    "a list twice": lambda text: text.replace(b',"tables":', b',"tables":[],"tables":'),
    "a field twice below": lambda text: text.replace(b'"totals":{', b'"totals":{"files":1,'),
    "unsorted fields": lambda text: b'{"zone":1,' + text.removeprefix(b"{"),
    "unsorted fields below": lambda text: text.replace(b'"totals":{', b'"totals":{"zone":1,'),
    "an escaped name": lambda text: text.replace(b'"tags":', b'"t\\u0061gs":'),
    "an escaped name of the same length": lambda text: text.replace(b"}\n", b',"z\\u001F":1}\n'),
    "an escaped value": lambda text: text.replace(b'"kind":"database"', b'"kind":"d\\u0061tabase"'),
    "text after the end": lambda text: text + b"{}",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bytes_that_are_not_canonical_are_refused(stored: tuple[str, bytes], fault: str) -> None:
    data = signed(json.loads(stored[1]), FAULTS[fault])
    assert data != stored[1]
    first, second = refusals(data, stored[0])
    assert first == second
    assert "altered or damaged" in first or "not whole JSON" in first


def test_a_second_checksum_is_refused(stored: tuple[str, bytes]) -> None:
    before, after = stored[1].split(b'"manifest_version":')
    again = before + checksum_field(before, after) + b'"manifest_version":' + after
    first, second = refusals(again, stored[0])
    assert first == second
    assert "altered or damaged" in first


@pytest.mark.parametrize("name", ["manifest_checksun", "manifest_checksum\x00", "a"])
def test_a_manifest_without_a_checksum_is_refused(stored: tuple[str, bytes], name: str) -> None:
    content = json.loads(stored[1])
    content[name] = content.pop("manifest_checksum")
    first, second = refusals(canonical(content, checksum=False), stored[0])
    assert first == second
    assert "altered or damaged" in first


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"1e999",
        b"9" * 5000,
        b'"\xff"',
        b'"\\ud800"',
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"tru",
    ],
    ids=lambda value: repr(value[:20]),
)
def test_a_value_that_no_manifest_can_have_is_refused(stored: tuple[str, bytes], value: bytes) -> None:
    data = signed(json.loads(stored[1]), lambda text: text.replace(b"{", b'{"a":' + value + b",", 1))
    first, second = refusals(data, stored[0])
    assert first == second
    assert "not whole JSON" in first


def test_a_manifest_with_too_many_fields_is_refused(stored: tuple[str, bytes]) -> None:
    """Each field takes a hundred times as much memory as its bytes."""
    content = json.loads(stored[1]) | {f"field {number}": number for number in range(1000)}
    first, second = refusals(signed(content), stored[0])
    assert first == second
    assert "too many fields" in first


def test_no_byte_can_change_unnoticed(stored: tuple[str, bytes]) -> None:
    key, data = stored
    for at in [*range(0, len(data), 97), len(data) - 1]:
        for change in (data[at] ^ 1, data[at] ^ 0x20):
            refusals(data[:at] + bytes([change]) + data[at + 1 :], key)
        refusals(data[:at], key)
        refusals(data[:at] + b" " + data[at:], key)


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": {}},
        {"objects": "x"},
        {"tables": 1},
        {"files": [1]},
        {"files": [{}]},
        {"objects": [{"key": 1}]},
        {"objects": [{"key": "data/other/x/20261123T020000Z-7f3a9c/y"}]},
        {"totals": {}},
        {"cluster": "moved"},
        {"started_at": "2026-11-23T04:00:00"},
        {"manifest_version": "3.0"},
        {"manifest_version": None},
    ],
    ids=str,
)
def test_both_readers_refuse_values_that_a_list_needs(stored: tuple[str, bytes], change: dict[str, Any]) -> None:
    first, second = refusals(canonical(json.loads(stored[1]) | change), stored[0])
    if not set(change) & {"files", "objects", "tables"}:
        assert first == second


@pytest.mark.parametrize(
    "key", ["", "/data/x", "data/../../x", "data/{db}/../x", "data/other/{id}/x", "data/prod/{db}/{id}/x\n/"]
)
def test_both_readers_refuse_a_key_with_the_same_words(stored: tuple[str, bytes], key: str) -> None:
    content = json.loads(stored[1])
    content["objects"][0]["key"] = key.format(db=content["database"], id=content["backup_id"])
    first, second = refusals(canonical(content), stored[0])
    assert first == second


@pytest.mark.parametrize("name", ["files", "objects"])
def test_both_readers_refuse_a_manifest_without_a_list(stored: tuple[str, bytes], name: str) -> None:
    content = json.loads(stored[1])
    del content[name]
    first, second = refusals(canonical(content), stored[0])
    assert first == second
    assert f"{name}: Field required" in first


def test_faults_that_only_the_reader_of_the_data_finds(stored: tuple[str, bytes]) -> None:
    """docs/design.md says so. The manifest's checksum is right, so somebody made up these contradictions."""
    content = json.loads(stored[1])
    twice = copy.deepcopy(content)
    twice["files"].append(twice["files"][0])
    spaced = signed(content, lambda text: text.replace(b'"segments":[{', b'"segments":[ {'))
    for data in (
        canonical(twice),
        spaced,
        signed(content, lambda text: text.replace(b'"kind":"toc"', b'"kind":"toc","kind":"toc"')),
    ):
        assert load_summary(data, stored[0])
        with pytest.raises(ManifestInvalid):
            load_manifest(data, stored[0])


def grown(content: dict[str, Any], number: int) -> bytes:
    """Return a manifest with so many tables."""
    [toc] = [file for file in content["files"] if file["path"] == "toc.dat"]
    files = [toc | {"path": f"{each}.dat", "kind": "table"} for each in range(number)]
    return canonical(content | {"files": [toc, *files]})


def test_no_function_is_called_for_each_file(stored: tuple[str, bytes]) -> None:
    content = json.loads(stored[1])
    few, many = (grown(content, number) for number in (10, 1000))
    load_summary(few, stored[0])
    assert calls(lambda: load_summary(many, stored[0])) < calls(lambda: load_summary(few, stored[0])) + 100
    assert calls(lambda: load_manifest(many, stored[0])) > calls(lambda: load_manifest(few, stored[0])) + 1000


def test_the_owners_of_objects_are_named(stored: tuple[str, bytes]) -> None:
    content = json.loads(stored[1])
    earlier = BackupRef(content["cluster"], content["database"], "20200101T000000Z-aaaaaa")
    content["objects"][0]["key"] = f"{earlier.data_prefix}x"
    own = BackupRef(content["cluster"], content["database"], content["backup_id"])
    assert load_summary(canonical(content), stored[0]).owners == {earlier, own}
