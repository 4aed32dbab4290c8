"""psql, which runs a script on a server."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RestoreFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.programs import Program
from pipeline.postgres.restoration import IgnoredError
from pipeline.postgres.workspace import Workspace, describe_failure

# The severity comes in the server's language; notices and warnings have SQLSTATEs of the classes 00, 01 and 02.
_REFUSED = re.compile(r"^psql:[^\n]*?: [^:\n]+:\s+(?P<sqlstate>(?!0[012])\w{5}): (?P<message>.*)$", re.MULTILINE)
_DUPLICATE_OBJECT = "42710"
_TICK = 0.02  # seconds


@dataclass(frozen=True, slots=True)
class ScriptError:
    """A statement that the server refused."""

    sqlstate: str
    message: str

    @property
    def is_presence(self) -> bool:
        """Whether it is that what was to be made is there: the superuser that initdb made is in every script of pg_dumpall's."""
        return self.sqlstate == _DUPLICATE_OBJECT


class ScriptRun:
    """A running psql of the script at ``path``, under the application name ``name``; it never asks for a password.

    It stops at the first error (``ON_ERROR_STOP``), and with ``single_transaction`` undoes all then; with ``passes``, it goes on after
    errors, and :meth:`has_ended` raises those that don't pass.
    """

    def __init__(
        self,
        program: Program,
        conninfo: Conninfo,
        workspace: Workspace,
        path: Path,
        *,
        name: str,
        single_transaction: bool = False,
        passes: Callable[[ScriptError], bool] | None = None,
    ) -> None:
        self._passes = passes
        self._refused: list[ScriptError] = []
        self._read = 0  # bytes of psql's messages
        self._running = workspace.start(
            program,
            [
                "--no-psqlrc",
                "--quiet",
                "--no-password",
                "--variable=VERBOSITY=verbose",
                *([] if passes else ["--variable=ON_ERROR_STOP=1"]),
                *(["--single-transaction"] if single_transaction else []),
                f"--file={path}",
                f"--dbname={conninfo.for_program(workspace, name)}",
            ],
            unset=conninfo.overrides,
        )

    def has_ended(self) -> bool:
        """Whether it ended, having got to its end. Raises RestoreFailed with the server's words, or psql's own, where it did not."""
        status = self._running.poll()
        told = self._running.lines(self._read)
        self._read += len(told)
        errors = [
            ScriptError(match["sqlstate"], match["message"])
            for match in _REFUSED.finditer(told.decode("utf-8", "replace"))
        ]
        self._refused += errors
        if refused := [error for error in errors if not (self._passes and self._passes(error))]:
            raise RestoreFailed(f"psql failed: {refused[0].message.rstrip('.')}.")
        if status:
            raise RestoreFailed(describe_failure("psql", status, self._running.messages()))
        return status is not None

    def ignored_errors(self) -> list[IgnoredError]:
        """None: what it passes over is no error."""
        return []

    def refused(self) -> Sequence[ScriptError]:
        """What the server refused of the script, as far as :meth:`has_ended` looked."""
        return self._refused

    def stop(self) -> None:
        """End it and its session on the server."""
        self._running.stop()


def run_script(
    program: Program, conninfo: Conninfo, workspace: Workspace, script: Path, name: str
) -> Sequence[ScriptError]:
    """Have psql run all of a script, statement by statement; what the server refused of it. Raises RestoreFailed where psql itself fails."""
    running = ScriptRun(program, conninfo, workspace, script, name=name, passes=lambda _: True)
    while not running.has_ended():
        time.sleep(_TICK)
    return running.refused()
