"""A hot standby of a throwaway server."""

from collections.abc import Mapping
from pathlib import Path

from support.pgstow import wait_until

from pipeline.errors import LocalResourceExhausted
from pipeline.postgres.throwaway import ThrowawayCluster


class Standby(ThrowawayCluster):
    """A hot standby that streams from ``primary``, for as long as its ``with`` block runs. pg_basebackup copies the primary's cluster.

    The block begins once postmaster.pid has the word ``until``. The word is ``ready`` if the server takes connections, or ``starting``.
    Raises LocalResourceExhausted if the standby can't be set up.
    """

    def __init__(
        self, primary: ThrowawayCluster, *, settings: Mapping[str, str] | None = None, until: str = "ready"
    ) -> None:
        super().__init__(at_least_major=primary.major, search=[primary.bin_dir], settings=settings)
        self._primary = primary
        self._until = until

    def wait_until_ready(self) -> None:
        """Wait until the standby takes connections. Raises AssertionError if it doesn't in time."""
        self._until = "ready"
        wait_until(self._is_ready, "the standby takes connections")

    def _run_initdb(self, programs: Path) -> None:
        command = [programs / "pg_basebackup", "--pgdata", self._home / "data", "--write-recovery-conf"]
        command += ["--checkpoint=fast", "--no-sync", f"--dbname={self._primary.conninfo()}"]
        self._primary._sockets.chmod(0o711)  # if root runs the tests, each server has its own user
        if self._popen(command, self._owner).wait():
            raise LocalResourceExhausted(f"A standby cannot be set up: {self._complaint()}")

    def _is_ready(self) -> bool:
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == self._until
