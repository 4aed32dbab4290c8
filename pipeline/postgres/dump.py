"""Runs pg_dump and pg_dumpall, and reads their messages."""

import os
import re
import select
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from subprocess import DEVNULL
from typing import Self

from pipeline.catalog.manifest import TOC_NAME
from pipeline.catalog.origin import Format
from pipeline.errors import ConnectionFailed, DumpFailed, DumpInterrupted, LocalResourceExhausted
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.diagnosis import explain_conflict, may_pass, tells_of_full_disk
from pipeline.postgres.locks import find_blockers
from pipeline.postgres.programs import Program
from pipeline.postgres.server import Server
from pipeline.postgres.workspace import RunningProgram, Workspace, describe_failure
from pipeline.selection import Selection

ARCHIVE = "archive"
"""The folder in the workspace that pg_dump fills."""
COPY_END = b"\\.\n\n\n"
"""The bytes at the end of a table's data (dumpTableData_copy() in pg_dump.c)."""

# The leader of pg_dump locks all tables, with a timeout (getTables()). Later, each worker locks its table without waiting
# (lockTableForWorker()).
_LOCK_WAITED_FOR = re.compile(r"statement timeout\b.*\bLOCK TABLE", re.DOTALL)
_INDEX_WAITED_FOR = "due to lock timeout"
"""Only sessions that dump ranges have this timeout. They lock tables without waiting, so they wait for nothing but indexes."""
_LOCK_REFUSED = re.compile(r'could not obtain lock on relation "(?P<table>.+)"')

CHECK_ADVICE = " Run pgstow check to see all that the role may not read."
"""The last sentence of a DumpFailed, if a missing privilege may be the reason."""


@dataclass(frozen=True, slots=True)
class DumpCall:
    """The program of a dump, the database to dump, and what both need."""

    program: Program
    source: Conninfo
    workspace: Workspace
    server: Server
    """pgstow's session on the same database: it holds the snapshot, and reads sizes, sessions and locks."""
    name: str
    """The application name of all sessions of the program."""
    lock_wait_timeout: int
    """Seconds to wait for other sessions' locks; 0 to wait for ever."""


class Dump:
    """A running pg_dump or pg_dumpall; see :class:`DirectoryDump` and :class:`StreamDump`. It never asks for a password."""

    def __init__(self, call: DumpCall, arguments: Sequence[str], *, stdout: int = DEVNULL) -> None:
        self._call = call
        timeout = [f"--lock-wait-timeout={call.lock_wait_timeout * 1000}"] if call.lock_wait_timeout else []
        self.connection = call.source.for_program(call.workspace, call.name)
        """The connection string of the program, which other programs of the dump may use, too. It holds no password."""
        self._running: RunningProgram = call.workspace.start(
            call.program,
            [*arguments, "--no-password", *timeout, f"--dbname={self.connection}"],
            unset=call.source.overrides,
            stdout=stdout,
        )

    def has_ended(self) -> bool:
        """True if the program has ended with success; False while it runs.

        Raises DumpFailed with the program's message, DumpInterrupted if the failure may be temporary, or LocalResourceExhausted if a disk
        is full.
        """
        status = self._running.poll()
        if status:
            raise self.failure(self._call.program.path.name, status, self._running.messages())
        return status is not None

    def warnings(self) -> Sequence[str]:
        """Return the lines that the program wrote to its standard error."""
        return self._running.messages().splitlines()

    def stop(self) -> None:
        """End the program and its sessions on the server."""
        self._running.stop()

    def failure(self, name: str, status: int, messages: str) -> Exception:
        """Return the exception for a program of the dump that ended with ``status``; see :meth:`has_ended`.

        ``messages`` is the text on the program's standard error, in the form of pg_dump's messages.
        """
        if tells_of_full_disk(messages) or shutil.disk_usage(self._call.workspace.path).free == 0:
            return LocalResourceExhausted(self._full_disk())
        if conflict := explain_conflict(messages):
            return DumpInterrupted(conflict)
        if _LOCK_WAITED_FOR.search(messages):
            return DumpInterrupted(self._explain_wait(messages))
        if refused := explain_refused_lock(messages):
            return DumpInterrupted(refused)
        if _INDEX_WAITED_FOR in messages:
            return DumpInterrupted(
                f"Another session held a lock on an index of a large table for longer than {self._call.lock_wait_timeout:,} s, as REINDEX "
                "does: wait until that session has finished, raise --lock-wait-timeout, or say --split-tables never."
            )
        reason = describe_failure(name, status, messages)
        if may_pass(messages):
            return DumpInterrupted(reason)
        advice = CHECK_ADVICE if "permission denied" in reason else ""
        return DumpFailed(f"{reason}{advice}")

    def _full_disk(self) -> str:
        return f"The spool's disk at {self._call.workspace.path} is full; free some space, name another folder, or lower the spool's limit."

    def _explain_wait(self, messages: str) -> str:
        blockers = []
        with suppress(ConnectionFailed):
            blockers = [blocker for blocker in find_blockers(self._call.server) if blocker.table in messages]
        trouble = str(blockers[0]) if blockers else "Another session held a lock on one of the tables"
        remedy = blockers[0].remedy if blockers else "wait until that transaction has ended, or end it"
        return f"{trouble}, for which pg_dump waited {self._call.lock_wait_timeout:,} s: {remedy}, or raise --lock-wait-timeout."


class DirectoryDump(Dump):
    """A pg_dump that fills :attr:`folder`, and holds ``jobs`` + 1 connections, or one connection for a single job.

    pg_dump doesn't compress the files, since the pipeline does. It doesn't sync them either, since the spool is not the backup. It leaves out
    the rows of the tables that match a pattern in ``without_data``.
    """

    def __init__(
        self, call: DumpCall, selection: Selection, *, snapshot: str, jobs: int, without_data: Sequence[str] = ()
    ) -> None:
        self.folder = call.workspace.path / ARCHIVE
        self.folder.mkdir(mode=0o700)
        self._paused = False
        arguments = ["--format=directory", f"--file={self.folder}", f"--jobs={jobs}", "--compress=0", "--no-sync"]
        excluded = [f"--exclude-table-data={pattern}" for pattern in without_data]
        super().__init__(call, [*arguments, f"--snapshot={snapshot}", *selection.arguments(), *excluded])

    def open_files(self) -> set[str] | None:
        """Return the names of the archive's files that pg_dump has open; None if the kernel doesn't show them."""
        return self._running.open_files(self.folder)

    def pause_if(self, full: bool) -> None:
        """Pause pg_dump if ``full`` is true; otherwise let it run."""
        if full and not self._paused:
            self._running.pause()
        elif self._paused and not full:
            self._running.resume()
        self._paused = full


class StreamDump(Dump):
    """A dump that writes to a pipe. :meth:`read` returns its output."""

    def __init__(self, call: DumpCall, arguments: Sequence[str]) -> None:
        reading, writing = os.pipe()
        self._output = os.fdopen(reading, "rb", buffering=0)
        self._piece = bytearray()
        self._at_end = False
        with os.fdopen(writing, "wb", buffering=0):
            super().__init__(call, arguments, stdout=writing)

    @classmethod
    def of_database(cls, call: DumpCall, selection: Selection, *, snapshot: str, format_: Format) -> Self:
        """Return a running pg_dump of one database, with one connection."""
        compression = ["--compress=0"] if format_ == "custom" else []  # pg_dump doesn't compress the other formats
        return cls(call, [f"--format={format_}", *compression, f"--snapshot={snapshot}", *selection.arguments()])

    def read(self, size: int, *, timeout: float) -> tuple[bytes, bool] | None:
        """Return the next ``size`` bytes and False. At the end of the output, return the rest and True.

        Return None if fewer bytes come within ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        while len(self._piece) < size and not self._at_end:
            if not select.select([self._output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            part = self._output.read(size - len(self._piece))
            self._piece += part
            self._at_end = not part
        piece, self._piece = bytes(self._piece), bytearray()
        return piece, self._at_end

    def _full_disk(self) -> str:
        return (
            f"The disk of {self._call.workspace.path} or of the system's temporary folder is full. For the tar format, pg_dump first writes "
            "each table into the temporary folder. Free some space, name another folder, or use another format."
        )

    def close(self) -> None:
        """Close the pipe."""
        self._output.close()


def explain_refused_lock(messages: str) -> str | None:
    """Return a sentence if the server refused a lock that the dump would not wait for; None for other messages."""
    refused = _LOCK_REFUSED.search(messages)
    if refused is None:
        return None
    return (
        f"Another session asked for a lock on {refused['table']} during the dump, so the dump could not lock the table: "
        "wait until that session has finished, and avoid such locks while a backup runs."
    )


def dump_definitions(program: Program, conninfo: Conninfo, workspace: Workspace, *, encoding: str, name: str) -> bytes:
    """Dump a database whose tables are empty, and return the archive's ``toc.dat``, with its strings in ``encoding``.

    ``name`` is the application name. Row security hides nothing, since there are no rows. Raises DumpFailed if pg_dump fails.
    """
    folder = workspace.path / ARCHIVE
    running = workspace.start(
        program,
        [
            "--format=directory",
            f"--file={folder}",
            "--compress=0",
            "--no-sync",
            "--no-password",
            "--enable-row-security",
            f"--encoding={encoding}",
            *([f"--role={conninfo.role}"] if conninfo.role else []),
            f"--dbname={conninfo.for_program(workspace, name)}",
        ],
        unset=conninfo.overrides,
    )
    if status := running.wait():
        raise DumpFailed(describe_failure("pg_dump", status, running.messages()))
    return (folder / TOC_NAME).read_bytes()
