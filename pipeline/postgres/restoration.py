"""pg_restore, from a folder into a database."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import RestoreFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.programs import Program
from pipeline.postgres.toc import Toc
from pipeline.postgres.workspace import Workspace, describe_failure, run


class Restoration:
    """A running pg_restore. It stops at the first error, and never asks for a password.

    ``dump_ids`` are the entries to restore in the order to take them in; None for all. Without ``tablespaces``, all goes into the database's
    own. It holds ``jobs`` + 1 connections.
    """

    def __init__(
        self,
        program: Program,
        conninfo: Conninfo,
        workspace: Workspace,
        folder: Path,
        *,
        jobs: int,
        name: str,
        dump_ids: Sequence[int] | None,
        tablespaces: bool,
    ) -> None:
        arguments = [
            "--format=directory",
            f"--jobs={jobs}",
            "--exit-on-error",
            "--no-password",
            f"--dbname={conninfo.for_program(workspace, name)}",
        ]
        if not tablespaces:
            arguments.append("--no-tablespaces")
        if dump_ids is not None:
            chosen = workspace.write_private("list", "".join(f"{dump_id};\n" for dump_id in dump_ids))
            arguments.append(f"--use-list={chosen}")
        self._running = workspace.start(program, [*arguments, str(folder)], unset=conninfo.overrides)

    def has_ended(self) -> bool:
        """Whether it ended, and well. Raises RestoreFailed with pg_restore's own words where it ended badly."""
        status = self._running.poll()
        if status:
            raise RestoreFailed(describe_failure("pg_restore", status, self._running.messages()))
        return status is not None

    def stop(self) -> None:
        """End it and its sessions on the server."""
        self._running.stop()


def check_toc(program: Program, folder: Path, toc: Toc) -> None:
    """Have pg_restore parse the table of contents in ``folder``. Raises RestoreFailed unless it finds the entries of ``toc``."""
    listed = run(program, ["--list", str(folder)])
    if listed.returncode:
        raise RestoreFailed(describe_failure("pg_restore", listed.returncode, listed.stderr.decode("utf-8", "replace")))
    found = {int(line.split(b";")[0]) for line in listed.stdout.splitlines() if line[:1].isdigit() and b";" in line}
    data = {entry.dump_id for entry in toc.data_entries}
    if not data <= found:
        raise RestoreFailed(f"pg_restore --list shows {len(data & found)} of the archive's {len(data)} data entries.")
