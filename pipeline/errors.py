"""What can go wrong in a backup or a restore.

``str(error)`` is one sentence: what failed, on what, and what to do next. The cause is chained. ``cli/errors.py``
gives each class its documented exit code. What can go wrong in a store is in ``storage_backends/errors.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


class PipelineError(Exception):
    """Base of everything that pgstow reports by itself."""


class InvalidRequest(PipelineError):
    """What the user asked for contradicts itself, or matches nothing."""


class ConfigInvalid(InvalidRequest):
    """A configuration file that can't be right."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems
        """One sentence for each thing that is wrong, with its file, line and key."""


class ProgramMissing(PipelineError):
    """A program that is needed is not on this machine, or only in a version that does not fit the server."""


class ConnectionFailed(PipelineError):
    """The server cannot be reached, refuses the login, or went away."""


class ServerUnavailable(ConnectionFailed):
    """The same, in a way that may pass: the server is starting, stopping or full, or was restarted."""


class DatabaseLeft(ConnectionFailed):
    """A database that pgstow made for a while is still on the server."""


class BackupRunning(PipelineError):
    """Another backup of the same database is under way."""


class DumpFailed(PipelineError):
    """pg_dump ended badly, or what it left is not a whole archive."""


class BackupIncomplete(DumpFailed):
    """Of several databases, some are backed up and some are not."""


class BackupBroken(BackupIncomplete):
    """A backup of the cluster failed by an unexpected error: a bug, which is the cause."""


class DumpInterrupted(DumpFailed):
    """The same, by something that may pass: a conflict with a standby's recovery, somebody else's lock, a restart of the server."""


@dataclass(frozen=True, slots=True)
class RefusedStatement:
    """What a server refused while a backup was restored."""

    message: str
    """The reason, in the server's language."""
    statement: str = field(default="", repr=False)
    """The beginning of the SQL, which may hold secrets; empty if the server refused rows."""
    relation: str = ""
    """The name of the table whose rows were refused."""
    sqlstate: str = ""
    """Empty if unknown: pg_restore doesn't say it."""


class RestoreFailed(PipelineError):
    """pg_restore ended badly, or what it restored is not what was backed up."""

    def __init__(self, sentence: str, refused: RefusedStatement | None = None) -> None:
        super().__init__(sentence)
        self.refused = refused
        """The first statement or rows that the server refused, if known."""


class TargetNotEmpty(PipelineError):
    """The database to restore into holds something already."""


class LocalResourceExhausted(PipelineError):
    """The local disk is full, or this machine refuses something that pgstow needs."""


class BackupNotFound(PipelineError):
    """The store holds no such backup."""


class ManifestInvalid(PipelineError):
    """A manifest is damaged, altered, or of a version that this pgstow does not know."""


class BackupDamaged(PipelineError):
    """An object of a backup is missing, or is not what the manifest says."""
