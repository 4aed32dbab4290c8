"""Folders that an earlier run left behind, and how the next run tells that nobody uses them any more.

Each folder that pgstow makes for a while holds a lock file, which its maker keeps locked. So after ``kill -9`` of pgstow and its guards, or a
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
"""What the names of such folders begin with."""
LOCK = "pgstow.lock"
DATA = "data"
"""In such a folder, that of a server's files."""
_SETTLED = 60.0  # seconds after which whoever made a folder has locked it
_PATIENCE = 10.0  # seconds for a server to end
_TICK = 0.05


def claim(folder: Path) -> int:
    """Lock a new folder. Return the descriptor of the lock, which lasts as long as the descriptor is open. Raises OSError."""
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def remove_abandoned(parent: Path) -> None:
    """Remove the folders in ``parent`` that nobody holds the lock of. A server that still runs in one is ended first."""
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
    """Kill the processes whose working directory is the folder, where each process of a server has its own.

    A number in the server's own files might be anybody's: code that ran in the server could have written it.
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
    """Yield the descriptor of each process (pidfd_open(2)), which stands for no other process once that one has ended."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            process = os.pidfd_open(int(entry.name))
            if (entry / "cwd").readlink() == folder:
                yield process
            else:
                os.close(process)
