"""Examines who can read what must stay secret: the password file, and the backups."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.backup.request import BackupRequest
from pipeline.check.finding import Finding, Severity
from pipeline.counting import counted


def examine_secrets(request: BackupRequest) -> Iterator[Finding]:
    """Yield a warning if other users may use the password file: the file that pgstow.toml names, or else libpq's password file."""
    if request.password_file is not None:
        yield from judge_file(request.password_file, "Anybody who reads the password can log in.")
    elif (passfile := request.source.passfile) is not None:
        yield from judge_file(passfile, "So libpq ignores the file.")


def judge_file(path: Path, consequence: str) -> Iterator[Finding]:
    """Yield a warning if the file exists and users other than its owner may use it. ``consequence`` is a sentence for the warning."""
    try:
        mode = path.stat().st_mode & 0o777
    except (OSError, ValueError):
        return
    if mode & 0o077:
        yield Finding(
            "password file",
            Severity.WARNING,
            f"Other users may use the password file {path} (mode {mode:04o}). {consequence}",
            f"Let only its owner use it: chmod 0600 {path}",
        )


def judge_sealing(request: BackupRequest, url: str) -> Iterator[Finding]:
    """Yield a finding on whether the backups are sealed, unless they stay on this machine. ``url`` is the store's."""
    if request.recipients:
        yield Finding(
            "sealing", Severity.OK, f"Backups are sealed to {counted(len(request.recipients.texts), 'recipient')}."
        )
    elif not url.startswith("file:"):
        yield Finding(
            "sealing",
            Severity.WARNING,
            "Backups aren't sealed: whoever may read the store can read the data.",
            "Make a key with pgstow keygen, and name its public key: --recipient, or recipients in pgstow.toml. See docs/sealing.md.",
        )
