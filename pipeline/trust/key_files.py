"""Reads recipients and identities from where users keep them: files, and commands that print an identity."""

import os
import shlex
import subprocess
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from pipeline.errors import InvalidRequest
from pipeline.trust.age import Identities, Recipients
from pipeline.trust.secret_text import is_secret, may_be_secret

_LONGEST = 4 * 1024 * 1024
"""The most bytes of a file of recipients or identities."""


def read_recipients(texts: Iterable[str], files: Iterable[Path]) -> Recipients | None:
    """Return the recipients in the texts and the files; None if neither names any file or text.

    A file has one recipient on each line, as for ``age --recipients-file``; lines that begin with ``#`` are comments. Raises InvalidRequest.
    """
    given, files = list(texts), list(files)
    for file in files:
        lines = [line.strip() for line in _read(file, "recipients").decode("utf-8", "replace").splitlines()]
        found = [line for line in lines if line and not line.startswith("#")]
        if not found:
            raise InvalidRequest(f"The file of recipients {file} has no recipient.")
        given += found
    return Recipients.parse(given) if given else None


def read_identities(file: Path) -> Identities:
    """Return the identities in a file. Raises InvalidRequest."""
    return Identities.parse(_read(file, "identities"), f"The file {file}")


def ask_for_identities(command: str) -> Identities:
    """Run a command, without a shell, and return the identities that it prints. It may ask the user. Raises InvalidRequest."""
    try:
        words = shlex.split(command)
        done = subprocess.run(words, stdout=subprocess.PIPE, check=False)
    except (OSError, ValueError, IndexError) as exc:
        raise InvalidRequest(f"The identity command can't be run: {getattr(exc, 'strerror', None) or exc}.") from exc
    if done.returncode:
        raise InvalidRequest(f"The identity command {words[0]} failed with exit code {done.returncode}.")
    return Identities.parse(done.stdout, f"The output of {words[0]}")


def new_identity_file(now: datetime) -> tuple[str, str]:
    """Return the text of a file with a new identity, as age-keygen writes it, and the identity's public key. The text is a secret."""
    identities, text = Identities.new()
    [public] = identities.public
    return f"# created: {now:%Y-%m-%dT%H:%M:%SZ}\n# public key: {public}\n{text}\n", public


def write_private(file: Path, text: str) -> None:
    """Write a new file that only its owner may read. Raises InvalidRequest if the file exists or can't be written."""
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as exc:
        raise InvalidRequest(f"Cannot make {file}: {exc.strerror}.") from exc


def is_open_to_others(file: Path) -> bool:
    """True if users other than the file's owner may read or change the file."""
    try:
        return bool(file.stat().st_mode & 0o077) and file.is_file()
    except OSError:
        return False


def _read(file: Path, content: str) -> bytes:
    if is_secret(file.name):
        raise InvalidRequest(f"A secret key is given in place of the name of a file of {content}.")
    try:
        with file.open("rb") as stream:
            data = stream.read(_LONGEST + 1)
    except (OSError, ValueError) as exc:
        if may_be_secret(str(file)):
            # The cause repeats the name.
            raise InvalidRequest(
                f"A file of {content} can't be read, and its name, which may be a secret key, isn't shown."
            ) from None
        raise InvalidRequest(
            f"The file of {content} {file} can't be read: {getattr(exc, 'strerror', None) or exc}."
        ) from exc
    if len(data) > _LONGEST:
        raise InvalidRequest(f"The file of {content} {file} is longer than {_LONGEST:,} bytes.")
    return data
