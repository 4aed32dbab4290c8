"""Standard output and standard error. A closed stream, a full disk or a missing reader must not make a command's work fail."""

import codecs
import io
import os
import select
import sys
from typing import Any, TextIO

_SPELLED = {"…": "...", "✓": "+", "✗": "x", "→": "->"}
"""The spelling of pgstow's own signs in encodings that lack them."""
_UNENCODABLE = "pgstow.unencodable"
"""The name of :func:`_spell` among Python's handlers of encoding errors."""


def take_over() -> None:
    """Open the standard descriptors that are closed. Replace sys.stdout and sys.stderr by streams that raise no error if a write fails.

    Call this function before anything else opens a file. If a standard descriptor is closed, the next file or socket would get its number,
    and a child or a library would write into that file. So /dev/null takes the number. If standard error is closed, sys.stderr is None, and
    ``print(file=sys.stderr)`` would write to standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # /dev/null is open only for reading, so that a write to a closed standard output fails and _Result notes the failure.
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # the lowest number that is free
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - open as long as the process is
    codecs.register_error(_UNENCODABLE, _spell)
    sys.stdout = _text(_Result(1, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Messages(2, "w", closefd=False), sys.stderr)


def unwritten() -> OSError | None:
    """Return the error by which standard output refused a part of the output.

    Return None if standard output took everything, or if an earlier call returned the error.
    """
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.take_failure() if isinstance(raw, _Result) else None


class _Messages(io.FileIO):
    """A stream that drops the bytes that it can't write. A lost message must not make the work fail."""

    def write(self, data: Any, /) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


class _Result(io.FileIO):
    """A stream that drops all bytes after its first failure, so that the work goes on. :meth:`take_failure` returns the failure."""

    _broken = False
    _failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        if not self._broken:
            try:
                while (written := super().write(data)) is None:  # the pipe is full, and doesn't block
                    select.select([], [self], [])
            except OSError as exc:
                self._broken, self._failure = True, exc
            else:
                return written
        return memoryview(data).nbytes

    def take_failure(self) -> OSError | None:
        """Return the failure, and forget it. Return None if there was none, or if an earlier call returned it."""
        failure, self._failure = self._failure, None
        return failure


def _text(raw: io.FileIO, replaced: TextIO | None) -> TextIO:
    """Return a text stream over ``raw``, like the stream that it replaces. It spells or escapes characters that the encoding lacks."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=replaced.encoding if replaced else "utf-8",
        errors=_UNENCODABLE,
        line_buffering=getattr(replaced, "line_buffering", True) or getattr(replaced, "write_through", True),
    )


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement of a character that the encoding lacks, and the position after the character."""
    if isinstance(error, UnicodeEncodeError) and (spelled := _SPELLED.get(error.object[error.start])):
        return spelled, error.start + 1
    return codecs.backslashreplace_errors(error)
