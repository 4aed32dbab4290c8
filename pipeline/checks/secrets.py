"""Files with passwords that others can read."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.backup import BackupRequest
from pipeline.checks.finding import Finding, Outcome


def examine_secrets(request: BackupRequest) -> Iterator[Finding]:
    """The password file that libpq would look into, and the one that pgstow.toml names."""
    if request.password_file is not None:
        yield from judge_file(request.password_file, "Anybody could log in with what it says.")
    elif (passfile := request.source.passfile) is not None:
        yield from judge_file(passfile, "libpq ignores it for that reason.")


def judge_file(path: Path, consequence: str) -> Iterator[Finding]:
    """A warning, if the file is there and others than its owner may read it."""
    try:
        mode = path.stat().st_mode & 0o777
    except (OSError, ValueError):
        return
    if mode & 0o077:
        yield Finding(
            "password file",
            Outcome.WARNING,
            f"Others than its owner may use the password file {path} (mode {mode:04o}). {consequence}",
            f"Take their rights away: chmod 0600 {path}",
        )
