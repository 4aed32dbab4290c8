import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.pgstow import wait_until

from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.os_user import OsUser, give_away, own_user, user_with_name

HOLDER = """
import ctypes, os, sys
from pipeline.postgres.os_user import keep_out_same_user

os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable, like a process of a user who logged in
for step in (lambda: None, keep_out_same_user):
    step()
    print(flush=True)
    sys.stdin.readline()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as another user")


def test_another_process_of_the_same_user_cannot_read_the_environment() -> None:
    user = own_user()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(user.uid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "AWS_SECRET_ACCESS_KEY": "secret-of-s3"},
    ) as holder:
        found = []
        for _ in range(2):
            holder.stdout.readline()
            reading = ["cat", f"/proc/{holder.pid}/environ"]
            done = subprocess.run(
                reading, user=user.uid, group=user.gid, extra_groups=[], capture_output=True, text=True, check=False
            )
            found.append("secret-of-s3" in done.stdout)
            holder.stdin.write("\n")
            holder.stdin.flush()
    assert found == [True, False]


CONFINED = """
import subprocess, sys
from pipeline.postgres.os_user import own_user

show = ["grep", "-hE", "^(Uid|NoNewPrivs|CapBnd):|^ *[a-z0-9]+:", "/proc/self/status", "/proc/net/dev"]
sys.exit(subprocess.call([*own_user().confined(), *show]))
"""


@pytest.mark.parametrize("within", [(), ("setpriv", "--bounding-set=-sys_admin")], ids=["root", "a container's root"])
def test_a_confined_program_can_never_get_more_rights(within: tuple[str, ...]) -> None:
    """The program has no network either, unless the kernel refuses namespaces to root, as in a container."""
    done = subprocess.run([*within, sys.executable, "-c", CONFINED], capture_output=True, text=True, check=True)
    uid, bounding, no_new_privileges, *networks = done.stdout.splitlines()
    assert uid.split()[1] != "0"
    assert int(bounding.split()[1], 16) == 0
    assert no_new_privileges.split()[1] == "1"
    assert within or [line.split(":")[0].strip() for line in networks] == ["lo"]


def test_end_all_ends_every_process_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes programs that other programs started. The first program stays a zombie, which doesn't count."""
    user = own_user()
    as_user = {"user": user.uid, "group": user.gid, "extra_groups": []}
    with subprocess.Popen(["sh", "-c", "setsid sleep 1000 & exec sleep 1000"], **as_user) as process:
        wait_until(lambda: _children(user) == ["sleep", "sleep"], "both run")
        pauses: list[float] = []
        pause = time.sleep
        monkeypatch.setattr("time.sleep", lambda seconds: (pauses.append(seconds), pause(seconds)))
        user.end_all()
        assert len(pauses) < 100, "end_all() stopped before its last try"
        assert process.wait() < 0
    assert _children(user) == []


def test_the_servers_user_differs_from_the_user_with_a_name() -> None:
    assert own_user() != user_with_name()
    assert user_with_name().uid != 0


def test_give_away_changes_the_owner_of_the_folder_and_its_content(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "1").write_text("")
    give_away(tmp_path, OsUser(61184, 61185))
    for path in (tmp_path, *tmp_path.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (61184, 61185)


def test_give_away_changes_nothing_outside_the_folder(tmp_path: Path) -> None:
    """The former owner may have links in the folder, or may replace a folder by a link after pgstow looked at it."""
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (outside / "shadow").write_text("")
    folder.mkdir()
    for make in (
        lambda name: name.hardlink_to(outside / "shadow"),
        lambda name: name.symlink_to(outside / "shadow"),
        os.mkfifo,
    ):
        make(folder / "shadow")
        with pytest.raises(LocalResourceExhausted, match="folder/shadow"):
            give_away(folder, OsUser(61184, 61185))
        (folder / "shadow").unlink()
    (folder / "base").symlink_to(outside)
    give_away(folder, OsUser(61184, 61185))
    (tmp_path / "link").symlink_to(outside)
    give_away(tmp_path / "link", OsUser(61184, 61185))
    assert {path.stat().st_uid for path in (outside, outside / "shadow")} == {0}


def _children(user: OsUser) -> list[str]:
    """Return the names of the programs that the user runs."""
    command = ["ps", "-o", "stat=,comm=", "-U", str(user.uid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [name for state, name in map(str.split, shown.splitlines()) if not state.startswith("Z")]
