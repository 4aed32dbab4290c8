"""Locales that this machine need not have, for a server of a test's own."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.postgres.throwaway import ThrowawayCluster


@contextmanager
def server_with_locales(*names: str, **settings: str) -> Iterator[ThrowawayCluster]:
    """A server that knows locales such as ``de_DE``, by names such as ``de_DE.UTF-8``, which nothing else on this machine does."""
    if shutil.which("localedef") is None:
        pytest.skip("localedef makes the locales")
    with tempfile.TemporaryDirectory(prefix="locales-", dir="/tmp") as folder:  # where the server's user may look
        for name in names:
            made = Path(folder, f"{name}.UTF-8")
            subprocess.run(["localedef", "-i", name, "-f", "UTF-8", made], check=True)
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LOCPATH", folder)
            started = ThrowawayCluster(settings=settings).__enter__()
        try:
            yield started
        finally:
            started.__exit__(None, None, None)
