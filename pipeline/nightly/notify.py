"""Sends a message on a run to Slack, Teams, mail or any other service that Apprise supports.

An Apprise URL is a secret. So no message of pgstow contains a part of it, and Apprise's log is not shown.
"""

import logging
import re
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from pipeline.concurrency import Workers
from pipeline.nightly.message import Message
from pipeline.nightly.references import Secret

if TYPE_CHECKING:
    from apprise import NotifyBase

T = TypeVar("T")

_STATUS = re.compile(r"\berror=([1-5]\d\d)\b")


class _Undeliverable(Exception):
    """No message can be sent. The reason contains no secret."""


class _Statuses(logging.Handler):
    """Collects the HTTP statuses that Apprise logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found += _STATUS.findall(record.getMessage())


def examine(recipient: Secret) -> str | None:
    """Return a sentence on why the recipient can get no message; None if Apprise accepts the URL. Sends nothing."""
    try:
        _open(recipient)
    except _Undeliverable as exc:
        return f"{exc}."
    return None


def send(recipient: Secret, message: Message, timeout: float) -> str | None:
    """Send the message. Give up after ``timeout`` seconds. Return a sentence on what failed; None if the service accepted the message."""
    try:
        service = _open(recipient)
    except _Undeliverable as exc:
        return f"No message was sent: {exc}."
    words = f"The message by {service.service_name} (the URL in {recipient.name}) could not be delivered"
    try:
        reason = _within(timeout, lambda: _deliver(service, message))
    except TimeoutError:
        return f"{words} within {timeout:.0f} s."
    return None if reason is None else f"{words}{reason}."


def send_test(recipient: Secret, host: str, timeout: float) -> str | None:
    """Send a message to try the recipient. Return what :func:`send` returns."""
    body = "pgstow config check --notify sent this message. If a run fails, you will also get a message."
    return send(recipient, Message(f"pgstow on {host}: messages arrive", body, good=True), timeout)


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Do the work in another thread, and return its result. Raises TimeoutError after ``seconds``, and then leaves the thread running."""
    results: list[T] = []
    with Workers() as workers:
        workers.run_apart(work, results.append, "message")
        if not workers.collect(seconds):
            raise TimeoutError
    return results[0]


def _open(recipient: Secret) -> "NotifyBase":
    """Return the service that the recipient's URL names. Raises _Undeliverable."""
    if not recipient.value:
        raise _Undeliverable(f"the environment lacks {recipient.name}, which [monitoring] names for notify")
    if find_spec("apprise") is None:
        raise _Undeliverable("notify needs Apprise, which isn't installed: pip install apprise")
    from apprise import Apprise, AppriseAsset
    from apprise.common import OverflowMode

    log = logging.getLogger("apprise")
    log.propagate = False  # the log may contain parts of the URL, and would go to standard error
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    asset = AppriseAsset(app_id="pgstow", app_desc="Backups of PostgreSQL", app_url="")
    service = Apprise.instantiate(recipient.value.strip(), asset=asset)
    if service is None:
        raise _Undeliverable(f"Apprise can't use the URL in {recipient.name}")
    if service.overflow_mode == OverflowMode.UPSTREAM:
        service.overflow_mode = OverflowMode.TRUNCATE  # some services refuse a message that is too long
    return service


def _deliver(service: "NotifyBase", message: Message) -> str | None:
    """Send the message. Return None; after a failure, return the end of a sentence with the reason, or an empty text if it is unknown."""
    from apprise import Apprise, NotifyFormat, NotifyType

    log, statuses = logging.getLogger("apprise"), _Statuses()
    log.addHandler(statuses)
    try:
        sender = Apprise(service)
        kind = NotifyType.SUCCESS if message.good else NotifyType.FAILURE
        # With this format, Apprise escapes text that a service would interpret as HTML or Markdown.
        sent = sender.notify(message.body, message.title, kind, body_format=NotifyFormat.TEXT)
    finally:
        log.removeHandler(statuses)
    if sent:
        return None
    return f": the service answered with HTTP status {statuses.found[-1]}" if statuses.found else ""
