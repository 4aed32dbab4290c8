"""A test's own server, with locales that this machine may lack."""

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
    """Yield a server that has the named locales. The locale ``de_DE`` is named ``de_DE.UTF-8`` there, and only this server has it.

    Skip the test if this machine lacks localedef.
    """
    if shutil.which("localedef") is None:
        pytest.skip("localedef makes the locales")
    with tempfile.TemporaryDirectory(prefix="locales-", dir="/tmp") as folder:  # the server's user may read here
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
