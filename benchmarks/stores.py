"""The object store: ``rclone serve s3``, over HTTP. It checks signatures."""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

BUCKET = "bench"
REGION = "us-east-1"
_KEY, _SECRET = "benchmarkkey", "benchmarksecret"
_START_TIMEOUT = 60.0  # seconds
_SERVING = re.compile(r"Starting s3 server on \[(http://[^/]+)/\]")
# The lines that rclone logs at its debug level for a PUT of an object, and for a PUT of a part of a multipart upload.
_PUT = re.compile(r"serve s3: (CREATE OBJECT|put multipart upload)")

# No VFS cache. With a cache, rclone hashes the whole object for each ranged GET while the object is only in the cache. The AWS CLI fetches
# large objects in ranges of 8 MiB, so the hashes would cost several times more than all other work. rclone would also copy objects out of
# the cache later, during the run of another side. rclone doesn't check its own copies either.
_FLAGS = ("--vfs-cache-mode", "off", "--no-checksum", "--ignore-checksum", "-vv")


class Store:
    """An S3 store in an empty directory, while its ``with`` block runs. Raise RuntimeError if the store doesn't start.

    Args:
        directory: the folder of the objects, each in its own file, and of rclone's log.
        address: the IP address on which to listen.
        prefix: words before the command, such as ``ip netns exec NAME``.
    """

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> None:
        self._directory = directory
        self.objects = directory / "objects"
        self._log = directory / "rclone.log"
        self._command = (*prefix, "rclone", "serve", "s3", str(self.objects), "--addr", f"{address}:0", *_FLAGS)

    def __enter__(self) -> Self:
        (self.objects / BUCKET).mkdir(parents=True)
        command = (*self._command, "--config", "", "--auth-key", f"{_KEY},{_SECRET}")
        with self._log.open("wb") as log:
            self._server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_TIMEOUT
        while not (serving := _SERVING.search(self._log.read_text())):
            if self._server.poll() is not None or time.monotonic() > deadline:
                self._server.kill()
                raise RuntimeError(f"rclone does not serve: {self._log.read_text()[-500:]}")
            time.sleep(0.05)
        self.endpoint = serving[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.terminate()
        self._server.wait()

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment with which the AWS CLI and boto3 reach the store."""
        return environment_of(self.endpoint)

    def puts(self) -> int:
        """Return the number of PUT requests so far. Parts of multipart uploads count. The POSTs that open and close uploads don't."""
        with self._log.open(errors="replace") as log:
            return sum(1 for line in log if _PUT.search(line))

    def stored(self, prefix: str) -> int:
        """Return the size of the objects below a prefix, in bytes."""
        return sum(path.stat().st_size for path in (self.objects / BUCKET / prefix).rglob("*") if path.is_file())


def environment_of(endpoint: str) -> Mapping[str, str]:
    """Return the environment with which the AWS CLI and boto3 reach a store at a URL. They then read no files of this machine."""
    return {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
