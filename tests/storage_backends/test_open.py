import hashlib
import re
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from storage_backends import (
    AccessDenied,
    BucketNotFound,
    InvalidStorageURL,
    StorageError,
    endpoint_of,
    open_backend,
    place_of,
)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/some/prefix/?region=eu-central-1&endpoint=https://s3.example.com", "s3://bucket/some/prefix"),
        ("s3://bucket/100%25+é", "s3://bucket/100%25+é"),
        ("gs://bucket/prefix?endpoint=http://localhost:4443&project=some", "gs://bucket/prefix"),
    ],
)
def test_url_has_no_options(url: str, expected: str, aws_credentials: None) -> None:
    backend = open_backend(url)
    assert backend.url == expected
    backend.close()


@pytest.mark.parametrize(
    ("url", "options", "sentence"),
    [
        ("ftp://host/path", {}, "ftp:// is no known store"),
        ("memory://1", {}, "memory:// is no known store"),
        ("s3://", {}, "names no bucket"),
        ("gs:///prefix", {}, "names no bucket"),
        ("", {}, "the path of the local directory is empty"),
        ("file://server/share", {}, "names the host server"),
        (
            "s3://bucket?colour=red",
            {},
            "“colour” is no option of an s3:// URL; it has allow_http, ca_bundle, checksum, ",
        ),
        ("s3://bucket", {"project": "p"}, "“project” is no option of an s3:// URL"),
        ("gs://bucket?path_style=true", {}, "“path_style” is no option of a gs:// URL"),
        ("s3:bucket/prefix", {}, "a path can't begin with “s3:”; write s3://bucket/prefix"),
        ("S3:/bucket/prefix", {}, "a path can't begin with “S3:”; write s3://bucket/prefix"),
        ("gs:bucket", {}, "gs://bucket/prefix"),
        (
            "sftp:user@host:/backups",
            {},
            "a path can't begin with “sftp:”; write s3://bucket/prefix, gs://bucket/prefix, file:///path",
        ),
        ("~/backups", {"create": "true"}, "write the whole path, or ./~…"),
        ("file:/tmp", {}, "a path can't begin with “file:”; write file:///path"),
        ("/nowhere", {"create": "yes"}, "create of a local directory must be true or false"),
        ("s3://bucket", {"create": "true"}, "“create” is no option of an s3:// URL"),
        ("file:///tmp?region=x", {}, "“region” is no option of a file:// URL; it has create"),
        ("/tmp", {"region": "x"}, "“region” is no option of a local directory"),
        ("s3://bucket?path_style=yes", {}, "path_style of an s3:// URL must be true or false"),
        ("s3://bucket?checksum=crc32", {}, "must be sha256 or md5"),
        ("s3://bucket?create_only=hope", {}, "create_only of an s3:// URL must be condition or look"),
        ("gs://bucket?create_only=look", {}, "“create_only” is no option of a gs:// URL"),
        ("s3://bucket?read_timeout=-1", {}, "must be a number of seconds above 0"),
        ("s3://bucket?retain_days=0", {}, "retain_days of an s3:// URL must be a number of days, up to 36500"),
        ("gs://bucket?retain_until=soon", {}, "must be a time like 2026-12-31T00:00:00Z"),
        ("gs://bucket?lock_mode=Locked", {}, "must be governance or compliance"),
        ("/tmp", {"retain_days": "7"}, "“retain_days” is no option of a local directory"),
        ("s3://bucket?region=", {}, "region of an s3:// URL is empty"),
        ("s3://bucket?region=a&region=b", {}, "given twice"),
        ("s3://bucket?region", {}, "can't be read"),
        ("s3://bucket?endpoint=localhost:9000", {}, "must be like https://host:port"),
        ("s3://bucket/prefix#fragment", {}, "may not have “#”"),
        ("s3://bucket", {"profile": "no-such-profile"}, "no-such-profile"),
    ],
)
def test_what_is_not_understood_is_said_in_one_sentence(
    url: str, options: dict[str, str], sentence: str, aws_credentials: None
) -> None:
    with pytest.raises(InvalidStorageURL) as caught:
        open_backend(url, options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    if not options:
        with pytest.raises(InvalidStorageURL, match=re.escape(str(caught.value))):
            place_of(url)


@pytest.mark.parametrize("url", ["/some/folder", "file:///some/folder", "s3://no-such-bucket/x?region=eu", "gs://b"])
def test_a_url_is_checked_without_opening_anything(url: str) -> None:
    program = f"import sys; from storage_backends import place_of; place_of({url!r}); print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_links_in_a_circle_are_no_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(StorageError):
        list(open_backend(f"{tmp_path}/link/store").list())
    with (
        closing(open_backend(f"{tmp_path}/link/store", {"create": "true"})) as store,
        pytest.raises(StorageError, match="symbolic links"),
    ):
        store.put("key", b"", sha256=hashlib.sha256(b"").digest())
    assert place_of(f"{tmp_path}/link") == f"{tmp_path}/link"


def test_a_place_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    folders = [str(tmp_path), f"{tmp_path}/", f"file://{tmp_path}", f"{tmp_path}/link"]
    assert {place_of(folder) for folder in folders} == {str(tmp_path)}
    assert place_of("s3://b/x?region=eu") == place_of("s3://b/x/")
    assert len({place_of(url) for url in ("s3://b/x", "s3://b/y", "gs://b/x", "s3://b/x?endpoint=https://h")}) == 4


@pytest.mark.parametrize(
    "url",
    [
        "s3://b?region=x&endpoint=http://minio:9000",
        "gs://b?endpoint=http://10.0.0.1",
        "s3://b?region=x&endpoint=HTTP://h",
    ],
)
def test_plain_text_to_another_machine_needs_a_word(url: str, aws_credentials: None) -> None:
    """This applies to a private network of containers, too. Only the user knows who else is in that network."""
    for use in (open_backend, place_of):
        with pytest.raises(InvalidStorageURL, match=r"without encryption.*allow_http=true"):
            use(url)
    for allowed in (open_backend(f"{url}&allow_http=true"), open_backend(url, {"allow_http": "true"})):
        allowed.close()
    assert place_of(url, {"allow_http": "true"}) == place_of(f"{url}&allow_http=true")
    with pytest.raises(InvalidStorageURL):
        open_backend(f"{url}&allow_http=false")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.3.2.1", "[::1]", "minio.localhost"])
def test_plain_text_on_this_machine_needs_none(host: str, aws_credentials: None) -> None:
    for url in (f"s3://b?region=x&endpoint=http://{host}:9000", f"gs://b?endpoint=http://{host}:9000"):
        open_backend(url).close()


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("s3://b?region=x", "AWS_ENDPOINT_URL"),
        ("s3://b?region=x", "AWS_ENDPOINT_URL_S3"),
        ("gs://b", "STORAGE_EMULATOR_HOST"),
    ],
)
def test_plain_text_that_the_environment_asks_for(
    url: str, variable: str, aws_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "http://minio:9000")
    with pytest.raises(InvalidStorageURL, match="at minio is reached without encryption"):
        open_backend(url)
    open_backend(url, {"allow_http": "true"}).close()
    assert endpoint_of(url, {}, {variable: "http://minio:9000"}) == "http://minio:9000"
    assert endpoint_of("/a/folder", {}, {variable: "http://minio:9000"}) is None


@pytest.mark.parametrize("url", ["s3://id:hunter2@bucket/prefix", "s3://bucket?endpoint=https://id:hunter2@host"])
def test_secrets_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidStorageURL, match="may not have credentials") as caught:
        open_backend(url)
    assert "hunter2" not in str(caught.value)


def test_options_win_over_the_query(aws_credentials: None) -> None:
    backend = open_backend("s3://bucket?path_style=nonsense", {"path_style": "true"})
    backend.close()


def test_until_when_what_is_put_is_locked(aws_credentials: None) -> None:
    with closing(open_backend("s3://bucket?retain_days=30", rate=1)) as by_days:
        assert by_days.retained_until is not None
        days = by_days.retained_until - datetime.now(UTC) + timedelta(minutes=1)
    assert timedelta(days=30) <= days < timedelta(days=30, minutes=2)
    with closing(open_backend("s3://bucket?retain_days=30", {"retain_until": "2099-01-01T01:00:00+01:00"})) as by_time:
        assert by_time.retained_until == datetime(2099, 1, 1, tzinfo=UTC)
    with closing(open_backend("/tmp")) as folder:
        assert folder.retained_until is None


@pytest.mark.parametrize("prefix", ["dots/../up", "a//b", "./a", "a\\b", "a" * 1025])
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_unusual_prefixes_are_refused(scheme: str, prefix: str) -> None:
    for use in (open_backend, place_of):
        with pytest.raises(InvalidStorageURL, match=r"prefix .* can't begin an object's key: it "):
            use(f"{scheme}://bucket/{prefix}")


def test_a_folder_is_made_only_if_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "mnt" / "nas"
    for url in (str(folder), folder.as_uri()):
        with pytest.raises(BucketNotFound, match=f"there is no folder {folder}"):
            open_backend(url).put("key", b"", sha256=hashlib.sha256(b"").digest())
    assert not folder.parent.exists()
    open_backend(f"{folder.as_uri()}?create=true").put("key", b"", sha256=hashlib.sha256(b"").digest())
    assert [info.key for info in open_backend(str(folder)).list()] == ["key"]


def test_local_urls_open_what_they_name(tmp_path: Path) -> None:
    root = tmp_path / "50% of é?"
    backend = open_backend(str(root), {"create": "true"})
    backend.put("key", b"", sha256=hashlib.sha256(b"").digest())
    assert (root / "key").is_file()
    assert backend.url == root.as_uri()
    assert open_backend(backend.url).url == backend.url


@pytest.mark.parametrize("storage_class", ["GLACIER", "DEEP_ARCHIVE"])
def test_a_storage_class_that_manifests_could_not_be_read_from(storage_class: str) -> None:
    with pytest.raises(InvalidStorageURL, match="let a lifecycle rule move data/ there"):
        open_backend(f"s3://bucket?storage_class={storage_class}")


def test_no_google_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    with pytest.raises(AccessDenied, match="no Google credentials; set GOOGLE_APPLICATION_CREDENTIALS"):
        open_backend("gs://bucket")


def test_importing_the_package_imports_no_sdk() -> None:
    program = (
        "import sys, storage_backends; print(*{'boto3', 'botocore', 'google.cloud', 'tenacity'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_a_client_of_s3_keeps_the_endpoints_of_few_services() -> None:
    """botocore lists some 300 services, which take 7 MiB."""
    program = (
        "import gc; from storage_backends import open_backend; store = open_backend('s3://bucket?region=eu-west-1')\n"
        "partitions = [one for one in gc.get_objects() if isinstance(one, dict) and 'partitionName' in one]\n"
        "print(*{name for one in partitions for name in one['services']})"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) == {"s3", "sts", "portal.sso", "oidc"}
