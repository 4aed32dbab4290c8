"""Measure what a command costs: wall and CPU time, memory of its process tree, and local disk."""

import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

_INTERVAL = 0.05  # seconds between samples
_SAMPLER_SHARE = 0.05  # of one core; above this share, the sampler takes fewer samples
_TICKS = os.sysconf("SC_CLK_TCK")  # clock ticks in a second
_YOUNG = 0.03  # seconds
_TIME_LIMIT = 900.0  # seconds


class CommandFailedError(Exception):
    """The command did not exit with 0. The text is the exit status and the end of the command's output."""

    @property
    def summary(self) -> str:
        """The text without the output, which may name files of this machine."""
        return str(self).partition(":")[0]


@dataclass(frozen=True, slots=True)
class Measurement:
    """The costs of one run of a command, or the summary of several runs."""

    wall: float
    """Seconds from start to exit."""
    cpu: float
    """User and system seconds of the whole process tree, without the database server and the object store."""
    machine_cpu: float
    """Busy seconds of all cores during the run, including the server, the store and other processes."""
    memory: int
    """The peak sum of the process tree's PSS, in bytes, sampled. Shared pages are counted once, the page cache isn't counted."""
    disk: int
    """The peak of the blocks allocated below the watched directory, in bytes, sampled."""
    files: int
    """The peak number of files below the watched directory, sampled."""
    main_thread: float = 0.0
    """The most CPU seconds of any process's main thread, sampled. In a backup by pgstow, it is the thread that reads and packs the dump."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, the lowest and the highest of several figures."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> "Spread":
        """Return the spread of at least one figure."""
        return cls(statistics.median(figures), min(figures), max(figures))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def measure(command: str, *, environment: Mapping[str, str], watched: Path) -> Measurement:
    """Run a line of bash, with pipefail, to its end. Return its costs.

    ``environment`` is the whole environment of the command. ``watched`` is the directory whose disk use is measured.

    Raises:
        CommandFailedError: the exit status of the command is not 0, or the command ran for 15 minutes.
    """
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        machine_before, started = _machine_cpu(), time.monotonic()
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        limit = threading.Timer(_TIME_LIMIT, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        tree = _Sampler(partial(_look_at_tree, psutil.Process(process.pid)))
        disk = _Sampler(lambda: used_below(watched))
        try:
            # wait4 reports the CPU times of this child, and of the children for which the child waited.
            _, status, used = os.wait4(process.pid, 0)
            wall, machine = time.monotonic() - started, _machine_cpu() - machine_before
        except BaseException:  # Ctrl-C reaches only this process
            os.killpg(process.pid, signal.SIGTERM)
            raise
        finally:
            limit.cancel()
            (peak_memory, ticks), (peak_disk, peak_files) = tree.stop(), disk.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise CommandFailedError(f"exit status {process.returncode}: {said.read()[-2000:].strip()}")
    cpu, main_thread = used.ru_utime + used.ru_stime, ticks / _TICKS
    return Measurement(wall, cpu, machine, peak_memory, peak_disk, peak_files, main_thread)


def summarize(runs: Sequence[Measurement]) -> Measurement:
    """Return the medians of the times, and the highest of the peaks."""
    return Measurement(
        wall=statistics.median(run.wall for run in runs),
        cpu=statistics.median(run.cpu for run in runs),
        machine_cpu=statistics.median(run.machine_cpu for run in runs),
        memory=max(run.memory for run in runs),
        disk=max(run.disk for run in runs),
        files=max(run.files for run in runs),
        main_thread=statistics.median(run.main_thread for run in runs),
    )


class _Sampler(threading.Thread):
    """Samples figures in a thread, and keeps the highest value of each figure."""

    def __init__(self, look: Callable[[], tuple[int, ...]]) -> None:
        super().__init__(daemon=True)
        self._look = look
        self._peaks = look()
        self._done = threading.Event()
        self.start()

    def run(self) -> None:
        pause = 0.0
        while not self._done.wait(pause):
            cost = time.thread_time()
            self._peaks = tuple(map(max, self._peaks, self._look()))
            pause = max(_INTERVAL, (time.thread_time() - cost) / _SAMPLER_SHARE)

    def stop(self) -> tuple[int, ...]:
        self._done.set()
        self.join()
        return self._peaks


def _look_at_tree(root: psutil.Process) -> tuple[int, int]:
    """Return the sum of the PSS of all processes in bytes, and the most CPU time of a process's main thread in clock ticks."""
    try:
        pids = [process.pid for process in (root, *root.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0, 0
    looks = [_look_at(pid) for pid in pids]
    return sum(pss for pss, _ in looks), max(ticks for _, ticks in looks)


def _look_at(pid: int) -> tuple[int, int]:
    """Return the PSS of a process in bytes, and the CPU time of its main thread in clock ticks.

    Both are 0 for a process that has just begun or has ended. Between vfork(2) and execve(2), a process has the memory of its parent, which
    would count twice.
    """
    try:
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as stat:  # noqa: PTH123 - Path.open is slower, and this is sampled
            # proc(5): utime, stime and starttime are fields 14, 15 and 22. Field 2, the name, may contain spaces, but ends with the last
            # parenthesis.
            fields = stat.read().rpartition(b")")[2].split()
        user, system, began = int(fields[11]), int(fields[12]), int(fields[19])
        if time.clock_gettime(time.CLOCK_BOOTTIME) - began / _TICKS < _YOUNG:
            return 0, 0
        with open(f"/proc/{pid}/smaps_rollup", "rb") as rollup:  # noqa: PTH123 - as above
            pss = next((int(line.split()[1]) * 1024 for line in rollup if line.startswith(b"Pss:")), 0)
    except OSError:
        return 0, 0
    return pss, user + system


def used_below(directory: str | Path) -> tuple[int, int]:
    """Return the bytes of the blocks allocated to the files below a directory, and the number of these files.

    If there is no such directory, both are 0.
    """
    size = files = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        below = used_below(entry.path)
                        size, files = size + below[0], files + below[1]
                    else:
                        size, files = size + entry.stat(follow_symlinks=False).st_blocks * 512, files + 1
                except FileNotFoundError:
                    continue  # the file was just removed
    except FileNotFoundError:
        pass
    return size, files


def _machine_cpu() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq)
