"""A backup that is not what it was: verify names what is wrong, and restore refuses it."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.manifests import canonical, edit_manifest
from support.pgstow import assert_one_sentence, processes_naming, run_pgstow, sessions, wait_until
from support.postgres_fixtures import Database
from support.stored_sample import StoredSample

from pipeline.archive.selection import EntrySelection
from pipeline.catalog.attestation import Level, load_attestation
from pipeline.catalog.find import BackupSelector, find_stored
from pipeline.config import Limits
from pipeline.errors import BackupDamaged
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.throwaway import ThrowawayCluster
from pipeline.restore.database import restore
from pipeline.restore.extract import ExtractRequest, extract
from pipeline.restore.request import RestoreRequest
from pipeline.stages.compress import Compressor
from pipeline.verify.backup import verify
from pipeline.verify.request import Verification, VerifyRequest
from storage_backends import ObjectInfo, StorageBackend, TransientStorageError
from storage_backends.local import LocalBackend

DAMAGED = 7


def flip(path: Path, _other: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def truncate(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def remove(path: Path, _other: Path) -> None:
    path.unlink()


def swap(path: Path, other: Path) -> None:
    body = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(body)


damages = pytest.mark.parametrize("damage", [flip, truncate, empty, lengthen, remove, swap])
victims = pytest.mark.parametrize("victim", ["slice", "pack"])

Damage = Callable[[Path, Path], None]


def damaged_keys(stored: StoredSample, damage: Damage, victim: str) -> set[str]:
    """Damage an object in the middle of the largest table, or a pack of small files. Return the keys of the damaged objects."""
    slices = stored.objects_of("telemetry.reading")
    pack = next(thing for thing in stored.manifest.objects if "/pack-" in thing.key)
    hurt, other = (slices[1] if victim == "slice" else pack), slices[0]
    damage(stored.path(hurt), stored.path(other))
    return {hurt.key, other.key} if damage is swap else {hurt.key}


def check(
    stored: StoredSample,
    level: Level,
    spool_dir: Path,
    store: StorageBackend | None = None,
    *,
    attest: bool | None = None,
) -> Verification:
    store = store or stored.store
    request = VerifyRequest(level, Limits(spool_parent=spool_dir), attest=attest)
    return verify(find_stored(store, BackupSelector()), request, store, lambda _: None)


class Swapped(LocalBackend):
    """A store in which somebody replaces the backup's manifest as soon as it has been read."""

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        data = super().get(key, offset=offset, length=length, at_most=at_most)
        if key.startswith("manifests/"):
            (self._root / key).write_bytes(
                canonical(json.loads(data) | {"tool": "another", "objects": [], "files": []})
            )
        return data


def named(problems: list[str]) -> set[str]:
    """Return the keys of the objects that the sentences name."""
    return {found for problem in problems for found in re.findall(r"data/\S+?\.zst", problem)}


@pytest.mark.parametrize("level", list(Level))
def test_what_is_whole_is_good_at_every_level(stored_sample: StoredSample, level: Level, spool_dir: Path) -> None:
    [path] = (stored_sample.folder / "manifests").rglob("*.json")
    read = path.read_bytes()
    stored = sum(thing.size for thing in stored_sample.manifest.objects)
    objects, files = len(stored_sample.manifest.objects), len(stored_sample.manifest.files)

    found = check(stored_sample, level, spool_dir, Swapped(stored_sample.folder), attest=True)

    assert path.read_bytes() != read
    assert found.attestation is not None
    attested = load_attestation(stored_sample.store.get(found.attestation), found.attestation)
    assert attested.manifest_sha256 == hashlib.sha256(read).hexdigest(), "what was read, not what is there afterwards"
    assert found.problems == []
    assert found.objects == objects
    assert found.read == (0 if level is Level.OBJECTS else stored) or (level is Level.RESTORE and found.read > stored)
    assert found.files == (files if level in (Level.ARCHIVE, Level.RESTORE) else 0)


@damages
@victims
@pytest.mark.parametrize("level", list(Level))
def test_verify_names_what_is_damaged(
    stored_sample: StoredSample, damage: Damage, victim: str, level: Level, spool_dir: Path
) -> None:
    keys = damaged_keys(stored_sample, damage, victim)

    found = check(stored_sample, level, spool_dir)

    assert named(found.problems) == keys
    assert all("\n" not in problem and problem.endswith(".") for problem in found.problems)
    if level in (Level.OBJECTS, Level.BYTES):  # other levels also name files, in more sentences
        assert len(found.problems) == len(keys)


@pytest.mark.parametrize("level", list(Level))
def test_verify_goes_on_to_the_end_and_lists_every_problem(
    stored_sample: StoredSample, level: Level, spool_dir: Path
) -> None:
    objects = stored_sample.manifest.objects
    hurt = {thing.key for thing in objects if thing.key.endswith(".zst")}
    for thing in objects:
        if thing.key in hurt:
            flip(stored_sample.path(thing), stored_sample.path(thing))

    found = check(stored_sample, level, spool_dir)

    assert named(found.problems) == hurt
    assert found.objects == len(objects)


class LosingStore(LocalBackend):
    """A store that can't read one object, like a disk with a bad sector. It can read all other objects."""

    lost = ""

    def get(self, key: str, *, offset: int = 0, length: int | None = None, at_most: int | None = None) -> bytes:
        if key == self.lost:
            raise TransientStorageError(f"{key}: Input/output error")
        return super().get(key, offset=offset, length=length, at_most=at_most)


@victims
@pytest.mark.parametrize("level", [Level.BYTES, Level.ARCHIVE, Level.RESTORE])
def test_what_cannot_be_read_is_not_damaged_and_hides_no_damage(
    stored_sample: StoredSample, victim: str, level: Level, spool_dir: Path
) -> None:
    [key] = damaged_keys(stored_sample, flip, victim)
    objects = stored_sample.manifest.objects
    store = LosingStore(stored_sample.folder)

    store.lost = key
    found = check(stored_sample, level, spool_dir, store)
    assert found.problems == []
    assert named(found.unreadable) == {key}
    assert not found.good
    assert found.objects == len(objects) - 1
    if level is Level.RESTORE:
        assert found.attestation is not None
        assert load_attestation(store.get(found.attestation), found.attestation).unproven

    store.lost = next(thing.key for thing in objects if thing.key not in {key} and "toc.dat" not in thing.key)
    found = check(stored_sample, level, spool_dir, store)
    assert named(found.problems) == {key}
    assert named(found.unreadable) == {store.lost}


def test_the_list_of_checksums_is_verified_too(stored_sample: StoredSample, spool_dir: Path) -> None:
    [sums] = stored_sample.folder.rglob("SHA256SUMS")
    flip(sums, sums)
    for level in Level:
        [problem] = check(stored_sample, level, spool_dir).problems
        assert "SHA256SUMS" in problem


class ForgetfulStore(LocalBackend):
    """A store that goes on reporting an object as it was received, even if its bytes have changed since, as cloud stores do."""

    reported: Mapping[str, ObjectInfo] = {}

    def head(self, key: str) -> ObjectInfo:
        return self.reported[key]


def test_objects_is_what_the_store_reports_and_no_more(stored_sample: StoredSample, spool_dir: Path) -> None:
    """At the level ``objects``, pgstow checks only what the store reports. If stored bytes have rotted, only reading them shows it."""
    store = ForgetfulStore(stored_sample.folder)
    store.reported = {thing.key: stored_sample.store.head(thing.key) for thing in stored_sample.manifest.objects}
    keys = damaged_keys(stored_sample, flip, "slice")

    assert check(stored_sample, Level.OBJECTS, spool_dir, store).problems == []
    assert named(check(stored_sample, Level.BYTES, spool_dir, store).problems) == keys


def test_objects_says_where_a_store_never_reported_a_checksum(stored_sample: StoredSample, spool_dir: Path) -> None:
    def without_checksums(manifest: dict[str, Any]) -> None:
        for stored in manifest["objects"]:
            stored["checksum"] = None

    edit_manifest(stored_sample.folder, without_checksums)
    store = ForgetfulStore(stored_sample.folder)
    store.reported = {
        thing.key: replace(stored_sample.store.head(thing.key), checksum=None)
        for thing in stored_sample.manifest.objects
    }
    found = check(stored_sample, Level.OBJECTS, spool_dir, store)
    assert found.problems == []
    assert found.without_checksum == len(stored_sample.manifest.objects)


@pytest.mark.parametrize("checksum", [None, f"md5:{'0' * 32}"])
def test_an_object_that_lost_its_checksum_is_not_good(
    stored_sample: StoredSample, spool_dir: Path, checksum: str | None
) -> None:
    store = ForgetfulStore(stored_sample.folder)
    store.reported = {thing.key: stored_sample.store.head(thing.key) for thing in stored_sample.manifest.objects}
    [key, *_] = store.reported
    store.reported = {**store.reported, key: replace(store.reported[key], checksum=checksum)}
    [problem] = check(stored_sample, Level.OBJECTS, spool_dir, store).problems
    assert key in problem
    assert "may have been overwritten" in problem


def test_archive_finds_what_the_objects_checksums_cannot(stored_sample: StoredSample, spool_dir: Path) -> None:
    """Every object is what was stored, and yet a table isn't what was dumped: only decompressing it tells."""
    [hurt, *_] = stored_sample.objects_of("telemetry.reading")

    def other_checksum(manifest: dict[str, Any]) -> None:
        [file] = [file for file in manifest["files"] if file["relation"] == "reading"]
        file["checksum"] = "0" * 64
        file["rows"] += 1

    edit_manifest(stored_sample.folder, other_checksum)
    assert check(stored_sample, Level.BYTES, spool_dir).problems == []
    [problem] = check(stored_sample, Level.ARCHIVE, spool_dir).problems
    assert stored_sample.table("telemetry.reading").path in problem
    assert hurt.key not in problem


def test_archive_has_pg_restore_parse_the_table_of_contents(stored_sample: StoredSample, spool_dir: Path) -> None:
    """A table of contents that is garbage, with every checksum in order."""
    garbage = b"PGDMP\x01\x0e\x00\x04\x08\x03 and then nothing"
    body = Compressor().frame(garbage)
    key = stored_sample.manifest.objects[0].key.rpartition("/")[0] + "/garbage.zst"
    (stored_sample.folder / key).write_bytes(body)

    def garble(manifest: dict[str, Any]) -> None:
        manifest["objects"].append(
            {
                "key": key,
                "size": len(body),
                "sha256": hashlib.sha256(body).hexdigest(),
                "checksum": None,
                "version": None,
            }
        )
        [toc] = [file for file in manifest["files"] if file["kind"] == "toc"]
        segment = {"object": len(manifest["objects"]) - 1, "offset": 0, "length": len(body), "size": len(garbage)}
        toc |= {"size": len(garbage), "checksum": hashlib.sha256(garbage).hexdigest(), "segments": [segment]}

    edit_manifest(stored_sample.folder, garble)
    assert check(stored_sample, Level.BYTES, spool_dir).problems == []
    [problem] = check(stored_sample, Level.ARCHIVE, spool_dir).problems
    assert "toc.dat" in problem


def test_verify_without_pg_restore_does_not_call_the_backup_damaged(
    stored_sample: StoredSample, spool_dir: Path, tmp_path: Path
) -> None:
    arguments = ("verify", "--from", stored_sample.folder, "--level", "archive", "--bin-dir", tmp_path)
    assert_one_sentence(run_pgstow(*arguments, "--spool-dir", spool_dir, "-q"), 9, "pg_restore")


@damages
@victims
def test_restore_refuses_and_drops_the_database_that_it_made(
    stored_sample: StoredSample, postgres: ThrowawayCluster, damage: Damage, victim: str, spool_dir: Path
) -> None:
    keys = damaged_keys(stored_sample, damage, victim)
    target = Conninfo.parse(postgres.conninfo("made_by_restore"))
    request = RestoreRequest(BackupSelector(), target, create=True, limits=Limits(jobs=2, spool_parent=spool_dir))

    with pytest.raises(BackupDamaged) as caught:
        restore(request, stored_sample.store, lambda _: None)

    assert named([str(caught.value)]) <= keys
    assert named([str(caught.value)])
    databases = Database("postgres", postgres.conninfo()).fetch("SELECT datname FROM pg_database")
    assert ("made_by_restore",) not in databases
    assert not processes_naming(spool_dir)


@damages
@pytest.mark.parametrize("jobs", [1, 2])
def test_nothing_of_a_damaged_table_arrives(
    stored_sample: StoredSample, empty_target: Database, damage: Damage, jobs: int, spool_dir: Path
) -> None:
    """Its first object is whole, and pg_restore has read it by the time that the second shows the damage."""
    damaged_keys(stored_sample, damage, "slice")
    limits = Limits(jobs=jobs, spool_parent=spool_dir)
    request = RestoreRequest(BackupSelector(), Conninfo.parse(empty_target.conninfo), limits=limits)

    with pytest.raises(BackupDamaged, match=r"telemetry|\.dat\."):
        restore(request, stored_sample.store, lambda _: None)

    wait_until(lambda: not sessions(empty_target), "pg_restore's sessions are gone")
    if empty_target.fetch("SELECT to_regclass('telemetry.reading') IS NOT NULL") == [(True,)]:
        assert empty_target.fetch("SELECT count(*) FROM telemetry.reading") == [(0,)]


def test_what_is_not_damaged_can_still_be_restored(
    stored_sample: StoredSample, empty_target: Database, spool_dir: Path
) -> None:
    damaged_keys(stored_sample, remove, "slice")
    request = RestoreRequest(
        BackupSelector(),
        Conninfo.parse(empty_target.conninfo),
        choice=EntrySelection(tables=("shop.product",)),
        limits=Limits(spool_parent=spool_dir),
    )
    restored = restore(request, stored_sample.store, lambda _: None)
    assert (restored.tables, restored.rows) == (1, stored_sample.table("shop.product").rows)


@damages
def test_a_plain_archive_is_whole_or_not_there(
    stored_sample: StoredSample, tmp_path: Path, damage: Damage, spool_dir: Path
) -> None:
    keys = damaged_keys(stored_sample, damage, "slice")
    folder = tmp_path / "out" / "archive"
    with pytest.raises(BackupDamaged) as caught:
        extract(ExtractRequest(BackupSelector(), folder), stored_sample.store, lambda _: None)
    assert named([str(caught.value)]) <= keys
    assert not folder.exists()


@pytest.mark.parametrize("damage", [flip, remove, swap])
def test_the_command_line_says_it_in_one_sentence(
    stored_sample: StoredSample, empty_target: Database, damage: Damage, spool_dir: Path
) -> None:
    [key] = damaged_keys(stored_sample, damage, "slice") - {stored_sample.objects_of("telemetry.reading")[0].key}
    spool = ("--spool-dir", spool_dir, "--quiet")

    restored = run_pgstow("restore", "--from", stored_sample.folder, "--into", empty_target.conninfo, *spool)
    assert_one_sentence(restored, DAMAGED, re.escape(key) if damage is not swap else r"\.dat\.0000[01]\.zst")
    assert not processes_naming(spool_dir)

    verified = run_pgstow("verify", "--from", stored_sample.folder, *spool)
    assert verified.exit_code == DAMAGED
    assert key in verified.stderr
    assert "DAMAGED" in verified.stdout

    as_json = run_pgstow("verify", "--from", stored_sample.folder, "--json")
    assert as_json.exit_code == DAMAGED
    found = json.loads(as_json.stdout)
    assert found["good"] is False
    assert key in " ".join(found["problems"])


def rewrite(change: Callable[[dict[str, Any]], None], *, checksum: bool) -> Callable[[Path], None]:
    return lambda folder: edit_manifest(folder, change, checksum=checksum)


def cut(folder: Path) -> None:
    [path] = (folder / "manifests").rglob("*.json")
    path.write_bytes(path.read_bytes()[:-100])


def void(folder: Path) -> None:
    [path] = (folder / "manifests").rglob("*.json")
    path.write_bytes(b"")


def pretty(folder: Path) -> None:
    [path] = (folder / "manifests").rglob("*.json")
    path.write_text(json.dumps(json.loads(path.read_bytes()), indent=1))


def move(folder: Path) -> None:
    """Move the manifest to another database's folder, as if it were a backup of that database."""
    [path] = (folder / "manifests").rglob("*.json")
    other = path.parent.with_name("other")
    shutil.move(path.parent, other)


MANIFESTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a count changed": (rewrite(lambda manifest: manifest["totals"].update(rows=1), checksum=False), "altered"),
    "a field removed": (rewrite(lambda manifest: manifest.pop("previous"), checksum=False), "altered"),
    "a field removed, checksum too": (rewrite(lambda manifest: manifest.pop("source"), checksum=True), "source"),
    "cut short": (cut, "not whole JSON"),
    "empty": (void, "not whole JSON"),
    "indented": (pretty, "altered"),
    "moved": (move, "it was moved"),
    "a path out of the archive": (
        rewrite(lambda manifest: manifest["files"][0].update(path="../../etc/passwd"), checksum=True),
        re.escape("'../../etc/passwd' is not the name of a file in an archive"),
    ),
    "an absolute path": (
        rewrite(lambda manifest: manifest["files"][0].update(path="/etc/passwd"), checksum=True),
        "is not the name of a file",
    ),
    "a key out of the store": (
        rewrite(lambda manifest: manifest["objects"][0].update(key="data/../../secret"), checksum=True),
        "can't be an object's key",
    ),
    "a file listed twice": (
        rewrite(lambda manifest: manifest["files"].append(manifest["files"][0]), checksum=True),
        "a file is listed twice",
    ),
    "a segment in no object": (
        rewrite(lambda manifest: manifest["files"][0]["segments"][0].update(object=999), checksum=True),
        "an object that the manifest doesn't list",
    ),
    "of a newer major version": (
        rewrite(lambda manifest: manifest.update(manifest_version="3.0"), checksum=True),
        r"version 3\.0, which is newer than this pgstow knows \(2\.0\): upgrade pgstow",
    ),
}


@pytest.mark.parametrize("case", list(MANIFESTS))
def test_a_manifest_that_is_not_in_order_is_refused_by_every_command(
    stored_sample: StoredSample, postgres: ThrowawayCluster, tmp_path: Path, case: str
) -> None:
    change, reason = MANIFESTS[case]
    change(stored_sample.folder)
    store = ("--from", stored_sample.folder)

    for command in (
        ("show", *store),
        ("verify", *store, "-q"),
        ("restore", *store, "--into", postgres.conninfo("never_made"), "--create", "-q"),
        ("restore", *store, "--to-directory", tmp_path / "out", "-q"),
    )[:: 1 if case in ("cut short", "a path out of the archive") else 2]:
        assert_one_sentence(run_pgstow(*command), DAMAGED, f"manifests/prod/.*{reason}")

    assert not list(tmp_path.rglob("passwd"))
    assert not (tmp_path / "out").exists()
    assert ("never_made",) not in Database("", postgres.conninfo()).fetch("SELECT datname FROM pg_database")


def test_the_newest_backup_being_damaged_does_not_bring_an_older_one_back_unasked(
    stored_sample: StoredSample, sample_database: Database, empty_target: Database
) -> None:
    """``latest`` is always the newest backup. An older backup has older data, so a person has to choose it."""
    options = ("--to", stored_sample.folder, "--cluster", "prod", "-q")
    source = stored_sample.source
    older = stored_sample.manifest.backup_id
    assert run_pgstow("backup", source, *options).exit_code == 0
    newest = max((stored_sample.folder / "manifests").rglob("*.json"))
    newest.write_bytes(newest.read_bytes()[:-1])
    into = ("--from", stored_sample.folder, "--into", empty_target.conninfo, "-q", "-t", "shop.product")

    assert_one_sentence(run_pgstow("restore", "latest", *into), DAMAGED, newest.stem)
    assert run_pgstow("restore", older, *into).exit_code == 0
