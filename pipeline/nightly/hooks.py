"""Runs the user's command before a backup. After a run, reports the result to the user's commands, a dead man's switch and people.

Only the command before a backup can make a backup fail. The reports afterwards can't.
"""

import fcntl
import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import BackupRefused
from pipeline.nightly.message import Message
from pipeline.nightly.notify import send
from pipeline.nightly.settings import Monitoring

_PING_TIMEOUT = 10.0  # seconds for the answer to a ping
_LONGEST_QUOTE = 300  # bytes of a failed command's output
_MOST_KEPT = 16 * 1024 * 1024  # bytes of a command's output, which are on disk while the command runs
_LOOK_INTERVAL = 0.2  # seconds between looks at the size of the output


Failed = Callable[[Exception], None]
"""A function that gets unexpected errors, so that it can show their tracebacks."""


def attempt(what: str, step: Callable[[], str | None], failed: Failed) -> str | None:
    """Call ``step``, and return its result: a sentence on what failed, or None.

    If the step raises an error, call ``failed`` with the error, and return a sentence with the subject ``what``.
    """
    try:
        return step()
    except Exception as exc:
        failed(exc)
        # The error's text may contain a secret, such as the URL of a ping.
        return f"{what} failed: {getattr(exc, 'strerror', None) or type(exc).__name__}."


def ask(
    command: Sequence[str], document: Mapping[str, Any], timeout: float, environment: Mapping[str, str] | None = None
) -> None:
    """Run the command before a backup, as :func:`run_hook` does. Raises BackupRefused unless the command ends with exit code 0."""
    if trouble := run_hook(command, document, timeout, environment):
        raise BackupRefused(f"The backup was refused, and nothing was dumped. {trouble}")


def tell(
    monitoring: Monitoring,
    document: Mapping[str, Any],
    *,
    good: bool,
    ping_too: bool,
    message: Message | None = None,
    environment: Mapping[str, str] | None = None,
    failed: Failed = lambda _: None,
) -> list[str]:
    """Report a run's end: run the command for success or failure, ping, and send the message. Return a sentence for each step that failed.

    ``document`` is the command's input, and ``environment`` has its variables. ``message`` goes to the recipients in ``notify``; None if
    there is no message. ``ping_too`` is False if the run did only some of the jobs, which the ping must not report. ``failed`` gets
    unexpected errors. If a step fails, the other steps still run.
    """
    command, url = monitoring.on_success if good else monitoring.on_failure, monitoring.ping
    steps: dict[str, Callable[[], str | None]] = {}
    if command:
        steps[f"The hook {command[0]}"] = partial(run_hook, command, document, monitoring.hook_timeout, environment)
    if url and ping_too:
        steps["The ping"] = partial(ping, url, "" if good else "fail")
    if message is not None:
        for recipient in monitoring.notify:
            steps[f"The message to {recipient.name}"] = partial(send, recipient, message, monitoring.hook_timeout)
    return [trouble for what, step in steps.items() if (trouble := attempt(what, step, failed))]


def run_hook(
    command: Sequence[str], document: Mapping[str, Any], timeout: float, environment: Mapping[str, str] | None = None
) -> str | None:
    """Run a command with the document as JSON on its standard input. After ``timeout`` seconds, kill the command and its children.

    ``environment`` has the command's variables; None for this process's environment. Return a sentence on what failed; None if the command
    ended with exit code 0.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as said,
    ):  # a pipe might be kept open by a grandchild
        given.write(json.dumps(document, default=str).encode())
        given.seek(0)
        # With O_APPEND, each write goes to the file's end. So after the file is emptied, no gap remains at its beginning.
        fcntl.fcntl(said, fcntl.F_SETFL, os.O_APPEND)
        try:
            process = subprocess.Popen(
                command, stdin=given, stdout=said, stderr=said, start_new_session=True, env=environment
            )
        except (OSError, ValueError) as exc:
            return f"The hook {command[0]} can't be run: {getattr(exc, 'strerror', None) or exc}."
        try:
            code = _wait(process, said.fileno(), timeout)
        except subprocess.TimeoutExpired:
            return f"The hook {command[0]} was stopped after {timeout:.0f} s."
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if code == 0:
            return None
        said.seek(max(0, said.seek(0, os.SEEK_END) - _LONGEST_QUOTE))
        words = " ".join(said.read().decode(errors="replace").split())
        return f"The hook {command[0]} failed ({_ended(code)}){f': {words}' if words else '.'}"


def _wait(process: "subprocess.Popen[bytes]", output: int, timeout: float) -> int:
    """Wait for the process and return its exit code. Whenever the output's file is too long, empty it. Raises subprocess.TimeoutExpired."""
    end = time.monotonic() + timeout
    while (rest := end - time.monotonic()) > _LOOK_INTERVAL:
        try:
            return process.wait(_LOOK_INTERVAL)
        except subprocess.TimeoutExpired:
            if os.fstat(output).st_size > _MOST_KEPT:
                os.ftruncate(output, 0)
    return process.wait(max(0, rest))


def _ended(code: int) -> str:
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def ping(url: str, what: str = "") -> str | None:
    """GET the URL of a dead man's switch, with ``what`` (``start`` or ``fail``) after its path. An empty ``what`` reports success.

    Return a sentence on what failed; None if the server answered. The sentence doesn't contain the URL, which is a secret.
    """
    parts = urlsplit(url)
    whole = parts._replace(path=f"{parts.path.rstrip('/')}/{what}" if what else parts.path).geturl()
    try:
        with urllib.request.urlopen(whole, timeout=_PING_TIMEOUT):  # noqa: S310 - the file allows only http and https
            return None
    except OSError as exc:
        reason = getattr(exc, "reason", None) or exc
    except (HTTPException, ValueError) as exc:  # their text may contain the URL
        reason = type(exc).__name__
    return f"The ping to {parts.hostname} failed: {reason}."
