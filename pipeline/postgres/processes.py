"""Reads from Linux's ``/proc`` which processes of a program live, and which files they have open.

The answer is None if it could be wrong. Either there is no ``/proc``, or it belongs to another PID namespace, or it hides a process or its
files, or a process came or went meanwhile. https://man7.org/linux/man-pages/man5/proc.5.html
"""

import os
from contextlib import suppress
from pathlib import Path


def files_open_in(folder: Path, leader: int) -> set[str] | None:
    """Return the names of the files in ``folder`` that ``leader``, a child of this process, or its descendants have open; None if unknown."""
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
    """Return the processes of a group, without zombies; None if unknown."""
    return _members(group) if _shows_us() else None


def _shows_us() -> bool:
    """True if ``/proc`` shows our own PID namespace: this process has its own number there, and no second one."""
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

    A kernel may be built without the files ``children`` (CONFIG_PROC_CHILDREN). Then the group that ``leader`` leads is returned.
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
    """Return the paths that a process has open. Raises OSError if the kernel doesn't tell."""
    targets = []
    for descriptor in os.scandir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):  # this one was closed meanwhile
            targets.append(str(Path(descriptor.path).readlink()))
    return targets


def _members(group: int) -> list[int]:
    """Return the processes of a group, by field 5 of their stat, without zombies. Raises OSError without /proc."""
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
    """Return the fields of a process's stat after its name: state, parent, group, …"""
    return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
