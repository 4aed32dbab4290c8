import os
import subprocess
import sys

import pytest
from support.pgstow import wait_until

from pipeline.postgres.os_user import OsUser, own_user, user_with_name

HOLDER = """
import ctypes, os, sys
from pipeline.postgres.os_user import keep_out_same_user

os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # as it is for whoever logs in as that user
for step in (lambda: None, keep_out_same_user):
    step()
    print(flush=True)
    sys.stdin.readline()
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as another user")


def test_the_same_user_does_not_read_the_environment() -> None:
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


def test_all_that_a_user_runs_ends() -> None:
    """A program that another one started, too."""
    user = own_user()
    as_user = {"user": user.uid, "group": user.gid, "extra_groups": []}
    with subprocess.Popen(["sh", "-c", "setsid sleep 1000 & exec sleep 1000"], **as_user) as process:
        wait_until(lambda: _children(user).split() == [b"sleep", b"sleep"], "both run")
        user.end_all()
        assert process.wait() < 0
    assert _children(user) == b""


def test_two_users_are_two() -> None:
    assert own_user() != user_with_name()
    assert user_with_name().uid != 0


def _children(user: OsUser) -> bytes:
    """The names of what the user runs."""
    return subprocess.run(["ps", "-o", "comm=", "-U", str(user.uid)], capture_output=True, check=False).stdout
