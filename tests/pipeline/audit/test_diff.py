import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.in_process import call_pgstow
from support.shelf import SOURCE, BackupBuilder
from support.signing import make_key, sign_manifest

from cli.errors import ExitCode
from pipeline.audit.diff import PREVIOUS, BackupDiff, FieldDiff, TableChange, diff_backups
from pipeline.catalog.find import BackupSelector
from pipeline.catalog.keys import CLUSTER, GLOBALS, BackupRef
from pipeline.catalog.manifest import TableData
from pipeline.catalog.origin import DumpOptions, Extension
from pipeline.errors import BackupDamaged, BackupNotFound, InvalidRequest
from storage_backends.local import LocalBackend
from storage_backends.memory import MemoryBackend

DAY = timedelta(days=1)
PLAIN = DumpOptions(format="plain", jobs=1, only=None)


def table(name: str, rows: int = 1, size: int = 10, checksum: str = "a", database: str | None = None) -> TableData:
    return TableData(
        checksum=checksum * 64, columns="", database=database, relation=name, rows=rows, schema="public", size=size
    )


@pytest.fixture
def shelf() -> BackupBuilder:
    return BackupBuilder(MemoryBackend())


def add(shelf: BackupBuilder, days: int, tables: Sequence[TableData] = (), **fields: Any) -> BackupRef:
    """Store a backup that is so many days old."""
    return shelf.add(days * DAY, **{"tables": list(tables), "dump": PLAIN, **fields})


def diff(shelf: BackupBuilder, before: str = PREVIOUS, after: str = "latest", **wanted: Any) -> BackupDiff:
    store = shelf.store
    selected = [BackupSelector(backup, **wanted) for backup in (before, after)]
    return diff_backups(store, selected[0], store, selected[1], lambda _: None)


def test_tables_that_went_came_and_changed_are_named(shelf: BackupBuilder) -> None:
    add(shelf, 2, [table("same"), table("gone", 7, 70), table("more", 1), table("edited", checksum="a")])
    add(shelf, 1, [table("edited", checksum="b"), table("more", 3, 30), table("new", 5, 50), table("same")])
    found = diff(shelf)
    assert [
        (one.relation, one.change, one.rows_before, one.rows_after, one.size_before, one.size_after)
        for one in found.tables
    ] == [
        ("gone", TableChange.WENT, 7, 0, 70, 0),
        ("new", TableChange.CAME, 0, 5, 0, 50),
        ("more", TableChange.CHANGED, 1, 3, 10, 30),
        ("edited", TableChange.CONTENT, 1, 1, 10, 10),
    ]
    assert (found.same, found.same_size, found.fields, found.differs) == (1, 0, [], True)


def test_equal_backups_do_not_differ(shelf: BackupBuilder) -> None:
    for days in (2, 1):
        add(shelf, days, [table("a"), table("b")])
    found = diff(shelf)
    assert (found.same, found.tables, found.differs) == (2, [], False)


def test_tables_of_the_same_name_in_two_databases_of_a_script_are_told_apart(shelf: BackupBuilder) -> None:
    script = {"database": CLUSTER, "dump": DumpOptions(format="script", jobs=1, only=None)}
    add(shelf, 2, [table("a", 1, database="x"), table("a", 2, database="y")], **script)
    add(shelf, 1, [table("a", 1, database="x"), table("a", 3, database="y")], **script)
    found = diff(shelf, database=CLUSTER)
    assert [(one.database, one.rows_after) for one in found.tables] == [("y", 3)]
    assert found.same == 1


@pytest.mark.parametrize("sealed", [(True, True), (True, False), (False, True)])
def test_checksums_under_different_keys_say_nothing(shelf: BackupBuilder, sealed: tuple[bool, bool]) -> None:
    add(shelf, 2, [table("a", checksum="a"), table("b", 1)], sealed=sealed[0])
    add(shelf, 1, [table("a", checksum="b"), table("b", 2)], sealed=sealed[1])
    found = diff(shelf)
    assert [one.relation for one in found.tables] == ["b"]
    assert (found.same, found.same_size) == (0, 1)


def test_checksums_under_one_key_are_compared(shelf: BackupBuilder) -> None:
    ref = add(shelf, 1, [table("a")], sealed=True)
    found = diff(shelf, ref.backup_id, ref.backup_id)
    assert (found.same, found.same_size, found.differs) == (1, 0, False)


def test_changes_of_the_server_the_options_and_the_sealing_are_named(shelf: BackupBuilder) -> None:
    def source(version: str, system: str | None, *extensions: str) -> Any:
        each = [Extension(name=name, version=number) for name, number in (text.split() for text in extensions)]
        return SOURCE.model_copy(
            update={"server_version": version, "system_identifier": system, "extensions": each, "wal_lsn": version}
        )

    old, new = source("15.18", "1", "postgis 3.3", "hstore 1.8"), source("17.2", None, "postgis 3.5", "citext 1.6")
    shelf.add(2 * DAY, source=old)
    changed = DumpOptions(format="custom", jobs=8, only=None, exclude_tables=["log"])
    shelf.add(DAY, sealed=True, dump=changed, source=new)
    assert set(diff(shelf, partial=True).fields) == {
        FieldDiff("source.server_version", "15.18", "17.2"),
        FieldDiff("source.system_identifier", "1", None),
        FieldDiff("source.extensions.postgis", "3.3", "3.5"),
        FieldDiff("source.extensions.hstore", "1.8", None),
        FieldDiff("source.extensions.citext", None, "1.6"),
        FieldDiff("dump.format", "directory", "custom"),
        FieldDiff("dump.partial", "no", "yes"),
        FieldDiff("dump.exclude_tables", None, "log"),
        FieldDiff("sealed", "no", "yes"),
    }


def test_the_previous_backup_is_the_latest_whole_one_with_older_data(shelf: BackupBuilder) -> None:
    oldest, partial, middle, newest = (
        add(shelf, 4),
        add(shelf, 3, dump=DumpOptions(format="plain", jobs=1, only="schema")),
        add(shelf, 2),
        add(shelf, 1),
    )
    add(shelf, 3, database="crm")
    assert diff(shelf, database="shop").before.backup_id == middle.backup_id
    assert diff(shelf, after=newest.backup_id).before.backup_id == middle.backup_id, "of the same database"
    assert diff(shelf, after=middle.backup_id).before.backup_id == oldest.backup_id
    assert diff(shelf, after=middle.backup_id, partial=True).before.backup_id == partial.backup_id
    with pytest.raises(BackupNotFound, match="no backup of shop"):
        diff(shelf, after=oldest.backup_id)
    with pytest.raises(InvalidRequest, match="several databases"):
        diff(shelf)


def test_the_members_of_whole_servers_are_compared(shelf: BackupBuilder) -> None:
    for days, rows, names in ((2, 1, ("shop", "old")), (1, 2, ("shop", "new"))):
        members = [shelf.add(days * DAY, GLOBALS), *(add(shelf, days, [table("a", rows)], database=n) for n in names)]
        shelf.add(days * DAY, CLUSTER, members=members)
    found = diff(shelf, database=CLUSTER)
    assert found.fields == [FieldDiff("members", "old", None), FieldDiff("members", None, "new")]
    assert [(one.after.database, len(one.tables)) for one in found.members] == [(GLOBALS, 0), ("shop", 1)]

    last = BackupRef("prod", "shop", found.members[1].after.backup_id)
    shelf.store.delete([last.manifest_key])
    with pytest.raises(BackupDamaged, match="is missing"):
        diff(shelf, database=CLUSTER)


def test_members_are_followed_only_from_the_backup_of_a_whole_server(shelf: BackupBuilder) -> None:
    """Members that name each other would be read without end."""
    inner = [add(shelf, days, database="inner") for days in (2, 1)]
    forged = [add(shelf, days, database="shop", members=[ref]) for days, ref in zip((2, 1), inner, strict=True)]
    assert diff(shelf, *(ref.backup_id for ref in forged)).members == []


def test_the_command_compares_backups_of_two_stores_and_databases(tmp_path: Path) -> None:
    shelves = [BackupBuilder(LocalBackend(tmp_path / name, create=True)) for name in ("one", "two")]
    first = add(shelves[0], 2, [table("a\x1b[31m", 5)])
    second = add(shelves[1], 1, [table("a\x1b[31m", 2)], database="test")
    places = ("--from", tmp_path / "one", "--after-from", tmp_path / "two", "--after-database", "test")
    result = call_pgstow("diff", "latest", "latest", "--database", "shop", *places)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert "public.a␛[31m" in result.stdout
    assert "changed" in result.stdout
    assert "-3" in result.stdout
    result = call_pgstow("diff", "latest", "latest", "--database", "shop", *places, "--json")
    document = json.loads(result.stdout)
    assert [document[side]["backup_id"] for side in ("before", "after")] == [first.backup_id, second.backup_id]
    assert document["differs"]
    assert document["tables"][0]["rows_after"] == 2


def test_a_backup_that_no_trusted_key_signed_is_refused(tmp_path: Path) -> None:
    shelf, key = BackupBuilder(LocalBackend(tmp_path / "store", create=True)), make_key(tmp_path)
    forged, signed = add(shelf, 3), add(shelf, 2)
    last = add(shelf, 1)
    for ref in (signed, last):
        sign_manifest(shelf.store, ref, key.signer)
    place = ("--from", tmp_path / "store", "--trusted-key", key.public)
    assert call_pgstow("diff", *place, "--json").exit_code == 0
    refused = call_pgstow("diff", forged.backup_id, *place)
    assert (refused.exit_code, "is not believed" in refused.stderr) == (ExitCode.DAMAGED, True)
    assert call_pgstow("diff", forged.backup_id, *place, "--unsigned").exit_code == 0
