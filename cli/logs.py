"""What a run says while it goes on, on standard error: for people, or as one JSON object a line."""

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import typer

from cli import display
from cli.errors import Stopped, exit_code_of, print_error, sentence_of, traceback_of
from pipeline.events import Event, Notice, Notify, Progress, Started

if TYPE_CHECKING:
    from pipeline.nightly.outcome import JobResult


class Log(Protocol):
    """Where a run's words go."""

    def notify_of(self, database: str) -> Notify:
        """Where the events of a database's backup go."""

    def ended(self, outcome: "JobResult") -> None:
        """A database is done at one destination."""

    def trouble(self, sentence: str | None) -> None:
        """Report a problem that makes no backup fail. None means that there is none."""

    def failed(self, error: Exception) -> None:
        """With ``--debug``, show where an error comes from. Its sentence is told elsewhere."""


class _Text:
    def __init__(self, notify: Notify, *, debug: bool) -> None:
        self._notify = notify
        self._debug = debug

    def notify_of(self, _database: str) -> Notify:
        return self._notify

    def ended(self, outcome: "JobResult") -> None:
        if outcome.error is not None:
            self.failed(outcome.error)
            print_error(f"{outcome.database} at {outcome.destination}: {sentence_of(outcome.error)}")

    def trouble(self, sentence: str | None) -> None:
        if sentence is not None:
            self._notify(Notice(sentence))

    def failed(self, error: Exception) -> None:
        if self._debug:
            print(traceback_of(error), end="", file=sys.stderr)


class _Json:
    def __init__(self, *, debug: bool) -> None:
        self._debug = debug

    def notify_of(self, database: str) -> Notify:
        return partial(_log_event, database)

    def ended(self, outcome: "JobResult") -> None:
        if outcome.error is not None:
            self.failed(outcome.error)
        _log("info" if outcome.error is None else "error", "ended", **outcome.describe())

    def trouble(self, sentence: str | None) -> None:
        if sentence is not None:
            _log("warning", "trouble", message=sentence)

    def failed(self, error: Exception) -> None:
        if self._debug:
            _log("debug", "traceback", message=traceback_of(error))


def _log_event(database: str, event: Event) -> None:
    match event:
        case Started(step):
            _log("info", "started", database=database, message=step)
        case Notice(text):
            _log("warning", "notice", database=database, message=text)
        case Progress():
            pass  # what is under way is for those who look on


def _log(level: str, event: str, **more: Any) -> None:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, **more}
    as_it_is = sys.stderr.encoding.lower() == "utf-8"
    print(json.dumps(line, ensure_ascii=not as_it_is, default=str), file=sys.stderr, flush=True)


@contextmanager
def logging(log_format: str, *, quiet: bool, debug: bool) -> Iterator[Log]:
    """The log in this format; in JSON, what ends the command is a line of it too."""
    if log_format == "text":
        with display.progress(quiet=quiet) as notify:
            yield _Text(notify, debug=debug)
        return
    log = _Json(debug=debug)
    try:
        yield log
    except typer.Exit:
        raise
    except Stopped as exc:
        _log("error", "stopped", message=f"Stopped by {signal.Signals(exc.number).name}; {exc.consequence}.")
        raise typer.Exit(128 + exc.number) from exc
    except Exception as exc:
        log.failed(exc)
        _log("error", "failed", message=sentence_of(exc), kind=type(exc).__name__)
        raise typer.Exit(exit_code_of(exc)) from exc
