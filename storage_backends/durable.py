"""Files and directories that survive a crash of the machine."""

import os
from contextlib import suppress
from pathlib import Path

from storage_backends.backend import Body

MAX_RACES = 100
"""Attempts to use a directory that somebody else removes again and again."""


def write_file(path: Path, body: Body) -> os.stat_result:
    """Create the file with mode 0600, durably, and return its status. The caller has to sync the file's folder. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb", buffering=0) as file:
        rest = memoryview(body).cast("B")
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(fd)
        return os.fstat(fd)


def make_directory(path: Path) -> None:
    """Create the directory and its parents durably, all of mode 0700: ``Path.mkdir`` gives parents the default. Raises OSError."""
    for races in range(MAX_RACES):
        if path.is_dir():
            return
        try:
            path.mkdir(0o700)
        except FileExistsError:  # a file is in the way, or a folder that another process removed again
            if races == MAX_RACES - 1:
                raise
        except FileNotFoundError:
            make_directory(path.parent)
        else:
            sync_directory(path.parent)
            return


def sync_directory(path: Path) -> None:
    """Make the directory's new entries durable. Raises OSError."""
    # A folder that a delete beside us removed again has nothing left to make durable.
    with suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
