"""Turn errors into sentences for people, and into exit codes for scripts. This module defines the exit codes of all commands."""

import errno
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from cli import stdio
from cli.display import one_sentence
from pipeline import errors as pipeline_errors
from storage_backends import errors as storage_errors


class ExitCode(IntEnum):
    """The exit codes in docs/exit-codes.md. After a signal, the exit code is 128 plus the number of the signal, as in a shell."""

    OK = 0
    UNEXPECTED = 1
    BAD_INPUT = 2
    SERVER = 3
    DUMP = 4
    RESTORE = 5
    STORE = 6
    DAMAGED = 7
    NOT_FOUND = 8
    MACHINE = 9
    CHECK = 10
    BUSY = 11
    REFUSED = 12
    FINDINGS = 13


UNFINISHED_BACKUP = "an unfinished backup is never committed; pgstow gc removes its objects"
UNFINISHED_REMOVAL = "the objects removed so far stay removed; run the command again for the rest"
"""Consequences of a stop, for :func:`if_stopped`."""

_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (pipeline_errors.InvalidRequest, ExitCode.BAD_INPUT),
    (storage_errors.InvalidStorageURL, ExitCode.BAD_INPUT),
    (pipeline_errors.ConnectionFailed, ExitCode.SERVER),
    (pipeline_errors.BackupRunning, ExitCode.BUSY),
    (pipeline_errors.BackupRefused, ExitCode.REFUSED),
    (pipeline_errors.BackupBroken, ExitCode.UNEXPECTED),
    (pipeline_errors.DumpFailed, ExitCode.DUMP),
    (pipeline_errors.RestoreFailed, ExitCode.RESTORE),
    (pipeline_errors.TargetNotEmpty, ExitCode.RESTORE),
    (pipeline_errors.BackupDamaged, ExitCode.DAMAGED),
    (pipeline_errors.ManifestInvalid, ExitCode.DAMAGED),
    (pipeline_errors.Untrusted, ExitCode.DAMAGED),
    (pipeline_errors.BackupNotFound, ExitCode.NOT_FOUND),
    (pipeline_errors.LocalResourceExhausted, ExitCode.MACHINE),
    (pipeline_errors.ProgramMissing, ExitCode.MACHINE),
    (storage_errors.StorageError, ExitCode.STORE),
    (OSError, ExitCode.MACHINE),
)


class Stopped(BaseException):
    """A signal asks pgstow to stop, or the output has no reader (SIGPIPE). No handler of Exception catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.consequence = "no backup was changed"
        """The words of the error that say what the stop leaves behind. :func:`if_stopped` sets other words."""


@contextmanager
def reported(*, debug: bool) -> Iterator[None]:
    """Run the block, which is a command. After a signal, let the block clean up before it ends.

    Turn an error into one sentence on standard error, and into SystemExit with a documented exit code. ``debug`` also prints the traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the signal
            signal.signal(number, _stop)
    # Ctrl-Z would suspend pgstow but not pg_dump, which would then fill the disk. A process that ignores SIGCHLD can't learn exit codes.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    except SystemExit as exc:
        # For a command that did other work, result_of has already reported the failure. So this command only printed.
        if failure := stdio.unwritten():
            raise SystemExit(exc.code or _code_of_unwritten(failure)) from exc
        raise
    except Stopped as exc:
        if exc.number == signal.SIGPIPE:
            sys.exit(128 + exc.number)
        _fail(f"Stopped by {signal.Signals(exc.number).name}; {exc.consequence}.", 128 + exc.number)
    except Exception as exc:
        if debug:
            print(traceback_of(exc), end="", file=sys.stderr)
        code = exit_code_of(exc)
        if isinstance(exc, pipeline_errors.ConfigInvalid):
            for problem in exc.problems[:-1]:
                print_error(problem)
            _fail(exc.problems[-1], code)
        _fail(sentence_of(exc), code)


@contextmanager
def result_of(work: str) -> Iterator[None]:
    """Run the block, which prints the result of finished work. ``work`` is a sentence that says what was done.

    If standard output can't take the result, print ``work`` on standard error. The exit code stays the same.
    """
    yield
    if failure := stdio.unwritten():
        print_error(f"{work} The result could not be written to standard output: {failure.strerror}.")


@contextmanager
def if_stopped(consequence: str) -> Iterator[None]:
    """Run the block, which changes something. If a signal stops it, the error says ``consequence``: what the stop leaves behind."""
    try:
        yield
    except Stopped as exc:
        exc.consequence = consequence
        raise


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit code of a command that ends with this error; ExitCode.UNEXPECTED for an error that pgstow doesn't know."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)


def sentence_of(error: Exception) -> str:
    """Return a sentence about the error for people. For an unexpected error, the sentence asks for a report."""
    sentence = " ".join(str(error).split()) or type(error).__name__
    if exit_code_of(error) is ExitCode.UNEXPECTED:
        bug = error.__cause__ if isinstance(error, pipeline_errors.BackupBroken) else error
        return f"Unexpected {type(bug).__name__}: {sentence} Please report this error with the output of --debug."
    return sentence


def traceback_of(error: Exception) -> str:
    """Return the traceback of an error for ``--debug``, without users and passwords in URLs."""
    return storage_errors.without_userinfo("".join(traceback.format_exception(error)))


def print_error(sentence: str) -> None:
    """Print the sentence on standard error, after ``pgstow:``."""
    print(f"pgstow: {one_sentence(sentence)}", file=sys.stderr)


def _stop(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(other) is _stop:
            signal.signal(other, _go_on_stopping)
    raise Stopped(number)


def _go_on_stopping(_number: int, _frame: FrameType | None) -> None:
    """Do nothing. Programs inherit SIG_IGN, but not a handler. With SIG_IGN, Python would also complain about a pending signal."""


def _code_of_unwritten(failure: OSError) -> int:
    """Return the exit code. Report the failure, unless the reader has gone away, as ``head`` does."""
    if failure.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    print_error(f"Standard output could not be written: {failure.strerror}.")
    return ExitCode.MACHINE


def _fail(sentence: str, code: int) -> None:
    print_error(sentence)
    sys.exit(code)
