"""pg_dumpall for what belongs to no database, roles and tablespaces."""

import time
from typing import Literal

from pipeline.errors import DumpFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.programs import Program
from pipeline.postgres.workspace import RunningProgram, Workspace, describe_failure

SCRIPT_NAME = "globals.sql"
_END = b"PostgreSQL database cluster dump complete"
"""What pg_dumpall ends its script with: main() in pg_dumpall.c."""
_TICK = 0.02  # seconds

OnlyGlobals = Literal["roles", "tablespaces"]


def dump_globals(
    program: Program,
    conninfo: Conninfo,
    workspace: Workspace,
    *,
    database: str,
    only: OnlyGlobals | None,
    role_passwords: bool,
    name: str,
) -> bytes:
    """The script that makes roles and tablespaces as they are. Raises DumpFailed.

    pg_dumpall connects to ``database``, under the application name ``name``.
    """
    script = workspace.path / SCRIPT_NAME
    running = workspace.start(
        program,
        [
            f"--{only or 'globals'}-only",
            *([] if role_passwords else ["--no-role-passwords"]),
            "--no-password",
            f"--file={script}",
            f"--database={database}",
            f"--dbname={conninfo.for_program(workspace, name)}",
        ],
        unset=conninfo.overrides,
    )
    if status := _await(running):
        raise DumpFailed(describe_failure("pg_dumpall", status, running.messages()))
    data = script.read_bytes()
    if _END not in data[-1000:]:
        raise DumpFailed("pg_dumpall ended well, but its script is cut short.")
    return data


def _await(running: RunningProgram) -> int:
    while (status := running.poll()) is None:
        time.sleep(_TICK)
    return status
