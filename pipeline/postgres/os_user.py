"""A user of the operating system for a server that runs other people's code. The user owns nothing else."""

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
"""Signals all processes that the caller may signal, except the caller (kill(2)). A user without rights may signal only his own."""
_TRIES, _PAUSE = 100, 0.02  # seconds
_PR_SET_DUMPABLE = 4
"""https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html"""


@dataclass(frozen=True, slots=True)
class OsUser:
    """A user ID and the ID of the user's only group."""

    uid: int
    gid: int

    def end_all(self) -> None:
        """Kill every process of the user. Only for a user whose processes are all pgstow's.

        A process that forks may need several tries. After 100 tries, the rest is left alive.
        """
        for _ in range(_TRIES):
            self._run("/bin/sh", "-c", _KILL_ALL)
            if self.uid not in _running_users():
                return
            time.sleep(_PAUSE)

    def confined(self) -> Sequence[str]:
        """Return a command with which root runs another command as this user, without any way to more rights (``no_new_privs``).

        The command has no network either, if the kernel allows it. Return an empty command if neither is possible here.
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
    """Return a user without a name, a named group and processes. Root alone can run programs as such a user.

    Raises LocalResourceExhausted if no such user is free, as in a user namespace with few IDs.
    """
    running = _running_users()
    free = [number for number in _RANGE if number not in running and _is_mapped(number)]
    random.shuffle(free)  # so that several runs at once don't take the same user
    for number in free:
        if _is_unknown(number):
            return OsUser(number, number)
    raise LocalResourceExhausted(
        f"PostgreSQL refuses to run as root, and no user ID from {_RANGE[0]} to {_RANGE[-1]} is free for a server: run this as another user."
    )


def keep_out_same_user() -> None:
    """Keep other processes of the same user from this process's memory and environment until it ends. On systems other than Linux, do nothing.

    The user's files and other processes aren't protected.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def user_with_name() -> OsUser:
    """Return a user without rights that the system knows by name: ``nobody``, or else any user except root. Raises LocalResourceExhausted."""
    named = sorted((one for one in pwd.getpwall() if one.pw_uid), key=lambda one: (one.pw_name != "nobody", one.pw_uid))
    if not named:
        raise LocalResourceExhausted(
            "PostgreSQL refuses to run as root, and this machine knows no other user: run this as another user."
        )
    return OsUser(named[0].pw_uid, named[0].pw_gid)


def give_away(folder: Path, user: OsUser) -> None:
    """Make a folder and all in it the user's. Its former owner may still change it meanwhile, so no link is followed.

    Raises LocalResourceExhausted if anything in it is neither a folder nor a file, or is a file with a second name elsewhere.
    """
    for place, _, names, descriptor in os.fwalk(folder):
        os.fchown(descriptor, user.uid, user.gid)
        for name in names:
            try:
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=descriptor)
            except OSError as exc:
                raise LocalResourceExhausted(f"{place}/{name} cannot be given to the server: {exc.strerror}.") from exc
            try:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
                    raise LocalResourceExhausted(f"{place}/{name} is no file that initdb made.")
                os.fchown(file, user.uid, user.gid)
            finally:
                os.close(file)


def _change(uid: int, gid: int) -> tuple[str, ...]:
    """Return util-linux's command that changes the user: https://man7.org/linux/man-pages/man1/setpriv.1.html."""
    change = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all")
    return (*change, "--inh-caps=-all", "--")


def _works(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run([*command, "true"], env=for_no_connection(), capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _running_users() -> set[int]:
    """Return the real user IDs of all processes, as far as /proc shows them. A process that waits to be reaped doesn't count."""
    return {uid for status in Path("/proc").glob("[0-9]*/status") if (uid := _real_user(status)) is not None}


def _real_user(status: Path) -> int | None:
    try:
        lines = status.read_text("utf-8", "replace").splitlines()
    except OSError:  # it has ended
        return None
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    # In many a container nobody reaps. A process whose first thread alone has ended is shown as a zombie, too, and still runs.
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
    """True if this user namespace maps the ID, as a user's and as a group's (user_namespaces(7))."""
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
