import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from support.pgstow import PATIENCE, processes_naming
from support.ports import free_port

from pipeline.errors import LocalResourceExhausted, ProgramMissing
from pipeline.postgres.leftovers import LOCK, remove_abandoned
from pipeline.postgres.programs import find_program
from pipeline.postgres.throwaway import ThrowawayCluster

STRAY = str(41_536_000 + os.getpid())
SERVER_IN_ANOTHER_PROCESS = """
import sys, time
from pathlib import Path
from pipeline.postgres.programs import find_program
from pipeline.postgres.throwaway import ThrowawayCluster

with ThrowawayCluster(directory=Path(sys.argv[1])) as cluster:
    print(cluster.conninfo(), flush=True)
    time.sleep(60)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that the server's user may enter. Only root may enter pytest's own directory: pytest takes away the rights of others."""
    with tempfile.TemporaryDirectory(prefix="pgstow-tests-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


def files_in(place: Path) -> list[str]:
    return [file for _, _, files in os.walk(place) for file in files]


def ask(cluster: ThrowawayCluster, question: str) -> object:
    with psycopg.connect(cluster.conninfo()) as connection:
        return connection.execute(question).fetchone()[0]


def running_users() -> set[int]:
    """Return the users of all processes on this machine."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError):
            found.add(process.stat().st_uid)
    return found


def test_a_server_runs_for_the_block_and_leaves_nothing(place: Path) -> None:
    with ThrowawayCluster(directory=place) as cluster:
        assert ask(cluster, "SHOW server_version_num").startswith(str(cluster.major))
        assert ask(cluster, "SHOW server_encoding") == "UTF8"
        assert ask(cluster, "SELECT current_user") == "postgres"
        assert ask(cluster, "SHOW listen_addresses") == ""
        assert (cluster.bin_dir / "pg_ctl").exists()
        assert "ready to accept connections" in cluster.log
        conninfo = cluster.conninfo()
        user = Path(str(ask(cluster, "SHOW data_directory"))).stat().st_uid
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            assert user not in {one.pw_uid for one in pwd.getpwall()}
            assert user in running_users()

    assert list(place.iterdir()) == []
    assert os.geteuid() or user not in running_users()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo)


def test_shared_memory_is_in_the_servers_folder(place: Path) -> None:
    """A server that is killed leaves its shared memory. Nobody removes it from /dev/shm."""
    with ThrowawayCluster(directory=place) as cluster, psycopg.connect(cluster.conninfo()) as connection:
        pid = connection.info.backend_pid
        mapped = [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
        assert any(name.startswith(str(place)) and "/pg_dynshmem/" in name for name in mapped)
        assert not any(name.startswith("/dev/shm/PostgreSQL.") for name in mapped)


def test_the_server_and_its_programs_end_even_if_a_restored_database_kills_the_guard(place: Path) -> None:
    """The database's code runs as the server's user. So the code can kill the guard, which is the server's parent process."""
    with ThrowawayCluster(directory=place, offline=True) as cluster:
        guard = ask(
            cluster,
            "SELECT (regexp_match(pg_read_file('/proc/' || pid || '/status'), 'PPid:\\s+(\\d+)'))[1] FROM"
            " (SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1) AS pid) AS s",
        )
        with psycopg.connect(cluster.conninfo(), autocommit=True) as connection:
            connection.execute(
                f"COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; setsid sleep {STRAY} >/dev/null 2>&1 & kill -9 {guard}'".encode()
            )
        assert processes_naming(STRAY)

    assert os.geteuid() or not processes_naming(STRAY)
    assert os.geteuid() or not processes_naming(place)


def test_settings_and_a_tcp_port_can_be_given(place: Path) -> None:
    port = free_port()
    with (
        ThrowawayCluster(directory=place, port=port, settings={"wal_level": "logical", "fsync": "on"}),
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres") as connection,
    ):
        for setting, value in (("wal_level", "logical"), ("fsync", "on"), ("synchronous_commit", "off")):
            assert connection.execute(f"SHOW {setting}").fetchone() == (value,)


def test_a_folder_whose_path_is_too_long_for_a_socket_works(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = place / ("d" * 100)
    deep.mkdir()
    monkeypatch.chdir(place)
    with ThrowawayCluster(directory=Path(deep.name)) as cluster:
        assert ask(cluster, "SELECT 1") == 1
        sockets = Path(psycopg.conninfo.conninfo_to_dict(cluster.conninfo())["host"])
        assert sockets.exists()

    assert not sockets.exists()
    assert list(deep.iterdir()) == []


def test_the_error_has_the_servers_own_reason_for_not_starting(place: Path) -> None:
    with (
        pytest.raises(
            LocalResourceExhausted,
            match=r'does not start: FATAL:  invalid value for parameter "shared_buffers".*\. Hint: Value exceeds integer range\.$',
        ),
        ThrowawayCluster(directory=place, settings={"shared_buffers": "100000GB"}),
    ):
        pass
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("nowhere", ["/proc", "/dev/null"])
def test_a_folder_that_cannot_be_written_is_refused(nowhere: str) -> None:
    with (
        pytest.raises(LocalResourceExhausted, match=f"^Cannot make a working folder in {nowhere}: No"),
        ThrowawayCluster(directory=Path(nowhere)),
    ):
        pass


def test_a_missing_initdb_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ProgramMissing, match="initdb"):
        ThrowawayCluster(search=[tmp_path])


def test_a_link_to_initdb_alone_is_enough(tmp_path: Path, place: Path) -> None:
    (tmp_path / "initdb").symlink_to(find_program("initdb", at_least_major=12).path)

    with ThrowawayCluster(search=[tmp_path], directory=place) as cluster:
        assert (cluster.bin_dir / "pg_ctl").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_if_the_process_is_killed(place: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER_IN_ANOTHER_PROCESS, place], stdout=subprocess.PIPE, text=True
    ) as process:
        conninfo = process.stdout.readline().strip()
        psycopg.connect(conninfo).close()
        process.send_signal(number)

    deadline = time.monotonic() + PATIENCE
    while files_in(place) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert files_in(place) == []
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo)


def test_the_next_run_removes_what_a_killed_process_and_guard_left_behind(place: Path) -> None:
    """The server runs on without its guard, and its data would stay for ever."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER_IN_ANOTHER_PROCESS, place], stdout=subprocess.PIPE, text=True
    ) as process:
        conninfo = process.stdout.readline().strip()
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE restored AS SELECT 'a secret'")
        shells = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if is_guard(path, place)]
        assert shells
        for guard in shells:
            os.kill(guard, signal.SIGKILL)
        process.kill()
    [home] = place.iterdir()
    psycopg.connect(conninfo).close()  # the server still runs
    mine = place / "pgstow-mine"
    (mine / "data").mkdir(parents=True)

    remove_abandoned(place)
    assert home.exists()  # a new folder is spared: a process may be about to lock it
    age(place)
    remove_abandoned(place)

    assert list(place.iterdir()) == [mine]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(conninfo)


def test_a_server_in_use_is_not_removed(place: Path) -> None:
    with ThrowawayCluster(directory=place) as cluster:
        age(place)
        remove_abandoned(place)
        assert ask(cluster, "SELECT 1") == 1


def is_guard(cmdline: Path, place: Path) -> bool:
    with suppress(OSError):
        words = cmdline.read_bytes().split(b"\0")
        return words[0].endswith(b"sh") and any(os.fsencode(place) in word for word in words)
    return False


def age(place: Path) -> None:
    for lock in place.glob(f"*/{LOCK}"):
        os.utime(lock, (0, 0))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another user")
def test_programs_that_the_servers_user_may_not_execute_are_reported(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "initdb").write_text("#!/bin/sh\necho 'initdb (PostgreSQL) 16.2'\n")
    (private / "initdb").chmod(0o755)

    with (
        pytest.raises(LocalResourceExhausted, match=f"may not execute {private}/initdb"),
        ThrowawayCluster(search=[private]),
    ):
        pass
