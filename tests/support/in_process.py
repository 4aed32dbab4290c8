"""Run the ``pgstow`` command within the test's own process, which is fast enough for hundreds of command lines."""

import io
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

from support.pgstow import Result

from cli import errors
from cli.main import app

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGCHLD)


def call_pgstow(*arguments: object, env: Mapping[str, str] | None = None) -> Result:
    """Run ``pgstow`` to its end, and return how it ended. ``env`` is added to this process's environment.

    Standard output and standard error escape characters that UTF-8 can't encode, as in ``main``.
    """
    stdout, stderr = _stream(), _stream()
    with (
        _signals_kept(),
        mock.patch.dict(os.environ, env or {}),
        mock.patch.object(os, "nice"),  # niceness can't be lowered again
        mock.patch.object(sys, "stdout", stdout),
        mock.patch.object(sys, "stderr", stderr),
        mock.patch.object(sys, "stdin", io.StringIO()),
    ):
        try:
            with errors.reported(debug="--debug" in arguments):
                app(list(map(str, arguments)), prog_name="pgstow")
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else int(bool(exc.code))
    return Result(code, _text(stdout), _text(stderr))


def _stream() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()


@contextmanager
def _signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
