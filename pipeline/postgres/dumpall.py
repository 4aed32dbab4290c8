"""pg_dumpall for what belongs to no database, roles and tablespaces, and psql to bring it back."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import DumpFailed, RestoreFailed
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


@dataclass(frozen=True, slots=True)
class ScriptError:
    """A statement that the server refused."""

    sqlstate: str
    message: str


def run_script(
    program: Program, conninfo: Conninfo, workspace: Workspace, script: bytes, name: str
) -> Sequence[ScriptError]:
    """Have psql run all of a script, statement by statement; what the server refused of it. Raises RestoreFailed where psql itself fails."""
    path = workspace.write_private(SCRIPT_NAME, script)
    running = workspace.start(
        program,
        [
            "--no-psqlrc",
            "--quiet",
            "--no-password",
            "--variable=VERBOSITY=verbose",
            f"--file={path}",
            f"--dbname={conninfo.for_program(workspace, name)}",
        ],
        unset=conninfo.overrides,
    )
    if status := _await(running):
        raise RestoreFailed(describe_failure("psql", status, running.messages()))
    refused = re.finditer(r"^psql:.*?: ERROR:\s+(\w{5}): (.*)$", running.messages(), re.MULTILINE)
    return [ScriptError(match[1], match[2]) for match in refused]


def _await(running: RunningProgram) -> int:
    while (status := running.poll()) is None:
        time.sleep(_TICK)
    return status
