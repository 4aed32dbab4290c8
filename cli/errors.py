"""From what went wrong to what a person reads and what a script gets: the only place that exits."""

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
    """As documented in README.md. A signal's is 128 and its number, as in a shell."""

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


_CODES: tuple[tuple[type[Exception], ExitCode], ...] = (
    (pipeline_errors.InvalidRequest, ExitCode.BAD_INPUT),
    (storage_errors.InvalidStorageURL, ExitCode.BAD_INPUT),
    (pipeline_errors.ConnectionFailed, ExitCode.SERVER),
    (pipeline_errors.BackupRunning, ExitCode.BUSY),
    (pipeline_errors.BackupBroken, ExitCode.UNEXPECTED),
    (pipeline_errors.DumpFailed, ExitCode.DUMP),
    (pipeline_errors.RestoreFailed, ExitCode.RESTORE),
    (pipeline_errors.TargetNotEmpty, ExitCode.RESTORE),
    (pipeline_errors.BackupDamaged, ExitCode.DAMAGED),
    (pipeline_errors.ManifestInvalid, ExitCode.DAMAGED),
    (pipeline_errors.BackupNotFound, ExitCode.NOT_FOUND),
    (pipeline_errors.LocalResourceExhausted, ExitCode.MACHINE),
    (pipeline_errors.ProgramMissing, ExitCode.MACHINE),
    (storage_errors.StorageError, ExitCode.STORE),
    (OSError, ExitCode.MACHINE),
)


class Stopped(BaseException):
    """A signal asks to stop. Not an Exception, so that nothing takes it for a failure that it could handle."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.consequence = "nothing was committed that is not whole"
        """What this leaves behind; for a command to say where it is something else."""


@contextmanager
def reported(*, debug: bool) -> Iterator[None]:
    """Run a command: stop in order on a signal, and end with one sentence on standard error and a documented exit code."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _stop)
    # Ctrl-Z would suspend pgstow but not pg_dump, which is then bounded by nobody. And whoever ignores SIGCHLD never hears how a program ended.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    except SystemExit as exc:
        if failure := stdio.unwritten():  # the command did nothing but print
            raise SystemExit(exc.code or _code_of_unwritten(failure)) from exc
        raise
    except Stopped as exc:
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
    """Run the block, which prints the result of work that is done. ``work`` is a sentence that says what was done.

    If standard output can't take the result, print ``work`` on standard error. The exit code is still that of the work.
    """
    yield
    if failure := stdio.unwritten():
        print_error(f"{work} The result could not be written to standard output: {failure.strerror}.")


@contextmanager
def removing() -> Iterator[None]:
    """While something is removed, say so where a signal asks to stop."""
    try:
        yield
    except Stopped as exc:
        exc.consequence = "what was removed until then is gone; do it again for the rest"
        raise


def exit_code_of(error: Exception) -> ExitCode:
    """What a command that ends with this error ends with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)


def sentence_of(error: Exception) -> str:
    """Return the sentence that tells a person of the error."""
    sentence = " ".join(str(error).split()) or type(error).__name__
    if exit_code_of(error) is ExitCode.UNEXPECTED:
        bug = error.__cause__ if isinstance(error, pipeline_errors.BackupBroken) else error
        return f"Unexpected {type(bug).__name__}: {sentence} Please report this, with what --debug prints."
    return sentence


def traceback_of(error: Exception) -> str:
    """Return where an error comes from, for ``--debug``, without passwords in URLs."""
    return storage_errors.without_userinfo("".join(traceback.format_exception(error)))


def print_error(sentence: str) -> None:
    """Say it on standard error."""
    print(f"pgstow: {one_sentence(sentence)}", file=sys.stderr)


def _stop(number: int, _frame: FrameType | None) -> None:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(other) is _stop:
            signal.signal(other, _go_on_stopping)
    raise Stopped(number)


def _go_on_stopping(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN, not complained about by Python where the signal is there already, and not inherited by programs."""


def _code_of_unwritten(failure: OSError) -> int:
    """Return the exit code. Report the failure, unless the reader has gone away, as ``head`` does."""
    if failure.errno == errno.EPIPE:
        return 128 + signal.SIGPIPE
    print_error(f"Standard output could not be written: {failure.strerror}.")
    return ExitCode.MACHINE


def _fail(sentence: str, code: int) -> None:
    print_error(sentence)
    sys.exit(code)
