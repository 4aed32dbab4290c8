"""Working folders and the programs in them are private. They end with their owner, even if it is killed."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from support.pgstow import ANOTHER_NAMESPACE, NO_PROC, wait_until

from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.leftovers import remove_abandoned
from pipeline.postgres.programs import Program
from pipeline.postgres.workspace import RunningProgram, Workspace, describe_failure

OWNER = """
import sys, time
from pathlib import Path
from pipeline.postgres.programs import Program
from pipeline.postgres.workspace import Workspace
workspace = Workspace(Path(sys.argv[1]))
running = workspace.start(Program(Path(sys.argv[2]), 15, "15.0"), [])
while "started" not in running.messages():
    time.sleep(0.01)
if sys.argv[3] == "paused":
    running.pause()
print(workspace.path, running.pid, flush=True)
time.sleep(1000)
"""

OPEN_FILES = """
import sys, time
from pathlib import Path
from pipeline.postgres.processes import living_members
from pipeline.postgres.programs import Program
from pipeline.postgres.workspace import Workspace
with Workspace(Path(sys.argv[1])) as workspace:
    running = workspace.start(Program(Path(sys.argv[2]), 15, "15.0"), [])
    while "started" not in running.messages():
        time.sleep(0.01)
    print(running.open_files(Path(sys.argv[1])), living_members(running.pid))
"""

MakeProgram = Callable[[str], Program]


@pytest.fixture
def make_program(tmp_path: Path) -> MakeProgram:
    """``make_program(script)`` returns a shell script in the place of one of PostgreSQL's programs."""

    def make(script: str) -> Program:
        path = tmp_path / "pg_program"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return Program(path, 15, "15.0")

    return make


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def group_is_alive(leader: int) -> bool:
    """True if a process of the group lives. A zombie doesn't count."""
    states = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, group = status.read_text().rpartition(")")[2].split()[:3]
            states += [state] if int(group) == leader else []
    return bool(set(states) - {"Z", "X"})


def await_message(running: RunningProgram, message: str) -> None:
    wait_until(lambda: message in running.messages(), f"the program says {message}")


def test_only_the_owner_may_read_the_files_of_a_workspace(place: Path, make_program: MakeProgram) -> None:
    before = os.umask(0)
    try:
        with Workspace(place) as workspace:
            (workspace.path / "archive").mkdir(0o700)
            program = make_program(f"touch {workspace.path}/archive/file; mkdir {workspace.path}/archive/folder")
            running = workspace.start(program, [])
            wait_until(lambda: running.poll() is not None, "the script ends")
            secret = workspace.write_private("passfile", "secret")

            assert running.poll() == 0
            assert {mode(path) for path in workspace.path.rglob("*") if path.is_file()} == {0o600}
            assert mode(workspace.path) == mode(workspace.path / "archive" / "folder") == 0o700
            assert secret.read_text() == "secret"
    finally:
        os.umask(before)
    assert list(place.iterdir()) == []


def test_a_program_and_its_workers_end_with_the_workspace(place: Path, make_program: MakeProgram) -> None:
    program = make_program("sleep 1000 & trap '' TERM; sleep 1001 & echo started >&2; wait; wait; sleep 1002")
    with Workspace(place) as workspace:
        running = workspace.start(program, [])
        await_message(running, "started")
        leader = running.pid
        assert group_is_alive(leader)
        os.killpg(running.pid, signal.SIGKILL)  # the leader ignores SIGTERM, and the time of grace is long
    wait_until(lambda: not group_is_alive(leader), "its group is gone")
    assert list(place.iterdir()) == []


def test_a_paused_program_can_be_stopped(place: Path, make_program: MakeProgram) -> None:
    with Workspace(place) as workspace:
        running = workspace.start(
            make_program("trap 'echo bye >&2; exit 7' TERM; echo started >&2; while :; do :; done"), []
        )
        await_message(running, "started")
        running.pause()
        running.stop()
        assert running.messages().split() == ["started", "bye"]
        assert running.poll() == 7


def test_the_exit_status_and_the_messages_are_known(place: Path, make_program: MakeProgram) -> None:
    with Workspace(place) as workspace:
        failing = workspace.start(make_program("echo words >&2; exit 3"), ["unused"])
        wait_until(lambda: failing.poll() is not None, "the script ends")
        assert (failing.poll(), failing.messages()) == (3, "words")
        killed = workspace.start(make_program("kill -9 $$"), [])
        wait_until(lambda: killed.poll() is not None, "the script ends")
        assert killed.poll() == -9


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("state", ["running", "paused"])
def test_nothing_is_left_if_the_owner_is_killed(
    place: Path, make_program: MakeProgram, number: signal.Signals, state: str
) -> None:
    program = make_program("sleep 1000 & echo started >&2; wait")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, place, program.path, state], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        path, leader = owner.stdout.readline().split()
        assert group_is_alive(int(leader))
        owner.send_signal(number)
    wait_until(lambda: not group_is_alive(int(leader)), "the program and its workers are gone")
    wait_until(lambda: not Path(path).exists(), "the folder is gone")


def test_a_program_is_stopped_even_if_a_signal_comes_right_after_its_start(
    place: Path, make_program: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal's exception may come before the workspace has the program in its list."""
    started: list[subprocess.Popen[bytes]] = []

    def interrupted(process: "subprocess.Popen[bytes]", log: Path, _guard: int) -> RunningProgram:
        started.append(process)
        wait_until(lambda: "started" in log.read_text(), "the script starts")
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.postgres.workspace.RunningProgram", interrupted)
    with pytest.raises(KeyboardInterrupt), Workspace(place) as workspace:
        workspace.start(make_program("echo started >&2; exec sleep 1000"), [])
    assert started[0].wait() == -signal.SIGTERM
    assert list(place.iterdir()) == []


def guard_of(folder: str | Path) -> int:
    """Return the process ID of a working folder's guard, which leads a process group."""
    [guard] = [
        int(command.parent.name)
        for command in Path("/proc").glob("[0-9]*/cmdline")
        if command.read_bytes().endswith(f"\0pgstow-guard\0{folder}\0".encode())
    ]
    return guard


def test_the_guard_outlives_a_signal_to_everybody(place: Path, make_program: MakeProgram) -> None:
    """A service manager signals all processes of a service at once. The guard must end last."""
    program = make_program("echo started >&2; exec sleep 1000")
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, place, program.path, "running"], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout
        path, leader = owner.stdout.readline().split()
        guard = guard_of(path)
        status = Path(f"/proc/{guard}/status")

        def ignored() -> int:
            return int(status.read_text().partition("SigIgn:")[2].split()[0], 16)

        # The bits of SIGHUP, SIGINT and SIGTERM. Our own parent may have made us ignore more signals.
        wait_until(lambda: ignored() & 0x4003 == 0x4003, "the guard has set itself up")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            os.killpg(guard, number)
        owner.kill()
    wait_until(lambda: not group_is_alive(int(leader)), "the guard has stopped the program")
    wait_until(lambda: not Path(path).exists(), "the guard has removed the folder")


def process_with_number(number: int) -> "subprocess.Popen[bytes]":
    """Return a process that leads a group of this number. Any user's process may take a free number, so the function tries many times."""
    for _ in range(200):
        try:
            Path("/proc/sys/kernel/ns_last_pid").write_text(str(number - 1))
        except OSError:
            pytest.skip("only root chooses the number of a process")
        process = subprocess.Popen(["sleep", "1000"], process_group=0)
        if process.pid == number:
            return process
        process.kill()
        process.wait()
    pytest.skip("others take the number")


def test_a_group_that_has_ended_gets_no_signal(place: Path, make_program: MakeProgram) -> None:
    """After the end of a group, another process group may have the same number."""
    with Workspace(place) as workspace:
        running = workspace.start(make_program("exit 0"), [])
        wait_until(lambda: running.poll() == 0, "the program ends")
        running.stop()
        bystander = process_with_number(running.pid)
        running.pause()
        running.stop()
    try:
        assert not os.waitid(os.P_PID, bystander.pid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT)
    finally:
        bystander.kill()
        bystander.wait()


def test_a_killed_guard_causes_no_error(place: Path, make_program: MakeProgram) -> None:
    with Workspace(place) as workspace:
        running = workspace.start(make_program("exec sleep 1000"), [])
        guard = guard_of(workspace.path)
        os.kill(guard, signal.SIGKILL)
        wait_until(lambda: not group_is_alive(guard), "the guard is dead")
        running.stop()
    assert list(place.iterdir()) == []


def test_open_files_names_the_files_of_the_program_and_its_workers(place: Path, make_program: MakeProgram) -> None:
    """This includes the files of a wrapper script's grandchild, but no files in another folder."""
    with Workspace(place) as workspace:
        folder = workspace.path / "archive"
        folder.mkdir()
        running = workspace.start(
            make_program(
                f"exec 8>{folder}/closed; exec 8>&-; exec 7>{folder}/own 9>{workspace.path}/other; "
                f"( exec 7>{folder}/worker; ( exec 7>{folder}/grandchild; echo started >&2; sleep 1000 ) ; : ) & wait"
            ),
            [],
        )
        await_message(running, "started")
        assert {path.name for path in folder.iterdir()} == {"closed", "own", "worker", "grandchild"}
        assert running.open_files(folder) == {"own", "worker", "grandchild"}


def test_a_file_that_is_closed_during_the_look_hides_no_other_file(
    place: Path, make_program: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(place) as workspace:
        running = workspace.start(
            make_program(f"exec 3>{workspace.path}/first 4>{workspace.path}/second; echo started >&2; sleep 1000"), []
        )
        await_message(running, "started")
        readlink = Path.readlink

        def closed_meanwhile(path: Path) -> Path:
            if path.name == "3":
                raise FileNotFoundError
            return readlink(path)

        monkeypatch.setattr(Path, "readlink", closed_meanwhile)
        assert running.open_files(workspace.path) >= {"second"}


def test_unreadable_descriptors_are_not_taken_for_closed(
    place: Path, make_program: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace(place) as workspace:
        running = workspace.start(make_program(f"exec 3>{workspace.path}/file; echo started >&2; sleep 1000"), [])
        await_message(running, "started")
        scandir = os.scandir

        def forbidden(path: str) -> object:
            if str(path).endswith("/fd"):
                raise PermissionError
            return scandir(path)

        monkeypatch.setattr(os, "scandir", forbidden)
        assert running.open_files(workspace.path) is None


@pytest.mark.parametrize("within", [ANOTHER_NAMESPACE, NO_PROC], ids=["another_namespace", "no_proc"])
def test_open_files_returns_none_if_proc_shows_other_processes(
    place: Path, make_program: MakeProgram, within: Sequence[str]
) -> None:
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip(f"this machine lets nobody run {within[0]} {within[1]}")
    program = make_program("exec 3>open; echo started >&2; sleep 1000")
    command = [*within, sys.executable, "-c", OPEN_FILES, str(place), str(program.path)]
    assert subprocess.run(command, cwd=place, check=True, capture_output=True, text=True).stdout == "None None\n"
    wait_until(lambda: not [path for path in place.iterdir() if path.name != "open"], "the folder is gone")


def test_open_files_returns_none_after_the_leader_has_ended(place: Path, make_program: MakeProgram) -> None:
    """The kernel then no longer lists the workers as the leader's children."""
    with Workspace(place) as workspace:
        folder = workspace.path / "archive"
        running = workspace.start(
            make_program(f"mkdir {folder}; ( exec 3>{folder}/file; sleep 1000 ) & echo started >&2; wait"), []
        )
        await_message(running, "started")
        wait_until(lambda: running.open_files(folder) == {"file"}, "the worker has the file open")
        os.kill(running.pid, signal.SIGKILL)
        wait_until(lambda: running.poll() is not None, "the leader ends")
        assert running.open_files(folder) is None
        os.killpg(running.pid, signal.SIGKILL)


class TestAbandoned:
    """A machine that fails leaves folders behind. The next run removes these folders, and nothing else."""

    @pytest.fixture
    def abandoned(self, place: Path) -> Path:
        with Workspace(place) as workspace:
            copy = workspace.path.with_name("pgstow-work-0123456789abcdef")
            copy.mkdir(0o700)
            for path in workspace.path.iterdir():
                (copy / path.name).touch(0o600)
        (copy / "archive").mkdir()
        (copy / "archive" / "3364.dat").write_bytes(b"rows")
        age(copy)
        return copy

    def test_an_abandoned_folder_is_removed(self, place: Path, abandoned: Path) -> None:
        with Workspace(place):
            assert not abandoned.exists()

    def test_a_folder_stays_while_its_owner_lives(self, place: Path) -> None:
        with Workspace(place) as workspace:
            age(workspace.path)
            with Workspace(place):
                assert workspace.path.exists()

    def test_a_folder_stays_while_its_owner_may_still_lock_it(self, place: Path, abandoned: Path) -> None:
        for path in abandoned.rglob("*"):
            os.utime(path)
        remove_abandoned(place)
        assert abandoned.exists()

    @pytest.mark.parametrize("name", ["pgstow-store", "pgstow-work-store", "pgstow-8zx01p_a"])
    def test_other_folders_stay(self, place: Path, name: str) -> None:
        mine = place / name
        mine.mkdir()
        (mine / "backup").write_text("precious")
        age(mine)
        remove_abandoned(place)
        assert (mine / "backup").read_text() == "precious"

    def test_the_target_of_a_link_stays(self, place: Path, tmp_path: Path, abandoned: Path) -> None:
        elsewhere = abandoned.rename(tmp_path / "elsewhere")
        abandoned.symlink_to(elsewhere)
        remove_abandoned(place)
        assert (elsewhere / "archive" / "3364.dat").exists()


def age(folder: Path) -> None:
    long_ago = time.time() - 3600
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (long_ago, long_ago))


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    with pytest.raises(LocalResourceExhausted, match="No such file or directory"):
        Workspace(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("status", "messages", "sentence"),
    [
        (-9, "", "pg_dump was killed by signal 9."),
        (1, "", "pg_dump failed: exit status 1."),
        (1, "pg_dump: warning: w\npg_dump: error: no\npg_dump: detail: why: x.\n", r"pg_dump failed: no \(why: x\)\."),
        (
            1,
            "pg_dump: error: no\npg_dump: detail: Query was: LOCK" + " x" * 500,
            r"pg_dump failed: no \(Query was: LOCK x.* x …\.",
        ),
        (
            1,
            "pg_dump: warning: w\npg_dump: hint: of the warning\npg_dump: error: query failed: ERROR:  out of shared memory\n"
            "HINT:  You might need to increase max_locks_per_transaction.\npg_dump: detail: Query was: LOCK TABLE"
            + " t"
            * 500,
            r"pg_dump failed: query failed: ERROR: out of shared memory \(Query was: LOCK TABLE t.* t …\. "
            r"Hint: You might need to increase max_locks_per_transaction\.",
        ),
        (
            1,
            "pg_dump: error: Dumping failed\npg_dump: detail: Error message from server: ERROR:  no\nHINT:  Do\n"
            "pg_dump: detail: Command was: x",
            r"pg_dump failed: Dumping failed \(Error message from server: ERROR: +no\)\. Hint: Do\.",
        ),
        (
            1,
            "pg_dump: error: no\npg_dump: detail: Query was: CREATE FUNCTION f() AS '\nHINT:  never mind\n'",
            r"pg_dump failed: no \(Query was: CREATE FUNCTION f\(\) AS '\)\.",
        ),
        (1, "pg_dump: error: no\npg_dump: error: two\nHINT:  of the other", r"pg_dump failed: no \(two\)\."),
        (127, "sh: 1: exec: pg_dump: not found", "pg_dump failed: 1: exec: pg_dump: not found."),
    ],
)
def test_a_failure_is_described_in_one_sentence(status: int, messages: str, sentence: str) -> None:
    assert re.fullmatch(sentence, describe_failure("pg_dump", status, messages))
