"""A private folder, and PostgreSQL's programs that run in it. Neither outlives pgstow.

When pgstow ends, even by ``kill -9``, a guard stops the programs and removes the folder. The guard is a few lines of POSIX shell. It waits
until the other end of a pipe closes. Each program runs in its own process group. So a signal to the group also reaches pg_dump's
workers. A Ctrl-C at the terminal reaches only pgstow, which then stops the programs in order.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.diagnosis import with_hint
from pipeline.postgres.environment import for_client, for_no_connection
from pipeline.postgres.leftovers import claim, remove_abandoned
from pipeline.postgres.processes import files_open_in, living_members
from pipeline.postgres.programs import Program

PREFIX = "pgstow-work-"
_LOG_ROOM = 64 * 1024  # bytes
_LONGEST = 500  # characters of a failure's description, which may quote a query that locks all tables
_FIRST_ERROR = re.compile(
    r"^\w+: error: .*?(?=^\w+: (?:error|warning): |^(?:\w+: detail: )?(?:Command|Query|The command) was: |\Z)",
    re.MULTILINE | re.DOTALL,
)
"""The messages on a program's first error, without the failed statement, whose text may look like a message."""
_GRACE = 10.0  # seconds for a program to end after SIGTERM

# The guard reads the numbers of the process groups to stop, one on each line, until the pipe's other end closes. A minus before a number
# means that the group has ended. The guard ignores signals, since a service manager that stops pgstow may signal the guard, too, which must
# end last. Zombies don't count as alive, since many containers have no process that reaps them. If /proc doesn't show the guard under its own
# process ID, the guard can't see zombies there, and uses kill -0.
_GUARD = """
trap '' HUP INT TERM
lives() {
    own=
    read -r own _ </proc/self/stat
    [ "$own" = $$ ] || { kill -0 "-$group"; return; }
    for stat in /proc/[0-9]*/stat; do
        read -r line <"$stat" || continue
        set -- ${line##*) }
        [ "$3" = "$group" ] && [ "$1" != Z ] && return 0
    done
    return 1
}
groups=
while read -r line; do
    case $line in
    -*)
        left=
        for group in $groups; do [ "-$group" = "$line" ] || left="$left $group"; done
        groups=$left
        ;;
    *) groups="$groups $line" ;;
    esac
done
for group in $groups; do kill -TERM "-$group"; kill -CONT "-$group"; done
for group in $groups; do
    tries=0
    while [ $tries -lt 50 ] && lives; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL "-$group"
done
rm -rf -- "$1"
"""

# The shell's standard input is the guard's pipe. The shell writes its process ID there, and only then becomes the program. So no program runs
# without the guard. $0 is the path of the program's own standard input.
_PROGRAM = 'echo $$ >&0 && exec "$@" <"$0"'


class RunningProgram:
    """A running program and its workers, in one process group."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, guard: int) -> None:
        self._process = process
        self.pid = process.pid
        """The process ID of the program, and the number of its process group."""
        self._log = log
        self._guard = guard
        """The file descriptor of the guard's pipe."""

    def poll(self) -> int | None:
        """Return the exit status, or the negative number of the signal that ended the program; None while it runs.

        Only :meth:`stop` reaps the program. Until then, no other process group can get its number.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def wait(self) -> int:
        """Wait for the end of the program, and return its exit status as :meth:`poll` does."""
        while (status := self.poll()) is None:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return status

    def pause(self) -> None:
        """Send SIGSTOP to the whole group."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Send SIGCONT to the whole group."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the whole group: by SIGTERM, and after ten seconds by SIGKILL. On SIGTERM, pg_dump and pg_restore cancel their statements."""
        if self._process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        deadline = time.monotonic() + _GRACE
        while (self.poll() is None or living_members(self.pid)) and time.monotonic() < deadline:
            time.sleep(0.005)
        self._signal(signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            # Tell the guard before the program is reaped: afterwards, another process group may get the number.
            os.write(self._guard, f"-{self.pid}\n".encode())
        self._process.wait()

    def messages(self) -> str:
        """Return the text that the program has written to its standard error."""
        return self._log.read_text("utf-8", "replace").rstrip("\0").strip()

    def lines(self, offset: int) -> bytes:
        """Return the whole lines that the program has written to its standard error after the first ``offset`` bytes."""
        with self._log.open("rb") as log:
            log.seek(offset)
            data = log.read()
        return data[: data.rfind(b"\n") + 1]

    def open_files(self, folder: Path) -> set[str] | None:
        """Return the names of the files in ``folder`` that the program or its workers have open; None if the kernel doesn't show them."""
        return files_open_in(folder, self.pid)

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:  # a reaped program's number may belong to another group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Workspace:
    """A new folder of mode 0700 in ``parent``, by default the system's temporary folder. It is removed when pgstow ends, even by ``kill -9``.

    Raises LocalResourceExhausted if the folder can't be made.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = (parent or Path(tempfile.gettempdir())).resolve()
        self.path = parent / f"{PREFIX}{secrets.token_hex(8)}"
        self._programs: list[RunningProgram] = []
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "pgstow-guard", str(self.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=for_no_connection(),
            start_new_session=True,
        )
        try:
            remove_abandoned(parent)
            self.path.mkdir(0o700)
            self._lock = claim(self.path)
        except OSError as exc:
            self._dismiss_guard()
            raise LocalResourceExhausted(f"Cannot make a working folder in {parent}: {exc.strerror}.") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._programs:
            program.stop()
        self._dismiss_guard()
        shutil.rmtree(self.path, ignore_errors=True)  # in case something killed the guard, which removes the folder
        os.close(self._lock)

    def write_private(self, name: str, content: str | bytes) -> Path:
        """Write a new file of mode 0600 in the folder, and return its path. Raises FileExistsError if the file exists."""
        path = self.path / name
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def start(
        self,
        program: Program,
        arguments: Sequence[str],
        *,
        unset: Sequence[str] | None = None,
        stdin: int | None = None,
        stdout: int = subprocess.DEVNULL,
        inherit: Sequence[int] = (),
    ) -> RunningProgram:
        """Start one of PostgreSQL's programs. ``stdin`` and ``stdout`` are file descriptors, and ``inherit`` has more of them to pass on.

        The program gets a client's environment without the variables in ``unset``. If ``unset`` is None, it gets none of libpq's variables.

        Only pgstow's user may read the files that the program makes. Raises LocalResourceExhausted if the disk is full.
        """
        given = "/dev/null" if stdin is None else f"/dev/fd/{stdin}"
        log = self._reserve_log(f"{program.path.name}-{len(self._programs)}.log")
        with log.open("r+b") as errors:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _PROGRAM, given, str(program.path), *arguments],
                stdin=self._guard_pipe(),
                stdout=stdout,
                stderr=errors,
                env=for_no_connection() if unset is None else for_client(without=unset),
                process_group=0,
                umask=0o077,
                pass_fds=(*inherit, *([] if stdin is None else [stdin])),
            )
        running = RunningProgram(process, log, self._guard_pipe().fileno())
        self._programs.append(running)
        return running

    def _reserve_log(self, name: str) -> Path:
        """Return a new file with reserved space, so that a program can still write a message when the disk is full."""
        log = self.write_private(name, "")
        try:
            with log.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, _LOG_ROOM)
        except OSError as exc:
            if exc.errno in {errno.ENOSPC, errno.EDQUOT}:  # other errors pass: some file systems can't reserve space
                raise LocalResourceExhausted(f"Cannot write to {self.path}: {exc.strerror}.") from exc
        return log

    def _dismiss_guard(self) -> None:
        """Let the guard stop the programs that still run, and remove the folder.

        A program may run that isn't in the list, if a signal came right after its start.
        """
        self._guard_pipe().close()
        self._guard.wait()

    def _guard_pipe(self) -> IO[bytes]:
        if self._guard.stdin is None:
            raise AssertionError("the guard was started with a pipe")
        return self._guard.stdin


def describe_failure(name: str, status: int, messages: str) -> str:
    """Return a sentence with the reason why a program ended with ``status``, and the server's hint.

    ``messages`` is the text that the program wrote to its standard error.
    """
    if status < 0:
        return f"{name} was killed by signal {-status}."
    lines = [re.sub(rf"^(?:{name}|pg_dump): ", "", line).strip() for line in messages.splitlines()]
    errors = [line for line in lines if line.startswith(("error:", "fatal:", "detail:"))] or lines[-1:]
    reason, *details = [line.split(":", 1)[-1].strip().rstrip(".;") for line in errors[:2]] or [f"exit status {status}"]
    words = f"{name} failed: {reason} ({details[0]})" if details else f"{name} failed: {reason}"
    about = _FIRST_ERROR.search(messages)
    return with_hint(textwrap.shorten(words, _LONGEST, placeholder=" …") + ".", about[0] if about else "")


def run(program: Program, arguments: Sequence[str], *, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a program of PostgreSQL that connects to no server. Return its exit status and its output in bytes."""
    command = [str(program.path), *arguments]
    return subprocess.run(command, input=stdin, env=for_no_connection(), capture_output=True, check=False)
