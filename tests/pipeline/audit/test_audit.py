"""The recipe of an audit: several stores, the backups of whole servers, and what is about no single database."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.shelf import NOW, BackupBuilder
from support.signing import make_key, sign_manifest

from pipeline.audit.audit import AuditRequest, audit
from pipeline.audit.policy import Policy
from pipeline.audit.report import AuditReport
from pipeline.errors import InvalidRequest
from pipeline.events import Event
from pipeline.trust.policy import Trust
from storage_backends import AccessDenied
from storage_backends.memory import MemoryBackend

HOUR = timedelta(hours=1)
QUIET: Callable[[Event], None] = lambda _: None  # noqa: E731


@pytest.fixture
def shelf() -> BackupBuilder:
    return BackupBuilder(MemoryBackend())


def run(*shelves: BackupBuilder, policy: dict[str, Any] | None = None, **request: Any) -> AuditReport:
    since = NOW.date() - timedelta(days=6)
    made = AuditRequest(since=since, policy=Policy.model_validate(policy or {}), **request)
    return audit(made, [one.store for one in shelves], QUIET, NOW)


def names(report: AuditReport) -> list[str]:
    return [one.name for one in report.findings]


def test_an_empty_store_is_critical(shelf: BackupBuilder) -> None:
    report = run(shelf)
    assert names(report) == ["no-backup", "no-trusted-keys"]
    assert report.findings[0].store == shelf.store.url


def test_good_backups_leave_only_notes(shelf: BackupBuilder) -> None:
    for age in (30, 6):
        shelf.add_cluster(age * HOUR)
    report = run(shelf)
    assert names(report) == ["no-trusted-keys", "no-rpo"]
    assert report.findings[1].sentence == (
        "There is no rpo and no schedule for 3 databases, such as prod/@globals, so no backup is overdue."
    )
    assert [(one.database, len(one.backups)) for one in report.databases] == [
        ("@cluster", 2),
        ("@globals", 2),
        ("shop", 2),
    ]
    [store] = report.stores
    assert (store.backups, store.objects, store.stored_size, store.orphans) == (6, 8, 32, 0)
    assert len(names(run(shelf, policy={"defaults": {"rpo": "12h"}}))) == 4, "no-trusted-keys and three gaps"


def test_a_lost_member_makes_the_backup_of_the_server_bad(shelf: BackupBuilder) -> None:
    _, shop, whole = shelf.add_cluster(HOUR)
    shelf.store.delete([f"{shop.data_prefix}0.dat.00000.zst"])
    report = run(shelf)
    assert names(report)[:4] == ["member-missing", "no-backup", "object-missing", "no-backup"]
    assert report.databases[0].backups[0].backup_id == whole.backup_id
    assert report.databases[0].last_good is None
    alone = run(shelf, database="@cluster")
    assert names(alone) == ["no-trusted-keys", "no-rpo"], "the members are not known"


def test_databases_of_two_stores_are_joined(shelf: BackupBuilder) -> None:
    other = BackupBuilder(MemoryBackend())
    shelf.add(HOUR, "shop-2")  # in a store, "shop-2/" is before "shop/"
    shelf.attest(shelf.add(HOUR, "shop"))
    other.add(HOUR, "crm")
    for info in list(shelf.store.list("manifests/prod/shop/")) + list(shelf.store.list("data/prod/shop/")):
        body = shelf.store.get(info.key)
        other.store.put(info.key, body, sha256=bytes.fromhex((info.checksum or "")[7:]))
    report = run(shelf, other, policy={"databases": {"prod/shop": {"stores": 2}, "prod/new": {}}})
    assert [(one.database, len(one.backups)) for one in report.databases] == [
        ("crm", 1),
        ("new", 0),
        ("shop", 2),
        ("shop-2", 1),
    ]
    assert names(report) == ["no-backup", "no-trusted-keys", "no-rpo"]
    assert [one.backups for one in report.stores] == [2, 2]


def test_heads_and_signatures(shelf: BackupBuilder, tmp_path: Path) -> None:
    key = make_key(tmp_path)
    with pytest.raises(InvalidRequest, match="--trusted-key"):
        run(shelf, policy={"databases": {"prod/*": {"signed": True}}})
    head = sign_manifest(shelf.store, shelf.add(HOUR), key.signer)
    shelf.add(2 * HOUR)
    trust: Trust = key.trust
    report = run(shelf, policy={"defaults": {"signed": True, "rpo": "2h"}}, trust=trust, heads=[head.sha256])
    assert names(report) == ["unsigned"]
    assert [one.statement_sha256 for one in report.stores[0].heads] == [head.sha256]
    assert report.trusted_keys == [one.key.keyid for one in trust.keys]
    lost = run(shelf, trust=trust, heads=["0" * 64], policy={"ignore": [{"finding": "unsigned", "reason": "old"}]})
    assert names(lost)[0] == "head-lost"
    assert "old" in next(one.sentence for one in lost.findings if one.name == "unsigned")


def test_a_folder_that_can_not_be_listed_is_told_once() -> None:
    class Closed(MemoryBackend):
        def list(self, prefix: str = "") -> Any:
            if prefix.startswith(("data/", "keys/")):
                raise AccessDenied("no")
            return super().list(prefix)

    shelf = BackupBuilder(Closed())
    for name in ("shop", "crm"):
        shelf.add(HOUR, name)
    report = run(shelf)
    assert names(report) == ["not-listed", "not-listed", "no-trusted-keys", "no-rpo"]
    assert (report.stores[0].objects, report.stores[0].stored_size) == (4, 16), "by the manifests"
