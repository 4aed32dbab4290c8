"""pgstow refuses odd input with a sentence and a documented exit code. A traceback or exit code 1 would be a bug."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from support.in_process import call_pgstow
from support.pgstow import Result
from support.shelf import BackupBuilder

from storage_backends import open_backend

NOT_UTF8 = "caf\udce9"
"""An argument with bytes that aren't UTF-8, as Python represents it."""
NOBODY = "host=/nonexistent"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("store")
    with closing(open_backend(str(folder))) as backend:
        BackupBuilder(backend).add(timedelta(hours=1))
    return str(folder)


def assert_refused(result: Result, *codes: int) -> None:
    assert result.exit_code in (codes or (2,)), result
    assert "Traceback" not in result.stderr
    assert "Unexpected" not in result.stderr
    assert result.stderr.strip()


@pytest.mark.parametrize(
    "moment",
    [
        "0001-01-01T00:00:00+14:00",
        "0001-01-01",
        "9999-12-31T23:59:59-14:00",
        "9999-12-31T23:59:59.999999-00:01",
        "2026-01-01T00:00:00+23:59:59.999999",
        "2026-01-01\0",
        "２０２６-01-01",
        "",
        "-1",
        "2026-W01",
    ],
)
def test_a_time_that_cant_be_utc_is_no_time(store: str, moment: str) -> None:
    for arguments in (
        ["show", "--from", store, "--at", moment],
        ["backup", NOBODY, "--to", store, "--retain-until", moment],
        ["backup", NOBODY, "--to", "s3://bucket", "-o", f"retain_until={moment}", "-o", "region=x"],
    ):
        result = call_pgstow(*arguments)
        assert result.exit_code not in (0, 1), result
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("limit", ["nan", "inf", "-inf", "1e300", "-1", "1e999"])
def test_retrying_has_an_end(store: str, limit: str, tmp_path: Path) -> None:
    assert_refused(call_pgstow("list", "--from", store, f"--give-up-after={limit}"))
    assert_refused(call_pgstow("check", NOBODY, "--to", store, f"--give-up-after={limit}"))
    config = tmp_path / "pgstow.toml"
    config.write_text(
        f"[destinations.a]\nurl = '/a'\ngive_up_after = {limit.replace('1e999', 'inf')}\n[databases.b]\nconninfo = 'b'\n"
    )
    assert_refused(call_pgstow("config", "check", "--config", config))


@pytest.mark.parametrize("option", ["connect_timeout", "read_timeout"])
@pytest.mark.parametrize("seconds", ["1e300", "1e10", "nan", "1" * 5000])
@pytest.mark.parametrize("url", ["gs://bucket", "s3://bucket?region=x"])
def test_a_store_is_waited_for_a_bounded_time(option: str, seconds: str, url: str) -> None:
    assert_refused(call_pgstow("list", "--from", url, "-o", f"{option}={seconds}"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["backup", f"dbname={NOT_UTF8} {NOBODY}", "--to", "STORE"],
        ["backup", NOT_UTF8, "--to", "STORE"],
        ["backup", f"postgresql://{NOT_UTF8}@localhost/x", "--to", "STORE"],
        ["backup", NOBODY, "--to", "STORE", "--cluster", NOT_UTF8],
        ["backup", NOBODY, "--to", "STORE", "--table", NOT_UTF8],
        ["backup", NOBODY, "--to", "STORE", "--tag", NOT_UTF8],
        ["check", NOT_UTF8, "--to", "STORE"],
        ["list", "--from", "STORE", "--database", NOT_UTF8],
        ["restore", "--from", "STORE", "--into", NOT_UTF8],
        ["restore", "--from", "STORE", "--into", NOBODY, "-t", "x", "--as", NOT_UTF8],
        ["restore", "--from", "STORE", "--into", NOBODY, "-t", "x", "--to-schema", NOT_UTF8],
        ["restore", "--from", "STORE", "--into", NOBODY, "--map-role", f"a={NOT_UTF8}"],
        ["verify", "--from", "STORE", "--level", "restore", "--scratch", NOT_UTF8],
        ["verify", "--from", "STORE", "--level", "restore", "--assert", NOT_UTF8],
        ["list", "--from", f"s3://{NOT_UTF8}?region=x"],
        ["list", "--from", "s3://bucket", "-o", f"region={NOT_UTF8}"],
        ["list", "--from", f"gs://{NOT_UTF8}"],
        ["schedule", "systemd", "--user", NOT_UTF8],
        ["schedule", "kubernetes", "--image", NOT_UTF8],
        ["schedule", "cron", "--config", f"/{NOT_UTF8}"],
        ["run", NOT_UTF8],
    ],
)
def test_text_that_isnt_utf8_is_refused(store: str, arguments: list[str]) -> None:
    assert_refused(call_pgstow(*(store if word == "STORE" else word for word in arguments)))


def test_a_folder_whose_name_isnt_utf8_is_a_folder(tmp_path: Path) -> None:
    result = call_pgstow("list", "--from", tmp_path / NOT_UTF8)
    assert_refused(result, 6)  # it is missing
    assert "caf\N{REPLACEMENT CHARACTER}" in result.stderr


@pytest.mark.parametrize(
    "host",
    ["x" * 64, "a." + "x" * 64 + ".example.com", "x..y", ".", "xn--" + "x" * 60, "ß" * 70, "x" * 5000, "a\u3002" * 30],
)
def test_a_host_that_isnt_one_cant_be_reached(store: str, host: str) -> None:
    for arguments in (
        ["backup", f"host={host} dbname=x", "--to", store],
        ["check", f"host={host} dbname=x", "--to", store],
        ["verify", "--from", store, "--level", "restore", "--scratch", f"host={host}"],
    ):
        assert_refused(call_pgstow(*arguments, env={"PGCONNECT_TIMEOUT": "2"}), 2, 3, 7, 9, 10)
    for url in (f"s3://bucket?region=x&endpoint=http://{host}", f"gs://bucket?endpoint=http://{host}"):
        result = call_pgstow("list", "--from", url, "--give-up-after=0.1", env=CREDENTIALS)
        assert_refused(result, 2, 6)


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "STORAGE_EMULATOR_HOST": "http://localhost:1"}


@pytest.mark.parametrize("number", ["1" * 5000, "9" * 30, "0", "٣", "1e9"])
def test_a_list_of_entries_with_odd_numbers(store: str, number: str, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text(f"{number}; 1259 16402 TABLE public t owner\n")
    assert_refused(call_pgstow("restore", "--from", store, "--into", NOBODY, "-L", listed), 2, 7)


@pytest.mark.parametrize(
    "text",
    [
        "ping = {env = [1]}",
        "ping = {env = {}}",
        "ping = {env = {a = {b = [1]}}}",
        "ping = {env = ''}",
        'ping = {env = "a\\u0000b"}',
        "ping = {env = 'A=B'}",
        "ping = 'https://[::1'",
        "ping = 'http://x:99999/'",
        "ping = 1979-05-27",
        'textfile = "/a\\u0000b.prom"',
        'on_success = ["a\\u0000b"]',
        "on_success = ['']",
        "on_success = " + "[" * 3000 + "]" * 3000,
        "hook_timeout = " + "1" * 5000,
        "hook_timeout = 1" + "0" * 30,
        "x = " + "{a = " * 3000 + "1" + "}" * 3000,
        "x" + ".x" * 500 + " = 1",
    ],
)
def test_odd_monitoring_is_named(text: str, tmp_path: Path) -> None:
    _assert_config_refused(
        f"[destinations.a]\nurl = '/a'\n[databases.b]\nconninfo = 'b'\n[monitoring]\n{text}\n", tmp_path
    )


@pytest.mark.parametrize(
    "text",
    [
        'password_file = "/a\\u0000b"',
        'spool_dir = "/a\\u0000b"',
        'bin_dir = ["/a\\u0000b"]',
        'cluster = "a\\u0000b"',
        'tables = ["a\\u0000b"]',
        'destinations = ["a\\u0000b"]',
        "conninfo = {env = [1]}",
        "conninfo = {env = {}}",
        'conninfo = "dbname=\\"',
        'conninfo = "host=a\\u0000b"',
        "jobs = 1" + "0" * 30,
        "level = 1e300",
        "retries = 1" + "0" * 3000,
        "memory = '" + "1" * 5000 + "'",
        "memory = '1" + "0" * 1000 + "'",
        "memory = 1" + "0" * 30,
        "spool_limit = 1" + "0" * 30,
        "object_size = 1" + "0" * 30,
        "transfers = 1" + "0" * 30,
        "statement_timeout = 1" + "0" * 30,
        "databases_at_once = 1" + "0" * 30,
    ],
)
def test_odd_settings_of_a_database_are_named(text: str, tmp_path: Path) -> None:
    conninfo = "" if text.startswith("conninfo") else "conninfo = 'b'\n"
    _assert_config_refused(f"[destinations.a]\nurl = '/a'\n[databases.b]\n{conninfo}{text}\n", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        'url = "/a\\u0000b"',
        "url = {env = [1]}",
        "url = {env = {}}",
        "url = 's3://'",
        "url = 's3://[x'",
        "url = 'http://x'",
        "url = '/a'\nlimit_rate = '" + "9" * 5000 + "'",
        "url = '/a'\nlimit_rate = 1" + "0" * 400,
        "url = '/a'\nretention.x.keep_last = 1",
    ],
)
def test_odd_destinations_are_named(text: str, tmp_path: Path) -> None:
    _assert_config_refused(f"[databases.b]\nconninfo = 'b'\n[destinations.a]\n{text}\n", tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "keep_within = 1979-05-27",
        "keep_within = '" + "9" * 5000 + "d'",
        "keep_within = {}",
        "keep_last = 1" + "0" * 5000,
    ],
)
def test_odd_retention_is_named(text: str, tmp_path: Path) -> None:
    _assert_config_refused(
        f"[databases.b]\nconninfo = 'b'\n[destinations.a]\nurl = '/a'\n[retention.default]\n{text}\n", tmp_path
    )


@pytest.mark.parametrize(
    "text", ["[" * 10000, "a = " + "[" * 10000, "a = " + "{a=" * 10000, "a." * 999 + "a = 1", "\0", "\ud800"]
)
def test_a_file_that_is_hardly_toml(text: str, tmp_path: Path) -> None:
    _assert_config_refused(text, tmp_path)


@pytest.mark.parametrize("path", ["a\0b", "x" * 5000, "", "/" * 5000])
def test_paths_that_no_file_can_have(store: str, path: str) -> None:
    for arguments in (
        ["config", "check", "--config", path],
        ["run", "--config", path],
        ["restore", "--from", store, "--to-directory", path],
        ["restore", "--from", store, "--into", NOBODY, "--use-list", path],
        ["verify", "--from", store, "--level", "restore", "--sql-check", path],
        ["backup", NOBODY, "--to", store, "--spool-dir", path],
        ["list", "--from", path],
        ["export", "--from", store, "--file", path],
    ):
        result = call_pgstow(*arguments, env={"PGSTOW_STORE": ""})
        assert result.exit_code != 1, (arguments, result)
        assert "Traceback" not in result.stderr


def _assert_config_refused(text: str, folder: Path) -> None:
    config = folder / "pgstow.toml"
    config.write_text(text, errors="surrogatepass")
    for arguments in (["config", "check"], ["run"]):
        assert_refused(call_pgstow(*arguments, "--config", config))


@pytest.mark.parametrize("proxy", ["http://u:gehei%m@x y:99999", "socks5://u:geheim@127.0.0.1:1", "http://u:ge heim@x"])
def test_a_proxys_password_is_in_no_error(proxy: str) -> None:
    env = CREDENTIALS | {"HTTPS_PROXY": proxy, "AWS_DEFAULT_REGION": "x"}
    result = call_pgstow("--debug", "list", "--from", "s3://bucket", "--give-up-after", "0", env=env)
    assert result.exit_code == 6
    assert "Traceback" in result.stderr
    assert not any(part in result.stderr for part in ("gehei", "heim"))
