import hashlib
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.manifests import canonical
from support.stored_sample import StoredSample

from pipeline.catalog.keys import BackupRef
from pipeline.catalog.manifest import (
    Compression,
    Encryption,
    File,
    Manifest,
    Previous,
    Segment,
    StoredObject,
    TableData,
    Totals,
    dump_manifest,
    load_manifest,
    manifest_schema,
    summarize,
)
from pipeline.catalog.origin import DumpOptions, Extension, Source
from pipeline.catalog.summary import load_summary
from pipeline.errors import ManifestInvalid

DOCS = Path(__file__).parents[3] / "docs"
BACKUP_ID = "20261123T020000Z-7f3a9c"

# All of Unicode except lone surrogates, which no database's name can hold.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = texts.filter(bool)
counts = st.integers(0, 2**63 - 1)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
moments = st.datetimes(
    datetime(1970, 1, 2),
    datetime(2999, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(minutes=345))]),
)


def encryptions(cluster: str, database: str) -> st.SearchStrategy[Encryption]:
    key = BackupRef(cluster, database, BACKUP_ID).key_object_key(datetime(2026, 11, 23, tzinfo=UTC))
    stored = st.builds(
        StoredObject, key=st.just(key), size=counts, sha256=digests, checksum=st.none(), version=st.none() | texts
    )
    return st.builds(
        Encryption, epoch=st.just(BACKUP_ID), recipient=texts, recipients=st.lists(texts, max_size=2), key=stored
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    """Generate any valid manifest."""
    cluster, database = draw(names), draw(names)
    own = BackupRef(cluster, database, BACKUP_ID).data_prefix
    objects = draw(
        st.lists(
            st.builds(
                StoredObject,
                key=st.from_regex(r"[^\x00-\x1f\x7f-\x9f/\\.]{1,9}", fullmatch=True).filter(str.strip).map(own.__add__),
                size=st.integers(1, 10**9),
                sha256=digests,
                checksum=st.none() | st.just("crc32c:00000000"),
                version=st.none() | texts,
            ),
            min_size=1,
            max_size=3,
        )
    )

    def segments() -> list[Segment]:
        chosen = draw(st.lists(st.integers(0, len(objects) - 1), max_size=2))
        return [Segment(object=n, offset=0, length=objects[n].size, size=draw(counts) // 4) for n in chosen]

    files = []
    for path in draw(st.lists(st.from_regex(r"[0-9a-z_]{1,9}\.dat", fullmatch=True), unique=True, max_size=3)):
        parts = segments()
        files.append(
            File(
                path=path,
                kind=draw(st.sampled_from(["toc", "table", "large_object", "large_object_toc"])),
                size=sum(part.size for part in parts),
                checksum=draw(digests),
                segments=parts,
                dump_id=draw(st.none() | counts),
                schema_name=draw(st.none() | texts),
                relation=draw(st.none() | texts),
                rows=draw(st.none() | counts),
            )
        )
    patterns = st.lists(texts, max_size=2)
    return Manifest(
        backup_id=BACKUP_ID,
        cluster=cluster,
        database=database,
        kind="database",
        tool=draw(texts),
        started_at=draw(moments),
        snapshot_at=draw(moments),
        finished_at=draw(moments),
        source=draw(
            st.builds(
                Source,
                server_version=texts,
                system_identifier=st.none() | texts,
                pg_dump_version=texts,
                encoding=texts,
                collation=texts,
                character_type=texts,
                locale_provider=texts,
                locale=st.none() | texts,
                host=texts,
                port=st.integers(1, 65535),
                standby=st.booleans(),
                wal_lsn=st.none() | texts,
                extensions=st.lists(st.builds(Extension, name=texts, version=texts), max_size=2),
            )
        ),
        dump=draw(
            st.builds(
                DumpOptions,
                format=st.just("directory"),
                jobs=counts,
                tables=patterns,
                exclude_tables=patterns,
                schemas=patterns,
                exclude_schemas=patterns,
                options=patterns,
                exclude_table_data=patterns,
            )
        ),
        compression=Compression(algorithm="zstd", level=3, levels=draw(st.lists(st.integers(1, 19), max_size=3))),
        tables=draw(
            st.lists(
                st.builds(
                    TableData,
                    database=st.none() | texts,
                    schema_name=texts,
                    relation=texts,
                    columns=texts,
                    rows=counts,
                    size=counts,
                    checksum=digests,
                ),
                max_size=2,
            )
        ),
        files=files,
        objects=objects,
        totals=draw(
            st.builds(Totals, files=counts, tables=counts, rows=counts, size=counts, objects=counts, stored_size=counts)
        ),
        durations=draw(st.dictionaries(texts, st.floats(0, 1e9), max_size=2)),
        encryption=draw(st.none() | encryptions(cluster, database)),
        previous=draw(st.none() | st.builds(Previous, backup_id=st.just(BACKUP_ID), sha256=digests)),
    )


def key_of(manifest: Manifest) -> str:
    return BackupRef(manifest.cluster, manifest.database, manifest.backup_id).manifest_key


@given(manifests())
@settings(max_examples=25)
def test_a_manifest_is_read_as_it_was_written_and_has_only_one_form(manifest: Manifest) -> None:
    data = dump_manifest(manifest)
    again = load_manifest(data, key_of(manifest))
    assert again == manifest
    assert dump_manifest(again) == data
    assert data == canonical(json.loads(data)), "by the description in docs/manifest.md"
    jsonschema.validate(json.loads(data), manifest_schema())


@pytest.fixture
def stored(stored_sample: StoredSample) -> tuple[str, bytes]:
    """A real manifest: its key and its bytes."""
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    return path.relative_to(stored_sample.folder).as_posix(), path.read_bytes()


def test_a_real_manifest_validates_against_the_published_schema(stored: tuple[str, bytes]) -> None:
    schema = json.loads((DOCS / "manifest.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    content = json.loads(stored[1])
    jsonschema.validate(content, schema)
    for change in ({"backup_id": None}, {"totals": {}}, {"manifest_checksum": "0"}, {"manifest_version": "one"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(content | change, schema)


def test_a_manifest_before_version_1_4_names_a_single_level() -> None:
    compression = Compression.model_validate({"algorithm": "zstd", "level": 19})
    assert (compression.level, compression.levels) == (19, [])


def test_the_published_schema_is_up_to_date() -> None:
    published = json.loads((DOCS / "manifest.schema.json").read_text())
    assert published == manifest_schema(), "run make reference, and look at what changed"


def test_the_reference_names_every_field() -> None:
    schema = manifest_schema()
    fields = {name for model in [schema, *schema["$defs"].values()] for name in model["properties"]}
    explained = set(re.findall(r"`(\w+)`", (DOCS / "manifest.md").read_text()))
    assert fields <= explained, fields - explained


def test_the_reference_says_how_to_check_a_manifest(stored: tuple[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(stored[1])
    text = (DOCS / "manifest.md").read_text()
    [python] = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    subprocess.run([sys.executable, "-c", python], cwd=tmp_path, check=True)
    [command] = re.findall(r"^sed .*sha256sum$", text, re.MULTILINE)
    printed = subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert printed.split()[0] == json.loads(stored[1])["manifest_checksum"]


def test_no_byte_can_change_unnoticed(stored: tuple[str, bytes]) -> None:
    key, data = stored
    for at in [*range(0, len(data), 97), len(data) - 1]:
        for change in (data[at] ^ 1, data[at] ^ 0x20):
            with pytest.raises(ManifestInvalid):
                load_manifest(data[:at] + bytes([change]) + data[at + 1 :], key)
        with pytest.raises(ManifestInvalid):
            load_manifest(data[:at], key)
        with pytest.raises(ManifestInvalid):
            load_manifest(data[:at] + b" " + data[at:], key)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"manifest"',
        b"\xff\xfe{}",
        b'{"manifest_version":"1.0"}',
        b'{"manifest_version":"1.0","a":NaN}',
        b'{"manifest_version":"1.0","a":1e999}',
        b'{"manifest_version":"1.0","a":"\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"manifest_version":' + b"9" * 5000 + b"}",
        b'{"manifest_version":"\xc2\xb2.0"}',
        b'{"manifest_version":null}',
        b'{"manifest_version":{"major":1}}',
    ],
    ids=lambda data: repr(data[:40]),
)
def test_bytes_that_are_not_a_manifest_are_refused_in_one_sentence(data: bytes) -> None:
    with pytest.raises(ManifestInvalid, match=r"^The manifest some/key\.json ") as caught:
        load_manifest(data, "some/key.json")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def changed(stored: tuple[str, bytes], **fields: Any) -> bytes:
    return canonical(json.loads(stored[1]) | fields)


@pytest.mark.parametrize(
    "key",
    [
        f"data/prod/shop/{BACKUP_ID}/20261123T020000.000000Z.age",
        f"keys/prod/other/{BACKUP_ID}/20261123T020000.000000Z.age",
        "keys/prod/shop/20261124T020000Z-7f3a9c/20261123T020000.000000Z.age",
        f"keys/prod/shop/{BACKUP_ID}/identity",
    ],
)
def test_a_key_object_outside_of_its_epoch_is_refused(stored: tuple[str, bytes], key: str) -> None:
    encryption = {
        "scheme": "age",
        "epoch": BACKUP_ID,
        "recipient": "age1",
        "recipients": [],
        "key": {"key": key, "size": 1, "sha256": "0" * 64, "checksum": None, "version": None},
        "checksums": "hmac-sha256",
    }
    for load in (load_manifest, load_summary):
        with pytest.raises(ManifestInvalid, match="its key object lies outside of"):
            load(changed(stored, encryption=encryption), stored[0])


def test_unknown_fields_are_kept_outside_of_lists(stored: tuple[str, bytes]) -> None:
    """A later minor version may add fields at every level."""
    content = json.loads(stored[1])
    content |= {"manifest_version": "1.7", "mood": {"good": [1, None, "ä"]}}
    content["source"]["later"] = "field"
    kept = canonical(content)
    for part in (content["files"][0], content["objects"][0], content["files"][0]["segments"][0]):
        part["later"] = [{"field": json.loads("[" * 40 + "]" * 40)}]

    manifest = load_manifest(canonical(content), stored[0])

    assert dump_manifest(manifest) == kept
    assert summarize(manifest)["mood"] == {"good": [1, None, "ä"]}


def test_what_a_file_takes_in_memory(stored: tuple[str, bytes]) -> None:
    """A manifest can have a million files. Two instances of :class:`Model` would take three KB."""
    [file] = [file for file in load_manifest(*reversed(stored)).files if file.path == "toc.dat"]
    for part in (file, *file.segments):
        assert not hasattr(part, "__dict__")
        assert sys.getsizeof(part) < 120


@pytest.mark.parametrize("version", ["3.0", "3", "10.3", "999999999999999999999.0"])
def test_a_newer_major_version_is_refused_with_advice(stored: tuple[str, bytes], version: str) -> None:
    with pytest.raises(ManifestInvalid, match=rf"version {re.escape(version)}, which is newer .* upgrade pgstow"):
        load_manifest(changed(stored, manifest_version=version, files="something else by then"), stored[0])


@pytest.mark.parametrize("version", ["1.0", "1.99"])
def test_a_newer_minor_version_is_read(stored: tuple[str, bytes], version: str) -> None:
    assert load_manifest(changed(stored, manifest_version=version), stored[0]).manifest_version == version


@pytest.mark.parametrize("path", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\nb", "a\0b"])
def test_a_path_stays_in_the_archive(stored: tuple[str, bytes], path: str) -> None:
    content = json.loads(stored[1])
    content["files"][1]["path"] = path
    with pytest.raises(ManifestInvalid, match=r"files\.1\.path: .* is not the name of a file in an archive"):
        load_manifest(canonical(content), stored[0])


@pytest.mark.parametrize(
    "key", ["", "/data/x", "../data/x", "data/../../x", "data//x", "data/./x", "data/x\n", "data\\x"]
)
def test_a_key_stays_in_the_store(stored: tuple[str, bytes], key: str) -> None:
    content = json.loads(stored[1])
    content["objects"][0]["key"] = key
    with pytest.raises(ManifestInvalid, match=r"objects\.0\.key: .* can't be an object's key"):
        load_manifest(canonical(content), stored[0])


@pytest.mark.parametrize(
    "key",
    [
        "data/prod/secrets/{id}/x",
        "data/other/{db}/{id}/x",
        "data/prod/{db}x/{id}/x",
        "data/prod/{db}/{id}",
        "data/prod/{db}/{id}/x/y",
        "data/prod/{db}/20261399T000000Z-aaaaaa/x",
        "data/prod/{db}/x",
        "manifests/prod/{db}/{id}.json",
        "x",
    ],
)
def test_objects_of_another_database_are_refused(stored: tuple[str, bytes], key: str) -> None:
    content = json.loads(stored[1])
    key = key.format(db=content["database"], id=content["backup_id"])
    content["objects"][0]["key"] = key
    with pytest.raises(ManifestInvalid, match=f"the object {key} lies outside of data/prod/"):
        load_manifest(canonical(content), stored[0])
    content["objects"][0]["key"] = f"data/prod/{content['database']}/20200101T000000Z-aaaaaa/x"
    assert load_manifest(canonical(content), stored[0]), "an object of an earlier backup is allowed"


@pytest.mark.parametrize(
    "members",
    [[("shop", "../x")], [("shop", "20261399T000000Z-aaaaaa")], [("@cluster", BACKUP_ID)], [("a", BACKUP_ID)] * 2],
)
def test_members_that_are_not_backups_of_databases_are_refused(
    stored: tuple[str, bytes], members: list[tuple[str, str]]
) -> None:
    named = [{"database": database, "backup_id": backup_id, "sha256": "0" * 64} for database, backup_id in members]
    with pytest.raises(ManifestInvalid, match="is not valid: "):
        load_manifest(changed(stored, members=named), stored[0])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"manifest_version": "9" * 5000 + ".0"}, "newer than this pgstow knows"),
        ({"totals": {"size": 10**4000}}, "totals.size"),
        ({"totals": {"size": 2**63}}, "totals.size"),
        ({"source": {"port": 10**4000}}, "source.port"),
        ({"compression": {"level": -(10**4000)}}, "compression.level"),
        ({"durations": {"dump": 10**4000}}, "durations"),
        ({"durations": {"x" * 10**6: "y"}}, "durations"),
        ({"durations": {"dump": "nan"}}, "durations"),
        ({"started_at": "0001-01-01T00:00:00+01:00"}, "started_at"),
        ({"started_at": "0001-01-01T00:00:00Z"}, "a time must not be before 1970"),
        ({"finished_at": "9999-12-31T23:59:59-01:00"}, "up to 9999"),
        ({"retained_until": "0001-01-01T00:00:00+01:00"}, "retained_until"),
        ({"started_at": 10**300}, "started_at"),
        ({"mood": json.loads("[" * 40 + "]" * 40)}, "nested too deeply"),
        ({"backup_id": "20261399T000000Z-aaaaaa"}, "backup_id"),
        ({"previous": {"backup_id": "\u202e" * 10**5, "sha256": "0" * 64}}, "previous.backup_id"),
    ],
)
def test_values_that_pgstow_never_writes_are_refused_in_one_sentence(
    stored: tuple[str, bytes], change: dict[str, Any], reason: str
) -> None:
    content = json.loads(stored[1])
    for name, value in change.items():
        content[name] = {**content[name], **value} if isinstance(content.get(name), dict) else value
    with pytest.raises(ManifestInvalid, match=reason) as caught:
        load_manifest(canonical(content), stored[0])
    assert len(str(caught.value)) < 1000


def test_a_moved_manifest_is_refused(stored: tuple[str, bytes]) -> None:
    other = stored[0].replace("/prod/", "/other/")
    with pytest.raises(ManifestInvalid, match="it was moved"):
        load_manifest(stored[1], other)


def test_times_are_in_utc_to_the_microsecond(stored: tuple[str, bytes]) -> None:
    content = json.loads(stored[1])
    for name in ("started_at", "snapshot_at", "finished_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", content[name])
    loaded = load_manifest(changed(stored, started_at="2026-11-23T04:00:00.000001+02:00"), stored[0])
    assert loaded.started_at == datetime(2026, 11, 23, 2, 0, 0, 1, UTC)
    with pytest.raises(ManifestInvalid, match="a time needs a time zone"):
        load_manifest(changed(stored, started_at="2026-11-23T04:00:00"), stored[0])


def test_the_checksum_covers_all_other_fields(stored: tuple[str, bytes]) -> None:
    content = json.loads(stored[1])
    claimed = content.pop("manifest_checksum")
    assert hashlib.sha256(canonical(content, checksum=False)).hexdigest() == claimed
    content["manifest_checksum"] = "0" * 64
    with pytest.raises(ManifestInvalid, match="altered"):
        load_manifest(canonical(content, checksum=False), stored[0])
