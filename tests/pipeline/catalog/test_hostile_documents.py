"""Hostile documents and keys in a bucket: each command reports each of them in one sentence, and does its work on the other objects."""

import copy
import hashlib
import io
import json
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from support.manifests import canonical, edit_manifest
from support.shelf import NOW, BackupBuilder
from support.stored_sample import StoredSample

from cli.list import list_
from cli.show import show
from pipeline.archive.reader import open_archive
from pipeline.catalog.attestation import Level, dump_attestation, latest_attestations, load_attestation
from pipeline.catalog.find import BackupSelector, find_backup, find_stored
from pipeline.catalog.keys import BackupRef
from pipeline.catalog.listing import list_manifests
from pipeline.catalog.manifest import load_manifest
from pipeline.catalog.reader import read_catalog
from pipeline.concurrency import Workers
from pipeline.config import Limits
from pipeline.errors import ManifestInvalid, PipelineError
from pipeline.prune.gc import GcRequest, find_leftovers
from pipeline.prune.policy import Policy
from pipeline.prune.prune import PruneRequest, plan
from pipeline.restore.show_toc import show_toc
from pipeline.stages.upload import upload
from pipeline.trust.seal import Keys
from pipeline.verify.backup import verify
from pipeline.verify.request import VerifyRequest
from storage_backends import ObjectInfo, StorageError
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend

UNHURRIED = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
EXPECTED = (PipelineError, StorageError, OSError)
"""The errors that the command line prints as one sentence."""
HOSTILE = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            -1,
            0,
            2**31,
            2**63 - 1,
            2**63,
            -(2**63),
            10**4000,
            1e308,
            -0.0,
            "",
            "\0",
            "\x1b]0;owned\a\x1b[2J\n\r",
            "\u202e\u2066gnp.\u2028",
            "x" * 100_000,
            "../../etc/passwd",
            "[bold]markup[/bold]",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59.999999Z",
            "9999-12-31T23:59:59-23:59",
            "1970-01-01T00:00:00Z",
            "2026-11-23T02:00:00Z",
            "9" * 5000 + ".0",
            "20261399T000000Z-aaaaaa",
            "toc.dat",
            "pgstow.list",
            "@globals",
            "@cluster",
            "custom",
            "tar",
            "plain",
            "cluster",
            "globals",
            "99999999999999999999.1",
            "nan",
            [],
            {},
        ]
    ),
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every part of a document. For a list, return only the paths to the first and the last item."""
    found = [path] if path else []
    if isinstance(value, dict):
        parts: list[Any] = list(value)
    else:
        parts = sorted({0, len(value) - 1}) if isinstance(value, list) and value else []
    for part in parts:
        found += places(value[part], (*path, part))
    return found


def spoil(content: Any, path: tuple[Any, ...], value: Any, *, remove: bool) -> None:
    for part in path[:-1]:
        content = content[part]
    if remove:
        del content[path[-1]]
    elif isinstance(content, dict) or path[-1] < len(content):
        content[path[-1]] = value


def use_all(store: LocalBackend, backup_id: str, spool: Path) -> None:
    """Run everything that reads manifests. Only the documented errors may come."""
    listing = list_manifests(store)
    assert len(list(read_catalog(store, listing.manifests, datetime.now(UTC)))) == 2
    plan(PruneRequest(Policy(keep_last=1)), store, lambda _: None, datetime.now(UTC))
    find_leftovers(GcRequest(), store, lambda _: None, datetime.now(UTC))
    assert find_backup(store, BackupSelector()).backup_id != backup_id
    for json_ in (False, True):
        printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with redirect_stdout(printed), redirect_stderr(printed):
            with suppress(typer.Exit):
                list_(from_=store.url, json=json_)
            with suppress(typer.Exit, *EXPECTED):
                show(backup_id, from_=store.url, json=json_, all_tables=True)
        printed.flush()
        shown = printed.buffer.getvalue().decode()  # type: ignore[attr-defined]
        if not json_:
            assert not {"\x1b", "\a", "\u202e", "\u2066", "\u2028"} & set(shown)
    limits = Limits(spool_parent=spool)
    with suppress(*EXPECTED):
        stored = find_stored(store, BackupSelector(backup_id))
        with suppress(*EXPECTED), Workers() as workers:
            open_archive(store, stored.manifest, Keys(), workers, limits)
        with suppress(*EXPECTED):
            show_toc(store, stored.manifest, Keys())
        for level in (Level.OBJECTS, Level.ARCHIVE):
            with suppress(*EXPECTED):
                assert not verify(stored, VerifyRequest(level, limits), store, lambda _: None).good


def test_a_version_of_many_digits_is_refused(stored_sample: StoredSample) -> None:
    edit_manifest(stored_sample.folder, lambda content: content["source"].update(pg_dump_version="9" * 5000))
    with pytest.raises(PipelineError, match="pg_restore"):
        show_toc(stored_sample.store, stored_sample.manifest, Keys())


@settings(UNHURRIED, max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(data=st.data())
def test_a_spoilt_manifest_is_one_entry_and_disturbs_no_other_backup(
    stored_sample: StoredSample, data: st.DataObject, spool_dir: Path
) -> None:
    store = stored_sample.store
    [original] = [path for path in (stored_sample.folder / "manifests").rglob("*.json") if "aaaaaa" not in path.name]
    content = copy.deepcopy(json.loads(original.read_bytes()))
    backup_id = "20261123T020000Z-aaaaaa"  # not the manifest's time, so pgstow doesn't believe the manifest
    content["backup_id"] = backup_id
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(content)))
        spoil(content, path, data.draw(HOSTILE), remove=data.draw(st.integers(0, 5)) == 0)
    with suppress(ValueError):  # JSON can't hold the document
        original.with_name(f"{backup_id}.json").write_bytes(canonical(content))
        use_all(store, backup_id, spool_dir)


@UNHURRIED
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
        .map(lambda value: json.dumps(value).encode()),
        st.sampled_from([b"[", b'{"a":', b"[{", b'"', b"1", b"[],", b"\\", b'"\\u']).map(lambda part: part * 100_000),
    )
)  # fmt: skip
def test_any_bytes_are_refused_in_one_sentence(data: bytes) -> None:
    for load in (load_manifest, load_attestation):
        with pytest.raises(ManifestInvalid) as caught:
            load(data, "some/key.json")
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("part", [b'"\\', b"\\", b"[{", b"{"])
def test_the_time_for_long_nonsense_grows_with_its_length(part: bytes) -> None:
    """If the time grew with the square of the length, every command on the store would take hours."""
    with pytest.raises(ManifestInvalid):
        load_manifest(b'"' + part * 1_000_000, "some/key.json")


@UNHURRIED
@given(data=st.data())
def test_a_spoilt_attestation_is_ignored(data: st.DataObject) -> None:
    builder = BackupBuilder(MemoryBackend())
    ref = builder.add(NOW - NOW)
    key = builder.attest(ref, good=False)
    content = json.loads(builder.store.get(key))
    for _ in range(data.draw(st.integers(1, 3))):
        spoil(content, data.draw(st.sampled_from(places(content))), data.draw(HOSTILE), remove=False)
    content.pop("attestation_checksum", None)
    try:
        digest = hashlib.sha256(canonical(content, checksum=False)).hexdigest()
        body = canonical({**content, "attestation_checksum": digest}, checksum=False)
    except ValueError:
        return
    later = ref.attestation_key(NOW.replace(hour=5))
    upload(builder.store, later, body)
    found = latest_attestations(builder.store, {ref: builder.digest(ref)}, None, None, lambda _: None)
    assert found is not None
    assert dump_attestation(found[ref]) == builder.store.get(key)


SEGMENTS = st.one_of(
    st.sampled_from(["prod", "shop", "%41", "%FF", "%", "a\\b", "\\xe9", "", ".", "..", "@cluster", "x" * 1000, "\n", "\u202e"]),
    st.sampled_from(["20261399T000000Z-aaaaaa", "00000101T000000Z-aaaaaa", "99991231T235959Z-aaaaaa", "20261101T020000Z-aaaaaa"]),
    st.text(max_size=5),
)  # fmt: skip


@UNHURRIED
@given(
    st.lists(
        st.tuples(st.sampled_from(["manifests", "data", "attestations"]), st.lists(SEGMENTS, min_size=1, max_size=5))
    )
)
@example([("manifests", ["prod", "x" * 1000, "99991231T235959Z-aaaaaa"])])
def test_no_key_in_the_store_stops_a_command(keys: list[tuple[str, list[str]]]) -> None:
    objects: dict[str, tuple[ObjectInfo, bytes]] = {}
    store = MemoryBackend(objects=objects)
    builder = BackupBuilder(store)
    ref = builder.add(NOW - NOW, "real")
    for top, segments in keys:
        for key in (f"{top}/{'/'.join(segments)}", f"{top}/{'/'.join(segments)}.json"):
            objects.setdefault(key, (ObjectInfo(key, 1, NOW), b"x"))
    decisions = {one.ref: one for one in plan(PruneRequest(Policy(keep_last=1)), store, lambda _: None, NOW)}
    assert decisions[ref].reasons == ("newest good backup", "last 1")
    assert all(one.keep for one in decisions.values())
    find_leftovers(GcRequest(), store, lambda _: None, NOW)
    assert find_backup(store, BackupSelector(database="real")).backup_id == ref.backup_id
    for key in builder.all_keys():
        assert BackupRef.of_key(key) is None or isinstance(BackupRef.of_key(key), BackupRef)
