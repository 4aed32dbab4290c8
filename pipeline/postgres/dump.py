"""pg_dump, in the directory format, and what it says."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from pipeline.config import Selection
from pipeline.errors import DumpFailed, LocalResourceExhausted
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.programs import Program
from pipeline.postgres.workspace import RunningProgram, Workspace, describe_failure

ARCHIVE = "archive"
"""The folder in the workspace that pg_dump fills."""
COPY_END = b"\\.\n\n\n"
"""What pg_dump ends a table's data with: dumpTableData_copy() in pg_dump.c."""

CHECK_ADVICE = " Run pgstow check to see all that the role may not read."
"""At the end of a DumpFailed where that may help."""


class Dump:
    """A running pg_dump that fills :attr:`folder`.

    Files aren't compressed, since the pipeline does that, and aren't synced, since the spool is not the backup. It never asks
    for a password. It holds ``jobs`` + 1 connections (one for a single job), under the application name ``name``.
    """

    def __init__(
        self,
        program: Program,
        conninfo: Conninfo,
        workspace: Workspace,
        *,
        selection: Selection,
        jobs: int,
        snapshot: str,
        name: str,
    ) -> None:
        self.folder = workspace.path / ARCHIVE
        self.folder.mkdir(mode=0o700)
        self._paused = False
        self._running: RunningProgram = workspace.start(
            program,
            [
                "--format=directory",
                f"--file={self.folder}",
                f"--jobs={jobs}",
                "--compress=0",
                "--no-sync",
                "--no-password",
                f"--snapshot={snapshot}",
                *selection.arguments(),
                f"--dbname={conninfo.for_program(workspace, name)}",
            ],
            unset=conninfo.overrides,
        )

    def open_files(self) -> set[str] | None:
        """Which files of the archive it is writing; None where the kernel doesn't tell."""
        return self._running.open_files(self.folder)

    def has_ended(self) -> bool:
        """Whether it ended, and well.

        Raises DumpFailed with pg_dump's own words where it ended badly, or LocalResourceExhausted where that was for want of disk.
        """
        status = self._running.poll()
        if status:
            raise _failure(status, self._running.messages(), self.folder)
        return status is not None

    def warnings(self) -> Sequence[str]:
        """What it wrote to its standard error."""
        return self._running.messages().splitlines()

    def pause_if(self, full: bool) -> None:
        """Keep it stopped while ``full``."""
        if full and not self._paused:
            self._running.pause()
        elif self._paused and not full:
            self._running.resume()
        self._paused = full

    def stop(self) -> None:
        """End it and its sessions on the server."""
        self._running.stop()


def _failure(status: int, messages: str, folder: Path) -> Exception:
    if (
        any(os.strerror(number) in messages for number in (errno.ENOSPC, errno.EDQUOT))
        or shutil.disk_usage(folder).free == 0
    ):
        return LocalResourceExhausted(
            f"The spool's disk at {folder.parent} is full; free some space, name another folder, or lower the spool's limit."
        )
    reason = describe_failure("pg_dump", status, messages)
    advice = CHECK_ADVICE if "permission denied" in reason else ""
    return DumpFailed(f"{reason}{advice}")
