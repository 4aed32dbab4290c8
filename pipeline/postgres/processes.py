"""Reads from Linux's ``/proc`` which processes of a program live, and which files they have open.

The functions return None if the answer could be wrong. The possible reasons are:

- There is no ``/proc``, or it belongs to another PID namespace.
- It hides a process, or the files of a process.
- A process began or ended during the look.

https://man7.org/linux/man-pages/man5/proc.5.html
"""

import os
from contextlib import suppress
from pathlib import Path


def files_open_in(folder: Path, leader: int) -> set[str] | None:
    """Return the names of the open files in ``folder`` of ``leader`` and its descendants; None if unknown.

    ``leader`` is the process ID of a child of this process.
    """
    if not _shows_us():
        return None
    prefix = f"{folder}/"
    try:
        processes = _descent(leader)
        targets = [target for process in processes for target in _open_by(process)]
        # A process that was forked or ended meanwhile may have had another file open.
        if _descent(leader) != processes or _is_zombie(leader):
            return None
    except OSError:
        return None
    return {target.removeprefix(prefix) for target in targets if target.startswith(prefix)}


def living_members(group: int) -> list[int] | None:
    """Return the process IDs of a process group, without zombies; None if unknown."""
    return _members(group) if _shows_us() else None


def _shows_us() -> bool:
    """True if ``/proc`` shows this process's PID namespace: the process has its own ID there, and no ID in another namespace."""
    own = str(os.getpid())
    try:
        status = Path("/proc/self/status").read_text("utf-8", "replace")
        if str(Path("/proc/self").readlink()) != own:
            return False
    except OSError:
        return False
    numbers = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]  # since Linux 4.1
    return numbers in ([], [[own]])


def _descent(leader: int) -> list[int]:
    """Return ``leader`` and its descendants. Raises OSError if one of them can't be seen, or has just ended.

    If the kernel was built without the files ``children`` (CONFIG_PROC_CHILDREN), return the process group of ``leader``.
    """
    processes = [leader]
    try:
        for process in processes:
            processes += map(int, Path(f"/proc/{process}/task/{process}/children").read_bytes().split())
    except FileNotFoundError:
        processes = _members(leader)
    if leader not in processes:
        raise ProcessLookupError(leader)
    return processes


def _open_by(process: int) -> list[str]:
    """Return the paths of the files that a process has open. Raises OSError if the kernel doesn't show them."""
    targets = []
    for descriptor in os.scandir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):  # the file was closed meanwhile
            targets.append(os.readlink(descriptor.path))  # noqa: PTH115 - a Path would take twice as long
    return targets


def _members(group: int) -> list[int]:
    """Return the process IDs of a process group (field 5 of ``stat``), without zombies. Raises OSError if there is no /proc."""
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                state, _, its_group = _stat(entry.name)[:3]
                if int(its_group) == group and state != b"Z":
                    members.append(int(entry.name))
    return members


def _is_zombie(process: int) -> bool:
    return _stat(process)[0] == b"Z"


def _stat(process: int | str) -> list[bytes]:
    """Return the fields of a process's ``stat`` after its name: state, parent, group and so on."""
    return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
