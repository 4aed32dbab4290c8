"""Tests of commands and pings: they get the right input, and a failure only gives a sentence."""

import json
import os
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from support.pgstow import PATIENCE, processes_naming

from pipeline.errors import BackupRefused
from pipeline.nightly.config_file import ConfigFile
from pipeline.nightly.hooks import ask, ping, run_hook, tell
from pipeline.nightly.jobs import make_jobs
from pipeline.nightly.settings import Monitoring


class Switch(ThreadingHTTPServer):
    """A server that receives pings, and answers with ``status``."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.status = 200
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/secret-uuid"


class Answer(BaseHTTPRequestHandler):
    server: Switch

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def switch() -> Iterator[Switch]:
    with Switch() as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def test_a_hook_gets_the_document(tmp_path: Path) -> None:
    assert run_hook(["sh", "-c", f"cat > '{tmp_path}/got'"], {"good": True, "at": tmp_path}, PATIENCE) is None
    assert json.loads((tmp_path / "got").read_text()) == {"good": True, "at": str(tmp_path)}


def test_a_hook_need_not_read_the_document() -> None:
    assert run_hook(["true"], {"long": "x" * 10**6}, PATIENCE) is None


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["/no/such/hook"], "The hook /no/such/hook can't be run: No such file or directory."),
        (["sh", "-c", "exit 3"], "The hook sh failed (exit code 3)."),
        (["sh", "-c", "kill -35 $$"], "The hook sh failed (killed by signal 35)."),
        (["tr\0ue"], "The hook tr\0ue can't be run: embedded null byte."),
        (["sh", "-c", "echo no; echo mail >&2; exit 1"], "The hook sh failed (exit code 1): no mail"),
        (["sh", "-c", "kill -9 $$"], "The hook sh failed (killed by signal 9)."),
    ],
)
def test_a_failed_hook_is_reported(command: list[str], words: str) -> None:
    assert run_hook(command, {}, PATIENCE) == words


def test_only_the_end_of_a_hooks_output_is_reported() -> None:
    told = run_hook([sys.executable, "-c", "print('x' * 10**6 + 'the end'); raise SystemExit(1)"], {}, PATIENCE)
    assert told is not None
    assert told.endswith("xthe end")
    assert len(told) < 400


def test_a_flood_of_output_does_not_stay_on_the_disk() -> None:
    size = "stat -L -c %s /proc/$$/fd/3"
    flood = (
        f"exec 3>&1; head -c 20000000 /dev/zero; while [ $({size}) -gt 1000 ]; do sleep 0.01; done; echo end; exit 1"
    )
    assert run_hook(["sh", "-c", flood], {}, PATIENCE) == "The hook sh failed (exit code 1): end"


def test_a_slow_hook_is_stopped_with_its_children(tmp_path: Path) -> None:
    script = f"sh -c 'sleep 1000; : {tmp_path}' & sleep 1001"
    assert run_hook(["sh", "-c", script], {}, 0.2) == "The hook sh was stopped after 0 s."
    deadline = time.monotonic() + PATIENCE
    while processes_naming(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes_naming(tmp_path) == []


def test_a_hooks_background_processes_are_not_awaited(tmp_path: Path) -> None:
    started = time.monotonic()
    assert run_hook(["sh", "-c", f"echo $$ > '{tmp_path}/pid'; sleep 100 & exit 0"], {}, PATIENCE) is None
    assert time.monotonic() - started < PATIENCE
    os.killpg(int((tmp_path / "pid").read_text()), 9)


def monitoring_of(switch: Switch, **settings: object) -> Monitoring:
    return Monitoring.model_validate({"ping": {"env": "PING"}, **settings}, context={"PING": switch.url})


def test_pings_report_start_success_and_failure(switch: Switch) -> None:
    assert [ping(switch.url, what) for what in ("start", "", "fail")] == [None] * 3
    assert ping(f"{switch.url}/?rid=1", "fail") is None
    assert switch.paths == ["/secret-uuid/start", "/secret-uuid", "/secret-uuid/fail", "/secret-uuid/fail?rid=1"]


def test_a_failed_ping_is_reported_without_its_url(switch: Switch) -> None:
    switch.status = 404
    assert ping(switch.url) == "The ping to 127.0.0.1 failed: Not Found."
    switch.shutdown()
    switch.server_close()
    told = ping(switch.url)
    assert told is not None
    assert "Connection refused" in told
    assert "secret-uuid" not in told


@pytest.mark.parametrize("url", ["https://me:hunter2@hc.example.com/uuid", "http://localhost/hunter2 x"])
def test_errors_about_an_unusable_url_contain_no_secret(url: str) -> None:
    told = ping(url)
    assert told is not None
    assert "hunter2" not in told


def test_a_run_of_some_databases_sends_no_ping(switch: Switch, tmp_path: Path) -> None:
    monitoring = monitoring_of(switch, on_success=["touch", f"{tmp_path}/good"])
    assert tell(monitoring, {}, good=True, ping_too=False) == []
    assert switch.paths == []
    assert (tmp_path / "good").exists()


@pytest.mark.parametrize(
    ("good", "path", "hook"), [(True, "/secret-uuid", "good"), (False, "/secret-uuid/fail", "bad")]
)
def test_success_and_failure_are_reported_to_the_right_places(
    switch: Switch, tmp_path: Path, good: bool, path: str, hook: str
) -> None:
    monitoring = monitoring_of(
        switch,
        on_success=["touch", f"{tmp_path}/good"],
        on_failure=["touch", f"{tmp_path}/bad"],
    )
    assert tell(monitoring, {}, good=good, ping_too=True) == []
    assert switch.paths == [path]
    assert [entry.name for entry in tmp_path.iterdir()] == [hook]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("secret"), RecursionError()])
def test_an_unexpected_error_in_a_report_stops_no_other_report(
    switch: Switch, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monitoring = monitoring_of(switch, on_failure=["true"])
    seen: list[Exception] = []
    [trouble] = tell(monitoring, {}, good=False, ping_too=True, failed=seen.append)
    assert trouble.startswith("The hook true failed: ")
    assert "secret" not in trouble
    assert seen == [error]
    assert switch.paths == ["/secret-uuid/fail"]


def test_a_failed_hook_does_not_stop_the_ping(switch: Switch) -> None:
    [trouble] = tell(monitoring_of(switch, on_failure=["false"]), {}, good=False, ping_too=True)
    assert trouble == "The hook false failed (exit code 1)."
    assert switch.paths == ["/secret-uuid/fail"]


def test_the_command_before_a_backup_can_refuse_it(tmp_path: Path) -> None:
    ask(["sh", "-c", f"cat > '{tmp_path}/got'"], {"database": "shop"}, PATIENCE)
    assert json.loads((tmp_path / "got").read_text()) == {"database": "shop"}
    for command, reason in [
        (["sh", "-c", "echo a standby; exit 3"], r"The hook sh failed \(exit code 3\): a standby"),
        (["/no/such/hook"], "can't be run: No such file or directory"),
        (["sleep", "1000"], "The hook sleep was stopped after 0 s"),
    ]:
        with pytest.raises(BackupRefused, match=f"^The backup was refused, and nothing was dumped. .*{reason}"):
            ask(command, {}, 0.2 if command[0] == "sleep" else PATIENCE)


def test_no_command_gets_a_secret_to_which_the_file_refers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PING", "https://hc.example.com/hunter2")
    monkeypatch.setenv("PAGER", "123")
    path = tmp_path / "pgstow.toml"
    path.write_text(
        f"defaults.before = ['sh', '-c', 'env > {tmp_path}/before']\nmonitoring.ping = {{ env = 'PING' }}\n"
        f"monitoring.on_success = ['sh', '-c', 'env > {tmp_path}/after']\n"
        "destinations.nas.url = '/mnt'\ndatabases.shop.conninfo = 'service=shop'\n"
    )
    file = ConfigFile(path)
    config, environment = file.parse(os.environ), file.without_secrets(os.environ)
    [job] = make_jobs(file, config, (), {}, environment)
    job.agree()
    assert tell(config.monitoring, {}, good=True, ping_too=False, environment=environment) == []
    for name in ("before", "after"):
        variables = (tmp_path / name).read_text().splitlines()
        assert "PAGER=123" in variables
        assert not any("hunter2" in variable for variable in variables)
