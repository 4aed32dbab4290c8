"""The errors of a backup or a restore.

``str(error)`` is one sentence: what failed, on what, and what to do next. The cause is chained. ``cli/errors.py``
gives each class its documented exit code. The errors of a store are in ``storage_backends/errors.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from storage_backends import StorageError

SignatureFault: TypeAlias = Literal["unsigned", "untrusted", "swapped"]
"""What is wrong with an object's signature: there is none, no trusted key made it, or it is another object's."""


class PipelineError(Exception):
    """The base of all errors that pgstow itself finds."""


class InvalidRequest(PipelineError):
    """The user's request contradicts itself, isn't possible, or matches nothing."""


class ConfigInvalid(InvalidRequest):
    """A configuration file has mistakes."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems
        """One sentence for each mistake, with its file, line and key."""


class ProgramMissing(PipelineError):
    """This machine lacks a program that pgstow needs, or has it only in versions that don't fit the server."""


class ConnectionFailed(PipelineError):
    """The server can't be reached, refuses the login or a statement, or went away."""


class StatementRefused(ConnectionFailed):
    """The server refused a statement. The session goes on."""


class ServerUnavailable(ConnectionFailed):
    """The connection failed for a reason that may be temporary: the server is starting, stopping or full, or was restarted."""


class DatabaseLeft(ConnectionFailed):
    """pgstow could not drop its temporary database, which is still on the server."""


class BackupRunning(PipelineError):
    """Another backup of the same database is running."""


class BackupRefused(PipelineError):
    """The user's command that runs before a backup refused the backup, could not be run, or took too long."""


class DumpFailed(PipelineError):
    """pg_dump failed, or its output is not a whole archive."""


class BackupIncomplete(DumpFailed):
    """Some backups of a cluster's databases and globals succeeded, and others failed."""


class BackupBroken(BackupIncomplete):
    """A backup of the cluster failed because of a bug. The unexpected error is chained as the cause."""


class DumpInterrupted(DumpFailed):
    """pg_dump failed for a reason that may be temporary: a conflict with a standby's recovery, another session's lock, a server's restart."""


@dataclass(frozen=True, slots=True)
class RefusedStatement:
    """A statement or rows that a server refused during a restore."""

    message: str
    """The server's reason, in the server's language."""
    statement: str = field(default="", repr=False)
    """The beginning of the SQL, which may hold secrets; empty if the server refused rows."""
    relation: str = ""
    """The name of the table whose rows were refused; empty if the server refused a statement."""
    sqlstate: str = ""
    """The error's SQLSTATE; empty if unknown, since pg_restore doesn't pass it on."""


class RestoreFailed(PipelineError):
    """pg_restore or psql failed, or the restored content differs from the backup."""

    def __init__(self, sentence: str, refused: RefusedStatement | None = None) -> None:
        super().__init__(sentence)
        self.refused = refused
        """The first statement or rows that the server refused, if known."""


class TargetNotEmpty(PipelineError):
    """The database to restore into already has objects, or the database to create already exists."""


class LocalResourceExhausted(PipelineError):
    """A disk is full, or this machine refuses a resource that pgstow needs."""


class BackupNotFound(PipelineError):
    """The store has no such backup."""


class ManifestInvalid(PipelineError):
    """A manifest is damaged, altered, or of a version that this pgstow does not know."""


class Untrusted(PipelineError):
    """No trusted key signed an object, or the signature is another object's."""

    def __init__(self, fault: SignatureFault, reason: str) -> None:
        super().__init__(reason)
        self.fault = fault
        """The fault's name in docs/chain.md."""


class SigningFailed(StorageError):
    """A KMS can't be reached, or refuses to sign. In a backup, this is a failure of the store that needed the signature."""


class BackupDamaged(PipelineError):
    """An object of a backup is missing, or differs from what the manifest says."""
