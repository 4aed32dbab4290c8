"""Tests of messages: they arrive, and failures are reported without a secret."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.in_process import call_pgstow
from support.messages import JsonService, MailServer, serving
from support.pgstow import PATIENCE

from pipeline.nightly.config_file import ConfigFile
from pipeline.nightly.hooks import tell
from pipeline.nightly.message import Message
from pipeline.nightly.notify import examine, send
from pipeline.nightly.references import Secret
from pipeline.nightly.settings import Monitoring

BAD = Message(
    "pgstow on db1: shop at nas FAILED", "shop at nas: It failed ‹b› & *so* my_table.\n    Good: 0.", good=False
)
GOOD = Message("pgstow on db1: backups are good again", "Good again: shop at nas.", good=True)


@pytest.fixture
def service() -> Iterator[JsonService]:
    with serving(service := JsonService()):
        yield service
        service.ended.set()


def test_messages_arrive_by_http(service: JsonService) -> None:
    recipient = Secret("PGSTOW_NOTIFY", service.url)
    assert send(recipient, BAD, PATIENCE) is None
    assert send(recipient, GOOD, PATIENCE) is None
    told = [(message["title"], message["message"], message["type"]) for message in service.messages]
    assert told == [(BAD.title, BAD.body, "failure"), (GOOD.title, GOOD.body, "success")]


def test_messages_arrive_by_mail() -> None:
    with serving(server := MailServer()):
        assert send(Secret("PGSTOW_MAIL", server.url), BAD, PATIENCE) is None
    [mail] = server.mails
    assert (mail["To"], mail["Subject"]) == ("dba@example.com", BAD.title)
    [text] = [part for part in mail.walk() if not part.is_multipart()]
    assert text.get_content_type() == "text/plain"
    assert text.get_content().strip().splitlines() == BAD.body.splitlines()


def test_an_undeliverable_message_is_reported_without_a_secret(
    service: JsonService, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = "The message by JSON (the URL in PGSTOW_NOTIFY) could not be delivered"
    monitoring = Monitoring.model_validate(
        {"notify": [{"env": "PGSTOW_NOTIFY"}]}, context={"PGSTOW_NOTIFY": service.url}
    )
    service.status = 503

    def told() -> list[str]:
        return tell(monitoring, {}, good=False, ping_too=False, message=BAD)

    assert told() == [f"{words}: the service answered with HTTP status 503."]
    service.silent = True
    assert send(monitoring.notify[0], BAD, 0.2) == f"{words} within 0 s."
    service.shutdown()
    service.server_close()
    assert told() == [f"{words}."]
    assert "hunter" not in f"{capfd.readouterr()}{caplog.text}{monitoring!r}"
    assert logging.getLogger("apprise").propagate is False


@pytest.mark.parametrize(
    "url", ["hunter2", "sl4ck://hunter2/hunter2", "slack://hunter2", "mailto://", "file:///etc/hunter2", "\0"]
)
def test_an_unusable_url_is_reported(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    recipient = Secret("PGSTOW_NOTIFY", url)
    assert examine(recipient) == "Apprise can't use the URL in PGSTOW_NOTIFY."
    assert send(recipient, BAD, PATIENCE) == "No message was sent: Apprise can't use the URL in PGSTOW_NOTIFY."
    assert "hunter2" not in str(capfd.readouterr())


def test_a_missing_apprise_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.nightly.notify.find_spec", lambda _: None)
    told = send(Secret("PGSTOW_NOTIFY", "json://localhost"), BAD, PATIENCE)
    assert told == "No message was sent: notify needs Apprise, which isn't installed: pip install apprise."


def test_a_missing_variable_stops_no_run_but_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "pgstow.toml"
    path.write_text(
        "monitoring.notify = [{ env = 'PGSTOW_NOTIFY' }]\ndestinations.nas.url = '/mnt'\ndatabases.shop.conninfo = ''\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PGSTOW_NOTIFY"}
    [recipient] = ConfigFile(path).parse(environment).monitoring.notify
    lacks = "the environment lacks PGSTOW_NOTIFY, which [monitoring] names for notify."
    assert send(recipient, BAD, PATIENCE) == f"No message was sent: {lacks}"
    result = call_pgstow("config", "check", "--config", path)
    assert (result.exit_code, result.stderr) == (2, f"pgstow: {lacks}\n")
    assert call_pgstow("config", "check", "--config", path, env={"PGSTOW_NOTIFY": "json://localhost"}).exit_code == 0


def test_config_check_sends_a_test_message(service: JsonService, tmp_path: Path) -> None:
    path = tmp_path / "pgstow.toml"
    path.write_text(
        "monitoring.notify = [{ env = 'PGSTOW_NOTIFY' }]\ndestinations.nas.url = '/mnt'\ndatabases.shop.conninfo = ''\n"
    )
    command = ("config", "check", "--notify", "--config", path)
    assert call_pgstow(*command, env={"PGSTOW_NOTIFY": service.url}).exit_code == 0
    assert "messages arrive" in service.messages[0]["title"]
    service.status = 404
    result = call_pgstow(*command, env={"PGSTOW_NOTIFY": service.url})
    assert result.exit_code == 10
    assert "could not be delivered: the service answered with HTTP status 404." in result.stdout
