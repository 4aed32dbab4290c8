"""Fork runs of pgstow from a server process that has imported all of pgstow. Otherwise each run would take half a second of a processor.

A forked run is a process of its own, with its own standard streams, environment and exit code. Its command line in /proc is the fork
server's. The run's environment doesn't change what Python and libraries read at their start.
"""

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import NoReturn

_LONGEST = 100_000  # bytes of a request, so that a Unix socket takes it at once
_LOCK = threading.Lock()


def run_forked(command: Sequence[str], env: Mapping[str, str], timeout: float) -> tuple[int, bytes, bytes]:
    """Run pgstow to its end. Return its exit code (negative for a signal), standard output and standard error.

    ``env`` is the whole environment of the run. Raises subprocess.TimeoutExpired after ``timeout`` seconds.
    """
    request = json.dumps([list(command), dict(env), str(Path.cwd())]).encode()
    assert len(request) <= _LONGEST
    answers, connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with answers, Path(os.devnull).open() as nothing, TemporaryFile() as stdout, TemporaryFile() as stderr:
        answers.settimeout(timeout)
        with connection, _LOCK:
            streams = [stream.fileno() for stream in (connection, nothing, stdout, stderr)]
            socket.send_fds(_server()[0], [request], streams)
        pid = answers.recv(_LONGEST)
        assert pid, "the fork server has died"
        try:
            code = int(answers.recv(_LONGEST))
        except TimeoutError:
            os.kill(int(pid), signal.SIGKILL)
            raise subprocess.TimeoutExpired(command, timeout) from None
        stdout.seek(0)
        stderr.seek(0)
        return code, stdout.read(), stderr.read()


@cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the server, and return a socket that is connected to it. The server ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        return ours, subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs)


def _serve() -> None:
    """Fork a run for each request, until the other end of the socket is closed."""
    for package in ("cli", "pipeline", "storage_backends"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps
    requests = socket.socket(fileno=os.dup(0))
    while True:
        request, files, _, _ = socket.recv_fds(requests, _LONGEST, 4)
        if not request:
            return
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            requests.close()
            _answer(request, *files)
        for file in files:
            os.close(file)


def _answer(request: bytes, answers: int, *streams: int) -> NoReturn:
    """Fork the run. Send its process ID, and then its exit code, to ``answers``."""
    if (pid := os.fork()) == 0:
        os.close(answers)
        _run(*json.loads(request), streams)
    for stream in streams:
        os.close(stream)
    with socket.socket(fileno=answers) as connection:
        connection.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _run(command: list[str], env: dict[str, str], folder: str, streams: Sequence[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    time.tzset()
    sys.argv = command
    from cli.main import main

    sys.exit(main())


if __name__ == "__main__":
    _serve()
