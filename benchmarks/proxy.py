"""A proxy in front of an S3 store. It delays each request, and counts the requests by kind, and the bytes of the answers."""

import argparse
import asyncio
import collections
import contextlib
import functools
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

KINDS = ("LIST", "GET", "HEAD", "PUT", "DELETE", "LOCK")
"""The kinds of requests, in the order of the report. LOCK reads locks, of an object or of the bucket. DELETE deletes one or many objects."""

_LOCKS = {"object-lock": (404, "ObjectLockConfigurationNotFoundError"), "legal-hold": (400, "InvalidRequest")}
_LOCKS["retention"] = _LOCKS["legal-hold"]
"""S3's answers, for a bucket without Object Lock, to requests whose query has one of these names.

rclone takes such requests for requests of other kinds.
"""


class CountingProxy:
    """A proxy for ``endpoint`` (``http://host:port``), while its ``with`` block runs. Raise RuntimeError if it doesn't start.

    ``delay`` is in seconds, for each request. ``log`` is a new file. Each line is the kind of a request, or the number of
    bytes of a part of an answer.
    """

    def __init__(self, endpoint: str, log: Path, *, delay: float = 0.0) -> None:
        self._log = log
        # A separate process doesn't wait for the interpreter lock of this process.
        module = (sys.executable, "-m", "benchmarks.proxy")
        self._command = (*module, urlsplit(endpoint).netloc, str(delay), str(log))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self._process.stdout is None or not (port := self._process.stdout.readline().strip()):
            raise RuntimeError("the counting proxy did not start")
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # the proxy ends when its input ends

    def counts(self) -> collections.Counter[str]:
        """Return the number of requests so far, by kind."""
        return collections.Counter(line for line in self._log.read_text().split() if not line.isdecimal())

    def answered(self) -> int:
        """Return the bytes of all answers so far, with their headers."""
        return sum(int(line) for line in self._log.read_text().split() if line.isdecimal())


def kind_of(method: str, target: str) -> str:
    """Return the kind of an S3 request from its method and its target (path and query): one of :data:`KINDS`, or another method."""
    names = _query_names(target)
    if names & set(_LOCKS):
        return "LOCK"
    if method == "GET" and "list-type" in names:
        return "LIST"
    if method == "POST" and "delete" in names:
        return "DELETE"
    return method


def _query_names(target: str) -> set[str]:
    return {pair.partition("=")[0] for pair in target.partition("?")[2].split("&")}


async def _serve_client(
    upstream: str,
    delay: float,
    log: Callable[[object], object],
    client: asyncio.StreamReader,
    answers: asyncio.StreamWriter,
) -> None:
    """Pass a client's requests on, one after another. The answers need no parser, since a client awaits each answer before its next request."""
    host, _, port = upstream.rpartition(":")
    server, requests = await asyncio.open_connection(host, int(port))
    back = asyncio.create_task(_pass_answers(server, answers, log))
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = await client.readuntil(b"\r\n\r\n")
            method, target, _ = head.partition(b"\r\n")[0].decode().split(" ")
            log(kind_of(method, target))
            await asyncio.sleep(delay)
            if refused := _query_names(target) & set(_LOCKS):
                answers.write(_refusal(*_LOCKS[refused.pop()]))
                continue
            requests.write(head)
            await _copy(client, requests, _body_size(head))
    requests.close()
    await back


async def _pass_answers(
    server: asyncio.StreamReader, answers: asyncio.StreamWriter, log: Callable[[object], object]
) -> None:
    """Pass the answers on, and log their bytes.

    When the store closes an idle connection, close the client's connection, too. The client then makes a new one.
    """
    with contextlib.suppress(ConnectionError):
        await _copy(server, answers, log=log)
    answers.close()


async def _copy(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    size: float = math.inf,
    log: Callable[[object], object] = lambda _: None,
) -> None:
    """Copy ``size`` bytes, or all bytes until the source ends. Log the bytes of each piece. Raise ConnectionError."""
    while size and (piece := await source.read(int(min(size, 1 << 18)))):
        log(len(piece))
        target.write(piece)
        await target.drain()
        size -= len(piece)


def _body_size(head: bytes) -> int:
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if line)
    if b"transfer-encoding" in fields:
        raise ValueError("the proxy can't count requests whose body is in chunks")
    return int(fields.get(b"content-length", 0))


def _refusal(status: int, code: str) -> bytes:
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>No Object Lock</Message></Error>'
    head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{head}{body}".encode()


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream", help="host:port")
    parser.add_argument("delay", type=float, help="seconds")
    parser.add_argument("log", type=Path)
    options = parser.parse_args()
    with options.log.open("x", buffering=1) as log:
        serve = functools.partial(_serve_client, options.upstream, options.delay, lambda line: print(line, file=log))
        server = await asyncio.start_server(serve, "127.0.0.1")
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
