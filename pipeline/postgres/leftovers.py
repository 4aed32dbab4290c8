"""Removes folders that an earlier run left behind, if no process uses them.

Each temporary folder of pgstow holds a lock file. The run that made the folder keeps the file locked. The lock becomes free when pgstow
ends, even by ``kill -9`` or by a failure of the machine. After a ``kill -9``, a shell process removes the folder (``_GUARD`` in
workspace.py and throwaway.py). The folder and its lock file stay only if the shell process was killed, too, or if the machine failed. This
module removes a folder only if the folder's lock file belongs to this user.
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
_SETTLED = 60.0  # seconds after which the owner of a new folder has certainly locked the file
_PATIENCE = 10.0  # seconds for a server to end
_TICK = 0.05


def claim(folder: Path) -> int:
    """Lock a new folder, and return the lock's file descriptor. The lock lasts as long as the descriptor is open. Raises OSError."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in ``parent`` whose locks nobody holds. First end the servers that still run in them."""
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
    """Kill the processes whose working directory is the folder: all processes of a server, if the folder is its data folder.

    pgstow doesn't trust the process IDs in the server's files, since code that ran in the server may have written them.
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
    """Yield a descriptor for each process whose working directory is the folder (pidfd_open(2)).

    A process ID may be reused for another process, but a descriptor never is.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            process = os.pidfd_open(int(entry.name))
            if (entry / "cwd").readlink() == folder:
                yield process
            else:
                os.close(process)
