"""What Linux's ``/proc`` tells of a program and of the workers that it forked: which of them live, and which files they have open.

An answer is None wherever it could be wrong: no ``/proc``, one of another PID namespace, a process that it hides or whose files it may not
show, a process that came or went meanwhile. https://man7.org/linux/man-pages/man5/proc.5.html
"""

import os
from contextlib import suppress
from pathlib import Path


def files_open_in(folder: Path, leader: int) -> set[str] | None:
    """The names of the files in ``folder`` that a child of this process, or a descendant of it, has open; None where that can't be told."""
    if not _shows_us():
        return None
    prefix = f"{folder}/"
    try:
        processes = _descent(leader)
        targets = [target for process in processes for target in _open_by(process)]
        # Whoever forked, or ended, meanwhile may have had a file open that nobody was asked for.
        if _descent(leader) != processes or _is_zombie(leader):
            return None
    except OSError:
        return None
    return {target.removeprefix(prefix) for target in targets if target.startswith(prefix)}


def living_members(group: int) -> list[int] | None:
    """The processes of a group, zombies left out; None where that can't be told."""
    return _members(group) if _shows_us() else None


def _shows_us() -> bool:
    """True if ``/proc`` shows our own PID namespace: this process has the number there that it knows itself by, and no second one."""
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
    """``leader`` and its descendants. Raises OSError where one of them can't be seen, or has just ended.

    A kernel may be built without the files ``children`` (CONFIG_PROC_CHILDREN); then it is the group that ``leader`` leads.
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
    """What a process has open. Raises OSError where the kernel doesn't tell."""
    targets = []
    for descriptor in os.scandir(f"/proc/{process}/fd"):
        with suppress(FileNotFoundError):  # it was closed meanwhile; the others count all the same
            targets.append(str(Path(descriptor.path).readlink()))
    return targets


def _members(group: int) -> list[int]:
    """By field 5 of each process's stat; zombies are left out. Raises OSError without /proc."""
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
    """The fields of a process's stat after its name: state, parent, group, …"""
    return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
