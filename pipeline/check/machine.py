"""Examines this machine: disk space for the spool, and memory."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.check.finding import Finding, Severity
from pipeline.config import MIB, Limits
from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.workspace import Workspace
from pipeline.stages.spool import can_punch_holes

_OWN_MEMORY = 100 * MIB
"""Bytes of memory that pgstow takes in addition to the data in flight."""
_MEMINFO = Path("/proc/meminfo")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def examine_machine(limits: Limits) -> Iterator[Finding]:
    """Yield a finding on the spool's folder, and a warning if the limits allow more memory than is available."""
    try:
        with Workspace(limits.spool_parent) as workspace:
            yield judge_spool(workspace.path, limits.spool)
    except LocalResourceExhausted as exc:
        yield Finding("spool", Severity.PROBLEM, str(exc), "Name a writable folder by --spool-dir.")
    if (available := available_memory()) is not None and available < limits.memory + _OWN_MEMORY:
        yield Finding(
            "memory",
            Severity.WARNING,
            f"A backup may take {(limits.memory + _OWN_MEMORY) // MIB:,} MiB of memory, of which {available // MIB:,} MiB are "
            "available now.",
            "Lower --memory, or use a machine with more memory.",
        )


def judge_spool(folder: Path, limit: int) -> Finding:
    """Return a finding on the space and the file system of a folder for the spool. ``limit`` is in bytes."""
    free = shutil.disk_usage(folder).free
    if free < limit:
        return Finding(
            "spool",
            Severity.PROBLEM,
            f"{folder.parent} has {free // MIB:,} MiB free, less than the {limit // MIB:,} MiB that the spool may take.",
            "Free some space, name another folder by --spool-dir, or lower --spool-limit.",
        )
    if not can_punch_holes(folder / "hole"):
        return Finding(
            "spool",
            Severity.WARNING,
            f"The file system of {folder.parent} can't punch holes. So a table's file stays there until the whole table is dumped, "
            "even if the file is larger than the spool's limit.",
            "Name a folder on ext4, XFS, Btrfs or tmpfs by --spool-dir.",
        )
    return Finding(
        "spool",
        Severity.OK,
        f"{folder.parent} has {free // MIB:,} MiB free for a spool of {limit // MIB:,} MiB, and can punch holes.",
    )


def available_memory() -> int | None:
    """Return the bytes of memory that are available without swapping, or the container's limit if it is lower; None if unknown."""
    found = []
    try:
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), re.MULTILINE):
            found.append(int(match[1]) * 1024)
        found.append(int(_CGROUP_LIMIT.read_text()))  # "max" if there is no limit
    except (OSError, ValueError):
        pass
    return min(found, default=None)
