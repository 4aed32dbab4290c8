"""Log a run on standard error while it runs: as text for people, or as one JSON object a line."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import typer

from cli.display import json_line
from cli.errors import Stopped, exit_code_of, print_error, sentence_of, traceback_of
from cli.progress import show_progress
from pipeline.events import Event, Notice, Notify, Progress, Started

if TYPE_CHECKING:
    from pipeline.nightly.outcome import JobResult


class Log(Protocol):
    """The log of a run."""

    def notify_of(self, database: str) -> Notify:
        """Return a callable that logs the events of a database's job."""

    def ended(self, outcome: "JobResult") -> None:
        """Log the result for one database at one destination."""

    def trouble(self, sentence: str | None) -> None:
        """Log a problem that makes no backup fail. Log nothing if ``sentence`` is None."""

    def retrying(self, sentence: str) -> None:
        """Log that a request to a store failed, and that pgstow retries it."""

    def failed(self, error: Exception) -> None:
        """With ``--debug``, log the traceback of an error. Other methods log the sentence of the error."""


class _Text:
    def __init__(self, notify: Notify, *, quiet: bool, debug: bool) -> None:
        self._notify = notify
        self._quiet = quiet
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

    def retrying(self, sentence: str) -> None:
        if not self._quiet:
            print_error(sentence)

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

    def retrying(self, sentence: str) -> None:
        _log("warning", "retry", message=sentence)

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
            pass  # progress is for people who watch


def _log(level: str, event: str, **more: Any) -> None:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, **more}
    print(json_line(line, sys.stderr.encoding), file=sys.stderr, flush=True)


@contextmanager
def logging(log_format: str, *, quiet: bool, debug: bool) -> Iterator[Log]:
    """Yield the log in the format ``text`` or ``json``. In JSON, turn an error that ends the command into a line of the log and typer.Exit."""
    if log_format == "text":
        with show_progress(quiet=quiet) as notify:
            yield _Text(notify, quiet=quiet, debug=debug)
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
