"""A temporary PostgreSQL server: to prove a backup by a restore, to demonstrate pgstow, and to test it."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import make_conninfo

from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.diagnosis import with_hint
from pipeline.postgres.environment import for_no_connection
from pipeline.postgres.leftovers import PREFIX, claim, remove_abandoned
from pipeline.postgres.os_user import OsUser, give_away, own_user, user_with_name
from pipeline.postgres.programs import OLDEST_MAJOR, PYPI_PACKAGE, find_program

NOT_DURABLE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""Settings for a server whose data are thrown away: PostgreSQL's manual, "Non-Durable Settings"."""
_IN_ITS_FOLDER: Mapping[str, str] = {"dynamic_shared_memory_type": "mmap"}
"""A setting with which all of the server's files are in its own folder. Otherwise, a killed server would leave files in /dev/shm, which
pgstow could not tell from the files of other servers."""

_DEFAULT_PORT = 5432  # without TCP, this is only a part of the socket's name
_WITH_CHECKSUMS = 18
"""The first major version whose servers compute checksums of their pages by default, and have an option to leave them out."""
_LONGEST_SOCKET_PATH = 103  # bytes, without the final NUL; macOS's limit, Linux's is 107
_LOG_PREFIX = re.compile(r"\d{4}-\d\d-\d\d \S+ \S+ \[\d+\] ")
"""The beginning of each line in a server's log, as log_line_prefix is by default."""
_START_TIMEOUT = 60.0  # seconds; a start usually takes one second
_STOP_TIMEOUT = 30.0  # seconds; the postmaster kills its own children after five seconds

# The server must not outlive this process, even if SIGKILL ends the process. So a shell waits at the other end of a pipe. When this process
# is gone, the kernel closes the pipe. The shell then stops the server and removes its files. An empty folder remains if the server's
# user may not change the folder above. Code of a restored database may have started programs. If the server has its own user, the shell ends
# all processes of the user.
_GUARD = """
data=$1 sockets=$2 alone=$3; shift 3
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ read -r _ <&3; kill -QUIT "$server"; } &
watch=$!
wait "$server"; status=$?
kill "$watch"
[ -z "$alone" ] || kill -s KILL -- -1
rm -rf -- "$data" "$sockets"
exit "$status"
"""


class ThrowawayCluster:
    """A new database cluster with a running server, for a ``with`` block. The end of the block stops the server and removes all files.

    Clients reach the server by a Unix socket in a private directory, as the superuser, without a password. With ``port``, the server also
    listens on 127.0.0.1, and every user of this machine may log in.

    PostgreSQL refuses to run as root. So if this process runs as root, the server runs as a user that runs nothing else. All processes of the
    user end with the server. The server's environment has no variables by which its code could reach other servers or stores.

    Args:
        at_least_major: the server's major version. If it isn't installed, the lowest newer version is used.
        search: directories of PostgreSQL's programs, as for :func:`find_program`.
        settings: settings of the server in addition to pgstow's own, as in postgresql.conf.
        directory: the parent of the cluster's own directory; the system's temporary folder by default.
        port: a TCP port; None for no TCP.
        encoding: the encoding of the first databases. With SQL_ASCII, names of roles and tablespaces may have any bytes.
        superuser: the name of the role that initdb makes.
        offline: give the server no network, if this process runs as root and the kernel allows it.

    Raises:
        ProgramMissing: there is no ``initdb`` of such a version.
        LocalResourceExhausted: the server doesn't start, or no user ID is free for it. The server's own message is in the error's text.
    """

    def __init__(
        self,
        *,
        at_least_major: int = OLDEST_MAJOR,
        search: Sequence[Path] = (),
        settings: Mapping[str, str] | None = None,
        directory: Path | None = None,
        port: int | None = None,
        encoding: str = "UTF8",
        superuser: str = "postgres",
        offline: bool = False,
    ) -> None:
        program = find_program("initdb", at_least_major=at_least_major, search=search)
        self.bin_dir = program.path.resolve().parent  # the other programs may be missing beside a link to initdb
        self.major = program.major
        listening = {"listen_addresses": "127.0.0.1" if port else ""}
        self._settings = {**NOT_DURABLE, **_IN_ITS_FOLDER, **listening, **(settings or {})}
        self._directory = directory
        self._port = port or _DEFAULT_PORT
        self._encoding = encoding
        self._owner = own_user() if os.geteuid() == 0 else None
        self._superuser = superuser
        self._offline = offline
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._home = self._make_directory(stack, self._directory)
            self._sockets = self._home if self._socket_fits(self._home) else self._make_directory(stack, Path("/tmp"))  # noqa: S108
            self._log = stack.enter_context(tempfile.TemporaryFile("a+"))
            programs = self._executable_programs()
            self._run_initdb(programs)
            if self._owner:
                stack.callback(self._owner.end_all)
            self._start(programs, stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._cleanup.close()

    def conninfo(self, dbname: str = "postgres") -> str:
        """Return a libpq connection string to a database of the cluster."""
        return make_conninfo(host=str(self._sockets), port=self._port, user=self._superuser, dbname=dbname)

    def make_folder(self) -> Path:
        """Return a new empty folder that belongs to the server's user. The folder is removed with the cluster."""
        folder = Path(tempfile.mkdtemp(dir=self._home))
        if self._owner:
            os.chown(folder, self._owner.uid, self._owner.gid, follow_symlinks=False)
        return folder

    @property
    def log(self) -> str:
        """The messages of initdb, and then of the server, up to now."""
        self._log.seek(0)
        return self._log.read()

    def _make_directory(self, stack: ExitStack, parent: Path | None) -> Path:
        parent = (
            parent or Path(tempfile.gettempdir())
        ).resolve()  # the server's programs have another working directory
        try:
            remove_abandoned(parent)
            home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=PREFIX, dir=parent)))
            stack.callback(os.close, claim(home))
            if self._owner:
                os.chown(home, self._owner.uid, self._owner.gid)
        except OSError as exc:
            raise LocalResourceExhausted(f"Cannot make a working folder in {parent}: {exc.strerror}.") from exc
        return home

    def _socket_fits(self, directory: Path) -> bool:
        return len(os.fsencode(directory / f".s.PGSQL.{self._port}")) <= _LONGEST_SOCKET_PATH

    def _executable_programs(self) -> Path:
        """Return the directory of the programs, or a copy of it if the server's user may not run the programs there."""
        try:
            self._popen([self.bin_dir / "initdb", "--version"], self._owner).wait()
        except PermissionError as exc:
            if self._owner and PYPI_PACKAGE in self.bin_dir.parts:
                return _copy_packaged(self.bin_dir, self._home / "programs")
            user = "A user without rights" if self._owner else "The user that runs pgstow"
            raise LocalResourceExhausted(
                f"{user} may not execute {self.bin_dir}/initdb: install PostgreSQL where every user may execute it"
            ) from exc
        return self.bin_dir

    def _run_initdb(self, programs: Path) -> None:
        options = [
            "--auth=trust",
            "--no-sync",
            f"--encoding={self._encoding}",
            "--locale=C.UTF-8",
            f"--username={self._superuser}",
            *(["--no-data-checksums"] if self.major >= _WITH_CHECKSUMS else []),
        ]
        data = self._home / "data"
        data.mkdir(0o700)
        # initdb needs a user with a name (get_id() in initdb.c), but the server's user has none. So another user runs initdb, which runs no
        # code of a backup.
        named = user_with_name() if self._owner else None
        if named:
            self._home.chmod(0o711)
            os.chown(data, named.uid, named.gid)
        if self._popen([programs / "initdb", *options, f"--pgdata={data}"], named).wait():
            raise LocalResourceExhausted(f"A temporary PostgreSQL server cannot be set up: {self._complaint()}")
        if self._owner:
            give_away(data, self._owner)
            self._home.chmod(0o700)

    def _start(self, programs: Path, stack: ExitStack) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._sockets), "port": str(self._port)}
        server: list[str | Path] = [programs / "postgres", "-D", self._home / "data"]
        server += [f"--{name}={value}" for name, value in settings.items()]
        guard = self._popen(
            ["/bin/sh", "-c", _GUARD, "sh", self._home, self._sockets, "alone" if self._owner else "", *server],
            self._owner,
            offline=self._offline,
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches only this process, which then stops the server in order
        )
        stack.callback(_stop, guard)
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._is_ready():
            if guard.poll() is not None:
                raise LocalResourceExhausted(f"A temporary PostgreSQL server does not start: {self._complaint()}")
            if time.monotonic() > deadline:
                raise LocalResourceExhausted(
                    f"A temporary PostgreSQL server did not start within {_START_TIMEOUT:.0f} s"
                )
            time.sleep(0.01)

    def _is_ready(self) -> bool:
        # pg_ctl --wait reads the same line: LOCK_FILE_LINE_PM_STATUS in src/include/utils/pidfile.h.
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _popen(
        self,
        command: Sequence[str | Path],
        user: OsUser | None,
        *,
        offline: bool = False,
        stdin: int = subprocess.DEVNULL,
        start_new_session: bool = False,
    ) -> subprocess.Popen[bytes]:
        prefix = user.confined() if user and offline else ()
        change = user if not prefix else None
        return subprocess.Popen(
            [*prefix, *command],
            stdin=stdin,
            stdout=self._log,
            stderr=self._log,
            cwd=self._home,
            env={**for_no_connection(), "HOME": str(self._home)},
            start_new_session=start_new_session,
            user=change.uid if change else None,
            group=change.gid if change else None,
            extra_groups=[] if change else None,
        )

    def _complaint(self) -> str:
        lines = [_LOG_PREFIX.sub("", line.strip()) for line in self.log.splitlines() if line.strip()]
        serious = [line for line in lines if "FATAL:" in line or "PANIC:" in line or "error:" in line]
        if not serious:
            return (lines or ["it said nothing"])[-1]
        # The lines after the first error are mostly its consequences, but one of them may be its hint.
        first = lines.index(serious[0])
        return with_hint(f"{serious[0].rstrip('.')}.", "\n".join(lines[first + 1 : first + 3]))


def _copy_packaged(bin_dir: Path, to: Path) -> Path:
    # Wheels keep shared libraries in a directory beside the package, and find them by a relative path.
    installation, site = bin_dir.parent, bin_dir.parents[2]
    for source in (installation, site / f"{PYPI_PACKAGE}.libs"):
        if source.exists():
            shutil.copytree(source, to / source.relative_to(site), ignore=shutil.ignore_patterns("include"))
    for path in (to, *to.rglob("*")):
        if not path.is_symlink():  # every user may read and run the programs, but not change them
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return to / bin_dir.relative_to(site)


def _stop(guard: subprocess.Popen[bytes]) -> None:
    if guard.stdin:
        guard.stdin.close()
    try:
        guard.wait(_STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        guard.kill()
        guard.wait()
