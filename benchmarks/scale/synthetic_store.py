"""An S3 store with the backups of very many nights, which makes each document when it is asked for. The store holds no files.

All backups have the manifest of one real backup, with other names and times, and two objects. A key signed each manifest, and the statements
of a database are one chain.
"""

import argparse
import functools
import hashlib
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from benchmarks.stores import BUCKET
from pipeline.catalog.keys import DATA, MANIFESTS, SIGNATURE_SUFFIX, BackupRef
from pipeline.catalog.manifest import Manifest, dump_manifest, load_manifest
from pipeline.trust.signing import open_signer
from pipeline.trust.statement import Link, Reference, digest_of, make_statement

CLUSTERS = [f"bench-{number}" for number in range(10)]
_PAGE = 1000
_OBJECT = b"0" * 1000
_NS = "http://s3.amazonaws.com/doc/2006-03-01/"


class SyntheticStore:
    """A store with ``nights`` backups of each database of :data:`CLUSTERS`, while its ``with`` block runs.

    Each cluster has ``databases`` databases. ``manifest`` is the file of the manifest to copy, and ``key`` is the file of the private key that
    signs. ``delay`` is in seconds, for each request. Raise RuntimeError if the store can't start.
    """

    def __init__(self, manifest: Path, key: Path, databases: int, nights: int, delay: float) -> None:
        module = (sys.executable, "-m", "benchmarks.scale.synthetic_store")
        self._command = (*module, str(manifest), str(key), str(databases), str(nights), str(delay))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{self._ask('')}"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate()  # the store ends when its input ends

    def counts(self) -> Counter[str]:
        """Return the number of requests so far, by kind: LIST, GET, HEAD and LOCK."""
        words = self._ask("counts\n").split()
        return Counter({kind: int(number) for kind, number in zip(words[::2], words[1::2], strict=True)})

    def _ask(self, question: str) -> str:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the store has no pipes")
        self._process.stdin.write(question)
        self._process.stdin.flush()
        if not (answer := self._process.stdout.readline().strip()):
            raise RuntimeError("the store did not answer")
        return answer


@dataclass(frozen=True, slots=True)
class _Content:
    """The content of the store."""

    template: Manifest
    signer: Any
    places: Sequence[tuple[str, str]]
    """The cluster and the name of each database, in the order of their keys."""
    moments: Sequence[datetime]
    """The times of the backups of each database, the oldest first."""

    def ref(self, place: tuple[str, str], number: int) -> BackupRef:
        return BackupRef(*place, f"{self.moments[number]:%Y%m%dT%H%M%SZ}-abcdef")

    def keys(self, folder: str, place: tuple[str, str]) -> Iterator[tuple[str, datetime]]:
        """Yield the keys of a database's objects in a folder, in order, with their times."""
        for number, moment in enumerate(self.moments):
            ref = self.ref(place, number)
            if folder == MANIFESTS:
                yield ref.manifest_key, moment
                yield ref.manifest_key + SIGNATURE_SUFFIX, moment
            elif folder == DATA:
                for name in ("pack-00000.tar.zst", "toc.dat.00000.zst"):
                    yield ref.data_prefix + name, moment

    def manifest(self, place: tuple[str, str], number: int) -> bytes:
        """Return the bytes of a manifest. They are equally many for all backups."""
        ref = self.ref(place, number)
        stored = self.template.objects[0]
        objects = [
            replace(stored, key=key, size=len(_OBJECT))
            for key, _ in self.keys(DATA, place)
            if key.startswith(ref.data_prefix)
        ]
        names = {"cluster": ref.cluster, "database": ref.database, "backup_id": ref.backup_id, "job": ref.database}
        times = dict.fromkeys(("started_at", "snapshot_at", "finished_at"), self.moments[number])
        return dump_manifest(self.template.model_copy(update={**names, **times, "objects": objects}))


class _Chains:
    """Makes the documents of a database, all at once, since each statement cites the one before it."""

    def __init__(self, content: _Content) -> None:
        self._content, self._lock = content, Lock()
        self._made = functools.lru_cache(maxsize=4)(self._make)

    def documents(self, place: tuple[str, str]) -> Mapping[str, bytes]:
        with self._lock:
            return self._made(place)

    def _make(self, place: tuple[str, str]) -> Mapping[str, bytes]:
        found, predecessor = dict[str, bytes](), None
        for number in range(len(self._content.moments)):
            ref = self._content.ref(place, number)
            manifest = self._content.manifest(place, number)
            link = Link(writer="bench", sequence=number + 1, predecessor=predecessor)
            payload = make_statement(ref.manifest_key, hashlib.sha256(manifest).hexdigest(), link)
            predecessor = Reference(backup_id=ref.backup_id, sequence=number + 1, sha256=digest_of(payload))
            found[ref.manifest_key] = manifest
            found[ref.manifest_key + SIGNATURE_SUFFIX] = self._content.signer.sign(payload)
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet for head and body
    disable_nagle_algorithm = True
    content: _Content
    chains: _Chains
    sizes: Mapping[str, int]
    delay: float
    counts: Counter[str]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        key = unquote(url.path).removeprefix(f"/{BUCKET}").removeprefix("/")
        kind = (
            "LIST"
            if "list-type" in query
            else "LOCK"
            if {"object-lock", "retention", "legal-hold"} & query.keys()
            else "GET"
        )
        self.counts[kind] += 1
        time.sleep(self.delay)
        if kind == "LIST":
            self._answer(200, self._page(query.get("prefix", ""), query.get("continuation-token", "")))
        elif kind == "LOCK":
            self._fail(404, "ObjectLockConfigurationNotFoundError")
        else:
            _, cluster, database, *_ = key.split("/", 3)
            if body := self.chains.documents((cluster, database)).get(key):
                self._answer(200, body, {"ETag": _etag(key), "Last-Modified": "Mon, 01 Dec 2025 00:00:00 GMT"})
            else:
                self._fail(404, "NoSuchKey")

    def _page(self, prefix: str, after: str) -> bytes:
        """Return a page of a listing. ``after`` is the last key of the page before."""
        folder, _, below = prefix.partition("/")
        first = bisect_left(self.content.places, tuple(after.split("/")[1:3])) if after else 0
        keys = (
            (key, moment)
            for place in self.content.places[first:]
            if "/".join((*place, "")).startswith(below) or below.startswith("/".join((*place, "")))
            for key, moment in self.content.keys(f"{folder}/", place)
            if key > after and key.startswith(prefix)
        )
        page = list(islice(keys, _PAGE + 1))
        more, page = len(page) > _PAGE, page[:_PAGE]
        entries = [_entry(key, moment, self.sizes[key[-4:]]) for key, moment in page]
        last = page[-1][0] if page else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        head = f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><KeyCount>{len(entries)}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
        text = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}"
        return f'<?xml version="1.0"?><ListBucketResult xmlns="{_NS}">{head}{text}</ListBucketResult>'.encode()

    def _fail(self, status: int, code: str) -> None:
        self._answer(
            status, f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
        )

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        kind = "application/octet-stream" if headers else "application/xml"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _entry(key: str, moment: datetime, size: int) -> str:
    time_ = f"{moment + timedelta(minutes=1):%Y-%m-%dT%H:%M:%S.000Z}"
    return f"<Contents><Key>{key}</Key><LastModified>{time_}</LastModified><ETag>{_etag(key)}</ETag><Size>{size}</Size></Contents>"


def _etag(key: str) -> str:
    return f'"{hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()}"'


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("databases", type=int)
    parser.add_argument("nights", type=int)
    parser.add_argument("delay", type=float, help="seconds")
    options = parser.parse_args()
    data = options.manifest.read_bytes()
    name = "/".join(options.manifest.parts[-4:])
    newest = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    content = _Content(
        load_manifest(data, name),
        open_signer(f"file:{options.key}"),
        [(cluster, f"database_{number:02}") for cluster in CLUSTERS for number in range(options.databases)],
        [newest - timedelta(days=night) for night in reversed(range(options.nights))],
    )
    documents = _Chains(content).documents(content.places[0])
    sizes = {key[-4:]: len(body) for key, body in documents.items()} | {".zst": len(_OBJECT)}
    fields = {
        "content": content,
        "chains": _Chains(content),
        "sizes": sizes,
        "delay": options.delay,
        "counts": Counter(),
    }
    handler: type[_Handler] = type("Handler", (_Handler,), fields)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        print(server.server_port, flush=True)
        for _ in sys.stdin:
            print("GET 0", *(f"{kind} {number}" for kind, number in sorted(handler.counts.items())), flush=True)


if __name__ == "__main__":
    _main()
