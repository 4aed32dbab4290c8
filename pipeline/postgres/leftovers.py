"""Removes folders that an earlier run left behind, if no process uses them.

Each temporary folder of pgstow holds a lock file. Its run keeps the file locked. So after ``kill -9`` of pgstow and its guards, or a
failure of the machine, the lock is free. Nothing without a lock file of this user's is ever removed.
"""

import fcntl
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PREFIX = "pgstow-"
"""The beginning of the folders' names."""
LOCK = "pgstow.lock"
DATA = "data"
"""The name of a server's data folder in a temporary folder."""
_SETTLED = 60.0  # seconds after which a new folder's lock file is surely locked
_PATIENCE = 10.0  # seconds for a server to end
_TICK = 0.05


def claim(folder: Path) -> int:
    """Lock a new folder. Return the descriptor of the lock, which lasts as long as the descriptor is open. Raises OSError."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in ``parent`` whose locks nobody holds. End servers that still run in them first."""
    for path in parent.glob(f"{PREFIX}*/{LOCK}"):
        try:
            status = path.lstat()
            if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode) or path.parent.is_symlink():
                continue
            if time.time() - status.st_mtime < _SETTLED:
                continue
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _end_processes_in(path.parent / DATA)
            shutil.rmtree(path.parent, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(lock)


def _end_processes_in(folder: Path) -> None:
    """Kill the processes whose working directory is the folder. Each process of a server works in the data folder.

    Process IDs in the server's own files aren't believed: code that ran in the server could have written them.
    """
    deadline = time.monotonic() + _PATIENCE
    while (processes := list(_processes_in(folder))) and time.monotonic() < deadline:
        for process in processes:
            try:
                signal.pidfd_send_signal(process, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            finally:
                os.close(process)
        time.sleep(_TICK)


def _processes_in(folder: Path) -> Iterator[int]:
    """Yield a descriptor of each process (pidfd_open(2)). A descriptor never stands for another process, even after the process has ended."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            process = os.pidfd_open(int(entry.name))
            if (entry / "cwd").readlink() == folder:
                yield process
            else:
                os.close(process)
