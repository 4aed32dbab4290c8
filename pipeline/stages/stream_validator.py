"""Reads an archive or a script while it passes as one stream. Finds the tables whose rows are in the stream, and checks that it is whole.

pgstow parses a script directly. It passes an archive to stock pg_restore, which turns the archive's data into a script. So pgstow needn't
parse the archive's data itself, and it commits no backup that pg_restore can't read.
"""

import os
from contextlib import suppress
from functools import partial
from tarfile import BLOCKSIZE
from types import TracebackType
from typing import Self

from pipeline.catalog.manifest import TableData
from pipeline.catalog.origin import Format
from pipeline.concurrency import Workers
from pipeline.errors import DumpFailed, RestoreFailed
from pipeline.postgres.programs import Program
from pipeline.postgres.script import ScriptReader, tables_with_data
from pipeline.postgres.toc_format import TocCutShort
from pipeline.postgres.toc_head import parse_head, tar_member_size
from pipeline.postgres.workspace import Workspace, describe_failure
from pipeline.stages.download import LARGEST_WHOLE

_PART = 1024 * 1024  # bytes


class _TarEnd:
    """Looks for the end of a tar archive. If the end is missing, pg_restore searches for it forever (``_tarPositionTo`` in pg_backup_tar.c)."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._ahead = 0
        """Bytes to skip before the next header."""
        self.reached = False

    def write(self, data: bytes) -> None:
        """Take the next piece. Raises DumpFailed if a header isn't valid."""
        at = 0
        while at < len(data) and not self.reached:
            passed = min(self._ahead, len(data) - at)
            self._ahead -= passed
            at += passed
            part = data[at : at + BLOCKSIZE - len(self._header)]
            self._header += part
            at += len(part)
            if len(self._header) == BLOCKSIZE:
                self.reached = not any(self._header)
                blocks = 0 if self.reached else -(-tar_member_size(bytes(self._header)) // BLOCKSIZE)
                self._ahead = blocks * BLOCKSIZE
                self._header.clear()


class StreamValidator:
    """Takes the stream piece by piece. ``script`` reads a script directly; an archive in the format ``format_`` goes through ``pg_restore``.

    Use it in a ``with`` block. If pg_restore is slower than the stream, :meth:`write` waits.
    """

    def __init__(
        self, script: ScriptReader, workspace: Workspace, format_: Format = "plain", pg_restore: Program | None = None
    ) -> None:
        self._script = script
        self._archive = None
        self._format = format_
        self._head = bytearray()
        self._next_look = 0
        """The length of the buffered beginning of the archive, in bytes, at which to look for the table of contents again."""
        self._has_contents = False
        self._tar_end = _TarEnd() if format_ == "tar" else None
        self._workers = Workers()
        if pg_restore is None:
            return
        read_archive, write_archive = os.pipe()
        read_script, write_script = os.pipe()
        self._archive = os.fdopen(write_archive, "wb", buffering=0)
        self._reading = self._workers.pool(1, "read along")
        self._tables: list[TableData] = []
        with os.fdopen(read_archive, "rb"), os.fdopen(write_script, "wb"):
            # With --format, pg_restore opens the pipe only once (_discoverArchiveFormat in pg_backup_archiver.c).
            arguments = [f"--format={format_}", "--section=data", "--file=-", f"/dev/fd/{read_archive}"]
            self._running = workspace.start(pg_restore, arguments, stdout=write_script, inherit=[read_archive])
        self._reading.submit(partial(self._read, read_script), self._tables.extend)

    @property
    def current(self) -> str | None:
        """The table whose rows are passing now; None if no rows are passing."""
        return self._script.current

    def write(self, data: bytes) -> None:
        """Take the next piece. Raises RestoreFailed or DumpFailed if the piece can't be part of a valid archive or script."""
        if self._archive is None:
            self._script.write(data)
            return
        if self._tar_end:
            self._tar_end.write(data)
        if not self._has_contents:
            self._head += data
            if len(self._head) < self._next_look or not self._look_for_contents():
                return
            data = bytes(self._head)
            self._head.clear()
        self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self._archive is None:
            raise AssertionError("a script needs no pg_restore")
        view = memoryview(data)
        try:
            while view:
                view = view[self._archive.write(view) :]
        except BrokenPipeError:
            self._await_end()  # this may be no failure: pg_restore doesn't read the end of a tar archive

    def finish(self) -> list[TableData]:
        """Return the tables whose rows were in the stream. Raises RestoreFailed or DumpFailed if the stream isn't whole."""
        if self._archive is None:
            return self._script.finish()
        if not self._has_contents and self._look_for_contents():
            self._pass_on(bytes(self._head))
        if not self._has_contents or (self._tar_end and not self._tar_end.reached):
            raise DumpFailed("The archive is cut short.")
        self._archive.close()
        self._await_end()
        while self._reading.pending:
            self._workers.collect(timeout=1.0)
        return self._tables

    def _look_for_contents(self) -> bool:
        """Look for the table of contents, and tell the script's reader the tables, before pg_restore gets any bytes. Return True if found."""
        self._next_look = 2 * len(self._head)  # so that a long table of contents isn't parsed after each piece
        with suppress(TocCutShort):
            _, toc = parse_head(bytes(self._head), self._format)
            self._script.expect(tables_with_data(toc))
            self._has_contents = True
        if not self._has_contents and len(self._head) > LARGEST_WHOLE:
            raise DumpFailed(f"The archive has no table of contents in its first {LARGEST_WHOLE} bytes.")
        return self._has_contents

    def _await_end(self) -> None:
        if status := self._running.wait():
            raise RestoreFailed(describe_failure("pg_restore", status, self._running.messages()))

    def _read(self, script: int) -> list[TableData]:
        with os.fdopen(script, "rb", buffering=0) as stream:
            while part := stream.read(_PART):
                self._script.write(part)
        return self._script.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._archive is not None:
            self._archive.close()
            self._running.stop()
        self._workers.__exit__(kind, error, trace)
