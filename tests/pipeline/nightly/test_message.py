"""Tests of the message on a run. Text from an attacker stays plain text."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apprise import Apprise, NotifyFormat

from pipeline.errors import BackupDamaged, DumpFailed, PipelineError
from pipeline.nightly.message import Message, harmless, write_message
from pipeline.nightly.metrics import Pair, Past
from pipeline.nightly.outcome import JobResult
from storage_backends import StorageError

NIGHT = datetime(2026, 11, 25, 2, 30, tzinfo=UTC)
CONFIG = Path("/etc/pgstow/pgstow.toml")


def result(
    destination: str = "nas", error: Exception | None = None, newest_before: datetime | None = None
) -> JobResult:
    return JobResult("shop", destination, NIGHT, error=error, newest_before=newest_before)


def message(*outcomes: JobResult, past: dict[Pair, Past] | None = None, good: bool = False) -> Message | None:
    return write_message(outcomes, past or {}, good=good, host="db1", config=CONFIG)


def test_a_message_says_what_failed_since_when_and_what_to_do() -> None:
    past = {("shop", "nas"): Past(True, NIGHT - timedelta(days=3, hours=1)), ("shop", "new"): Past(False, None)}
    told = message(
        result("nas", DumpFailed("pg_dump failed.")),
        result("offsite", DumpFailed("It failed."), NIGHT - timedelta(hours=24)),
        result("new", KeyError("hunter2")),
        result("usb"),
        result("tape", DumpFailed("It failed."), NIGHT - timedelta(minutes=5)),
        past=past,
    )
    assert told == Message(
        "pgstow on db1: 4 backups FAILED",
        """\
shop at nas: pg_dump failed.
    There has been no good run since 2026-11-22 01:30 UTC, 3 days ago.
shop at offsite: It failed.
    The newest earlier backup at this destination is from 2026-11-24 02:30 UTC, 24 hours ago.
shop at new: Unexpected KeyError. The log of the run says more.
    pgstow knows of no good backup at this destination.
shop at tape: It failed.
    The newest earlier backup at this destination is from 2026-11-25 02:25 UTC, 5 minutes ago.
Good: 1.
What to do on that machine:
    pgstow config check --connect --config /etc/pgstow/pgstow.toml    finds the cause
    pgstow run --config /etc/pgstow/pgstow.toml shop    backs up again""",
        good=False,
    )


def test_a_message_on_damage_advises_against_removing_older_backups() -> None:
    told = message(result(error=BackupDamaged("It is damaged.")))
    assert told is not None
    assert told.title == "pgstow on db1: shop at nas FAILED"
    assert "Remove no older backup until you know the cause" in told.body


def test_a_message_does_not_say_that_a_failed_store_has_no_good_backups() -> None:
    told = message(result(error=StorageError("s3://bucket: the store refused")))
    assert told is not None
    assert "didn't ask this store for earlier backups" in told.body
    assert "no good backup" not in told.body


def test_a_good_run_is_reported_only_after_a_failed_run() -> None:
    assert message(result(), good=True) is None
    assert message(result(), past={("shop", "nas"): Past(True, NIGHT)}, good=True) is None
    told = message(result(), result("new"), past={("shop", "nas"): Past(False, None)}, good=True)
    assert told == Message("pgstow on db1: backups are good again", "Good again: shop at nas.", good=True)


def test_a_run_that_was_stopped_after_its_work_is_reported() -> None:
    told = message(result())
    assert told is not None
    assert (told.title, told.good) == ("pgstow on db1: the run was stopped", False)


def test_a_message_on_many_failures_stays_short() -> None:
    told = message(*[result(str(number), PipelineError("x" * 10**6)) for number in range(2000)])
    assert told is not None
    assert "And 1,990 more." in told.body
    assert len(told.body) < 6000


ATTACK = (
    "relation <b onclick=x>t</b> [click](https://evil.example/a) ![](HTTP://evil.example/a.png) <!channel> <@U123> @everyone "
    "<https://evil.example|ok> www.evil.example _http://evil.example_ ftp://evil.example _www.evil.example_\n# heading\r\n\u202egnp\x1b[31m"
)


def test_text_of_an_attacker_becomes_plain_text() -> None:
    text = harmless(ATTACK)
    assert text.isprintable()
    for markup in ("<", ">", "@", "[", "]", "http:", "https:", "HTTP:", "ftp:", "www."):
        assert markup not in text
    assert "hxxps://evil.example/a" in text
    told = message(result(error=PipelineError(ATTACK + " postgresql://me:hunter2@db.example.com/")))
    assert told is not None
    assert "hunter2" not in told.body
    assert len(told.body.splitlines()) == 6


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("tgram://123456789:AABBCCDDEEFFGGHHIIJJKKLLMMNNOOPPQQR/12315544/", "a &amp; *b* `c`"),
        ("rocket://user:password@localhost/#channel", r"a & \*b\* \`c\`"),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "a &amp; *b* `c`"),
    ],
)
def test_apprise_escapes_messages_for_services_with_markup(
    url: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Apprise 1 doesn't escape, so the version range in pyproject.toml must exclude it."""
    service = Apprise.instantiate(url)
    assert service is not None
    sent: list[str] = []
    monkeypatch.setattr(service, "send", lambda **message: sent.append(message["body"]) or True)
    assert Apprise(service).notify("a & *b* `c`", "title", body_format=NotifyFormat.TEXT)
    assert words in sent[0]
