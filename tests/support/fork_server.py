"""Runs of pgstow that are forked from a process which has imported all of it: else each would cost half a second of a processor.

A forked run is a process of its own, with its own standard streams, environment and exit code. Its command line in /proc is the server's.
"""

import contextlib
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
from typing import NoReturn

_LONGEST = 100_000  # bytes of a request, which a Unix socket takes at once


def run_forked(command: Sequence[str], env: Mapping[str, str], timeout: float) -> tuple[int, bytes, bytes]:
    """Run pgstow to its end. Return its exit code (negative for a signal), standard output and standard error.

    Raises subprocess.TimeoutExpired after ``timeout`` seconds.
    """
    request = json.dumps([list(command), dict(env), str(Path.cwd())]).encode()
    assert len(request) <= _LONGEST
    outputs = [b"", b""]
    with contextlib.ExitStack() as ours:
        answers, connection = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.enter_context(answers)
        pipes = [os.pipe(), os.pipe()]
        with connection, Path(os.devnull).open() as nothing:
            theirs = [connection.fileno(), nothing.fileno(), *(writing for _, writing in pipes)]
            socket.send_fds(_server()[0], [request], theirs)
        for _, writing in pipes:
            os.close(writing)
        streams = [ours.enter_context(os.fdopen(reading, "rb")) for reading, _ in pipes]

        def read(number: int) -> None:
            outputs[number] = streams[number].read()

        readers = [threading.Thread(target=read, args=[number], daemon=True) for number in range(2)]
        for reader in readers:
            reader.start()
        pid = int(answers.recv(_LONGEST))
        deadline = time.monotonic() + timeout
        answers.settimeout(timeout)
        try:
            code = int(answers.recv(_LONGEST))
            for reader in readers:
                reader.join(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
        if any(reader.is_alive() for reader in readers):
            raise subprocess.TimeoutExpired(command, timeout)
    return code, *outputs


@cache
def _server() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start the server, which ends with this process, and return the connection to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        return ours, subprocess.Popen([sys.executable, "-P", __file__], stdin=theirs)


def _serve() -> None:
    """Fork a run for each request, until the other end is closed."""
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
    """Fork the run, and tell its process ID and how it ended."""
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
