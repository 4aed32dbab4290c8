"""A user of the operating system for a server that runs other people's code. The user owns and runs nothing else."""

import ctypes
import functools
import grp
import os
import pwd
import random
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.environment import for_no_connection

_RANGE = range(61184, 65520)
"""systemd's range for temporary users: https://systemd.io/UIDS-GIDS/, "Special systemd UID ranges"."""
_KILL_ALL = "kill -s KILL -- -1"
"""Kills all processes that the caller may signal, except the caller (kill(2)). A user without rights may signal only their own processes."""
_TRIES, _PAUSE = 100, 0.02  # seconds
_PR_SET_DUMPABLE = 4
"""https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html"""


@dataclass(frozen=True, slots=True)
class OsUser:
    """The IDs of a user and of the user's only group."""

    uid: int
    gid: int

    def end_all(self) -> None:
        """Kill every process of the user. Call this only if pgstow started all processes of the user.

        A process that forks may need several tries. After 100 tries, the remaining processes are left alive.
        """
        for _ in range(_TRIES):
            self._run("/bin/sh", "-c", _KILL_ALL)
            if self.uid not in _running_users():
                return
            time.sleep(_PAUSE)

    def confined(self) -> Sequence[str]:
        """Return a command by which root runs another command as this user, who can never get more rights (``no_new_privs``).

        If the kernel allows it, the other command has no network either. Return an empty command if the machine can't take the rights away.
        """
        change = _change(self.uid, self.gid)
        return next((command for command in (("unshare", "--net", "--", *change), change) if _works(command)), ())

    def _run(self, *command: str) -> None:
        subprocess.run(
            command,
            env=for_no_connection(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            user=self.uid,
            group=self.gid,
            extra_groups=[],
        )


def own_user() -> OsUser:
    """Return a user without a name and without processes, whose group has no name either. Only root can run programs as this user.

    Raises LocalResourceExhausted if no such user is free, for example in a user namespace with few IDs.
    """
    running = _running_users()
    free = [number for number in _RANGE if number not in running and _is_mapped(number)]
    random.shuffle(free)  # so that several runs at once don't take the same user
    for number in free:
        if _is_unknown(number):
            return OsUser(number, number)
    raise LocalResourceExhausted(
        f"PostgreSQL refuses to run as root, and no user ID from {_RANGE[0]} to {_RANGE[-1]} is free for a server: run pgstow as another user."
    )


def keep_out_same_user() -> None:
    """Forbid other processes of the same user to read this process's memory and environment. Only on Linux; do nothing elsewhere.

    This protects neither the user's files nor the user's other processes.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def user_with_name() -> OsUser:
    """Return ``nobody``, or else any user with a name except root. Raises LocalResourceExhausted if there is no such user."""
    named = sorted((one for one in pwd.getpwall() if one.pw_uid), key=lambda one: (one.pw_name != "nobody", one.pw_uid))
    if not named:
        raise LocalResourceExhausted(
            "PostgreSQL refuses to run as root, and this machine has no other user: run pgstow as another user."
        )
    return OsUser(named[0].pw_uid, named[0].pw_gid)


def give_away(folder: Path, user: OsUser) -> None:
    """Make the user the owner of a folder and everything in it. Follow no link, since the former owner may still change the folder.

    Raises LocalResourceExhausted if the folder holds something other than folders and files, or a file that has a second name.
    """
    for place, _, names, descriptor in os.fwalk(folder):
        os.fchown(descriptor, user.uid, user.gid)
        for name in names:
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
            except OSError as exc:
                raise LocalResourceExhausted(f"Cannot give {place}/{name} to the server: {exc.strerror}.") from exc
            try:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    raise LocalResourceExhausted(f"{place}/{name} is not a file that initdb made.")
                os.fchown(file, user.uid, user.gid)
            finally:
                os.close(file)


def _change(uid: int, gid: int) -> tuple[str, ...]:
    """Return the command of util-linux that changes the user: https://man7.org/linux/man-pages/man1/setpriv.1.html."""
    change = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all")
    return (*change, "--inh-caps=-all", "--")


def _works(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run([*command, "true"], env=for_no_connection(), capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _running_users() -> set[int]:
    """Return the real user IDs of all processes that /proc shows, without zombies."""
    return {uid for status in Path("/proc").glob("[0-9]*/status") if (uid := _real_user(status)) is not None}


def _real_user(status: Path) -> int | None:
    try:
        lines = status.read_text("utf-8", "replace").splitlines()
    except OSError:  # the process has ended
        return None
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    # In many containers, no process reaps zombies. If only the first thread of a process has ended, the process still runs, but is shown as
    # a zombie, too.
    if fields.get("State", [])[:1] == ["Z"] and fields.get("Threads") == ["1"]:
        return None
    return int(fields["Uid"][0]) if fields.get("Uid") else None


def _is_unknown(number: int) -> bool:
    for known in (pwd.getpwuid, grp.getgrgid):
        try:
            known(number)
        except KeyError:
            continue
        return False
    return True


def _is_mapped(number: int) -> bool:
    """True if this user namespace maps the ID, both as a user's and as a group's (user_namespaces(7))."""
    return all(any(first <= number < first + count for first, count in _mapped(kind)) for kind in ("uid", "gid"))


@functools.cache
def _mapped(kind: str) -> Sequence[tuple[int, int]]:
    return tuple(_parse_map(Path(f"/proc/self/{kind}_map")))


def _parse_map(path: Path) -> Iterator[tuple[int, int]]:
    try:
        lines = path.read_text().splitlines()
    except OSError:  # a system without user namespaces
        lines = [f"0 0 {_RANGE.stop}"]
    for line in lines:
        first, _, count = map(int, line.split())
        yield first, count
