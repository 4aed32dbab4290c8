import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from support.faulty_http import Fault, FaultyProxy
from support.findings import by_subject, problems
from support.object_stores import StoreBucket

from pipeline.backup.request import BackupRequest
from pipeline.check.check import Place
from pipeline.check.finding import Finding, Severity
from pipeline.check.secrets import judge_sealing
from pipeline.check.store import examine_store, judge_endpoint
from pipeline.postgres.conninfo import Conninfo
from pipeline.trust.age import Identities, Recipients
from storage_backends import AccessDenied, Body, ObjectInfo, looks_first, open_backend
from storage_backends.memory import MemoryBackend


def refuse_all_but_creating(proxy: FaultyProxy) -> None:
    proxy.fail(with_=Fault.FORBIDDEN, method="GET|HEAD|POST|DELETE", times=math.inf)
    proxy.fail(with_=Fault.CONDITION_REQUIRED, method="PUT", times=math.inf)


@pytest.fixture
def proxy(s3_bucket: StoreBucket) -> Iterator[FaultyProxy]:
    with FaultyProxy(s3_bucket.endpoint, verify_digests=True) as proxy:
        yield proxy


@pytest.fixture
def examined(s3_bucket: StoreBucket, proxy: FaultyProxy) -> Callable[[], dict[str, Finding]]:
    """Examine the bucket behind the proxy."""

    def run() -> dict[str, Finding]:
        with closing(open_backend(s3_bucket.url_at(proxy.url), give_up_after=0)) as store:
            return by_subject(examine_store(store, "prod/eu"))

    return run


def keys(bucket: StoreBucket) -> list[str]:
    listed = bucket.client.list_objects_v2(Bucket=bucket.bucket).get("Contents", [])
    return [entry["Key"] for entry in listed]


def test_credentials_with_all_rights_get_warnings(
    examined: Callable[[], dict[str, Finding]], s3_bucket: StoreBucket
) -> None:
    for _ in range(2):
        assert {subject: finding.outcome for subject, finding in examined().items()} == {
            "store": Severity.OK,
            "create-only": Severity.OK,
            "checksums": Severity.OK,
            "reading": Severity.NOTE,
            "overwriting": Severity.WARNING,
            "deleting": Severity.WARNING,
        }
        assert keys(s3_bucket) == []


def test_credentials_that_can_only_create_get_no_warnings(
    examined: Callable[[], dict[str, Finding]], proxy: FaultyProxy, s3_bucket: StoreBucket
) -> None:
    refuse_all_but_creating(proxy)
    for _ in range(2):
        found = examined()
        assert [finding.outcome for finding in found.values()] == [
            Severity.OK,
            Severity.OK,
            Severity.OK,
            Severity.NOTE,
            Severity.OK,
            Severity.OK,
        ]
        assert "can't list and read manifests" in found["reading"].sentence
        # The credentials can't remove the objects. Each check leaves the same objects.
        assert keys(s3_bucket) == [
            "some/prefix/data/prod%2Feu/%40check/probe",
            "some/prefix/manifests/prod%2Feu/%40check/probe",
        ]


def test_a_backup_host_may_read_manifests(examined: Callable[[], dict[str, Finding]], proxy: FaultyProxy) -> None:
    proxy.fail(with_=Fault.FORBIDDEN, method="GET", path="/data/", times=math.inf)
    proxy.fail(with_=Fault.FORBIDDEN, method="POST|DELETE", times=math.inf)
    proxy.fail(with_=Fault.CONDITION_REQUIRED, method="PUT", times=math.inf)
    assert all(finding.outcome is Severity.OK for finding in examined().values())


@pytest.mark.parametrize("area", ["data", "manifests"])
def test_a_put_without_a_condition_overwrites(
    examined: Callable[[], dict[str, Finding]], proxy: FaultyProxy, area: str
) -> None:
    other = {"data": "manifests", "manifests": "data"}[area]
    proxy.fail(with_=Fault.CONDITION_REQUIRED, method="PUT", path=f"/{other}/", times=math.inf)
    found = examined()
    assert found["create-only"].outcome is Severity.OK
    assert found["overwriting"].outcome is Severity.WARNING
    assert f"overwrite objects under {area}/, by" in found["overwriting"].sentence


def test_a_lock_on_the_probe_does_not_hide_the_right_to_delete(s3_locking_bucket: StoreBucket) -> None:
    locked = s3_locking_bucket
    retention = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}
    locked.client.put_object_lock_configuration(
        Bucket=locked.bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": retention}
    )
    with closing(open_backend(locked.url)) as store:
        found = by_subject(examine_store(store, "prod"))
    assert found["deleting"].outcome is Severity.WARNING
    assert "under data/ and manifests/" in found["deleting"].sentence


@pytest.mark.parametrize("area", ["data", "manifests"])
def test_objects_must_be_creatable_under_each_prefix(
    examined: Callable[[], dict[str, Finding]], proxy: FaultyProxy, area: str
) -> None:
    proxy.fail(with_=Fault.FORBIDDEN, method="PUT", path=f"/{area}/", times=math.inf)
    finding = problems(examined().values())["store"]
    assert f"under {area}/" in finding.sentence
    assert "s3:PutObject" in (finding.remedy or "")


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "User: arn:aws:iam::1:user/backup is not authorized to perform: s3:PutObjectRetention on resource: arn:aws:s3:::bucket/key",
            "Grant these credentials s3:PutObjectRetention there.",
        ),
        ("Access Denied.", "Grant these credentials s3:PutObject and, for the locks, s3:PutObjectRetention (GCS: "),
    ],
)
def test_locks_need_their_own_permission(
    s3_locking_bucket: StoreBucket, proxy: FaultyProxy, said: str, remedy: str
) -> None:
    proxy.fail(with_=Fault.FORBIDDEN, method="PUT", times=math.inf, message=said)
    with closing(open_backend(s3_locking_bucket.url_at(proxy.url), {"retain_days": "1"})) as store:
        found = by_subject(examine_store(store, "prod"))
    assert (found["store"].remedy or "").startswith(remedy)


def test_a_store_that_overwrites_is_a_problem(examined: Callable[[], dict[str, Finding]], proxy: FaultyProxy) -> None:
    proxy.fail(with_=Fault.NO_CONDITION, method="PUT", times=math.inf)
    assert list(problems(examined().values())) == ["create-only"]


def test_create_only_look_is_a_note(s3_bucket: StoreBucket, proxy: FaultyProxy) -> None:
    proxy.fail(with_=Fault.NO_CONDITION, method="PUT", times=math.inf)
    url = f"{s3_bucket.url_at(proxy.url)}&create_only=look"
    with closing(open_backend(url, give_up_after=0)) as store:
        found = by_subject(examine_store(store, "prod", looks_first=looks_first(url, {})))
    assert not problems(found.values())
    assert found["create-only"].outcome is Severity.NOTE
    assert "itself would overwrite" in found["create-only"].sentence


def test_a_broken_connection_does_not_look_like_an_overwriting_store(
    s3_bucket: StoreBucket, proxy: FaultyProxy
) -> None:
    refuse_all_but_creating(proxy)
    proxy.fail(with_=Fault.RESET_AFTER, method="PUT", path="/data/", skip=1)
    with closing(open_backend(s3_bucket.url_at(proxy.url), sleep=lambda seconds: None)) as store:
        assert not problems(examine_store(store, "prod"))


def test_a_store_that_checks_no_checksum_is_a_warning(s3_bucket: StoreBucket) -> None:
    with closing(open_backend(s3_bucket.url)) as store:  # moto, without the proxy
        assert by_subject(examine_store(store, "prod"))["checksums"].outcome is Severity.WARNING
    assert keys(s3_bucket) == []


def test_a_missing_bucket_is_a_problem(s3_bucket: StoreBucket) -> None:
    lacking = dataclasses.replace(s3_bucket, bucket="no-such-bucket")
    with closing(open_backend(lacking.url)) as store:
        [finding] = examine_store(store, "prod")
    assert finding.outcome is Severity.PROBLEM
    assert "there is no bucket" in finding.sentence
    assert finding.remedy


def test_without_credentials_there_is_one_problem_and_no_praise(
    s3_bucket: StoreBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with closing(open_backend(s3_bucket.url)) as store:
        [finding] = examine_store(store, "prod")
    assert finding.outcome is Severity.PROBLEM
    assert "no AWS credentials" in finding.sentence


def test_an_unreachable_store_is_a_problem(s3_bucket: StoreBucket) -> None:
    with closing(open_backend(s3_bucket.url_at("http://127.0.0.1:1"), give_up_after=0)) as store:
        [finding] = examine_store(store, "prod")
    assert finding.outcome is Severity.PROBLEM
    assert "127.0.0.1:1" in finding.sentence


def test_a_gcs_bucket_is_examined_too(gcs_bucket: StoreBucket) -> None:
    with closing(open_backend(gcs_bucket.url)) as store:
        found = by_subject(examine_store(store, "prod"))
    assert not problems(found.values())
    assert found["deleting"].outcome is Severity.WARNING
    assert found["overwriting"].outcome is Severity.WARNING


def test_a_folder_is_fine_but_protects_nothing(tmp_path: Path) -> None:
    with closing(open_backend(str(tmp_path))) as store:
        found = by_subject(examine_store(store, "prod"))
        assert not list(store.list())
    assert {finding.outcome for finding in found.values()} == {Severity.OK, Severity.NOTE}
    assert found["protection"].outcome is Severity.NOTE


@pytest.mark.parametrize(("minutes", "words"), [(6, "6 minutes behind"), (-20, "20 minutes ahead of")])
def test_a_wrong_clock_is_a_warning(minutes: int, words: str) -> None:
    class Skewed(MemoryBackend):
        def put(self, key: str, body: bytes, *, sha256: bytes) -> ObjectInfo:  # type: ignore[override]
            info = super().put(key, body, sha256=sha256)
            offset = timedelta(minutes=minutes, seconds=1 if minutes > 0 else -1)
            return dataclasses.replace(info, modified=info.modified + offset)

    [finding] = [finding for finding in examine_store(Skewed(), "prod") if finding.subject == "clock"]
    assert finding.outcome is Severity.WARNING
    assert words in finding.sentence


def test_check_changes_no_backup() -> None:
    store = MemoryBackend()
    body = b"{}"
    store.put("manifests/prod/db/x.json", body, sha256=hashlib.sha256(body).digest())
    list(examine_store(store, "prod"))
    assert [info.key for info in store.list()] == ["manifests/prod/db/x.json"]


@pytest.mark.parametrize(
    ("url", "environment", "words"),
    [
        ("s3://b?region=x", {}, None),
        ("s3://b?endpoint=https://minio:9000", {}, None),
        ("s3://b?endpoint=http://localhost:9000", {}, None),
        ("s3://b?endpoint=http://minio:9000&allow_http=true", {}, "by http://minio:9000, without encryption"),
        (
            "s3://b?allow_http=true",
            {"AWS_ENDPOINT_URL": "http://minio:9000"},
            "by http://minio:9000, without encryption",
        ),
        ("gs://b", {"STORAGE_EMULATOR_HOST": "http://localhost:1"}, "STORAGE_EMULATOR_HOST: backups go to"),
        ("s3://b", {"STORAGE_EMULATOR_HOST": "http://localhost:1"}, None),
    ],
)
def test_connections_that_others_can_listen_to_are_a_warning(
    url: str, environment: dict[str, str], words: str | None
) -> None:
    place = Place.of(url, {}, environment)
    finding = judge_endpoint(place.endpoint, emulator=place.emulator)
    assert (finding is None) == (words is None)
    if finding:
        assert finding.outcome is Severity.WARNING
        assert words
        assert words in finding.sentence


class WithoutKeys(MemoryBackend):
    """A store in which no key object may be created, as with a policy from before there were any."""

    def put(self, key: str, body: Body, *, sha256: bytes) -> ObjectInfo:
        if key.startswith("keys/"):
            raise AccessDenied("not for you")
        return super().put(key, body, sha256=sha256)


def test_sealed_backups_need_the_right_to_create_key_objects() -> None:
    assert not problems(examine_store(WithoutKeys(), "prod"))
    [finding] = problems(examine_store(WithoutKeys(), "prod", sealed=True)).values()
    assert "can't create objects under keys/: not for you" in finding.sentence
    store = MemoryBackend()
    found = by_subject(examine_store(store, "prod", sealed=True))
    assert found["store"].outcome is Severity.OK
    assert "keys/" in found["store"].sentence
    assert not list(store.list())


@pytest.mark.parametrize(
    ("url", "sealed", "outcome"),
    [
        ("s3://bucket/prefix", False, [Severity.WARNING]),
        ("gs://bucket/prefix", False, [Severity.WARNING]),
        ("file:///mnt/backups", False, []),
        ("s3://bucket/prefix", True, [Severity.OK]),
        ("file:///mnt/backups", True, [Severity.OK]),
    ],
)
def test_unsealed_backups_on_another_machine_are_a_warning(url: str, sealed: bool, outcome: list[Severity]) -> None:
    recipients = Recipients.parse(Identities.new()[0].public) if sealed else None
    request = BackupRequest(source=Conninfo.parse("dbname=shop"), recipients=recipients)
    assert [finding.outcome for finding in judge_sealing(request, url)] == outcome
