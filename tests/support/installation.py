"""A test's own copy of PostgreSQL, which may lack parts of the real installation."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.postgres.programs import find_program


@dataclass(frozen=True)
class Installation:
    """The folders of a copy of the newest server: its programs, libraries and extensions."""

    bin: Path
    lib: Path
    share: Path


@contextmanager
def own_installation() -> Iterator[Installation]:
    """Yield a copy that the test may change. Skip the test if PostgreSQL isn't where Debian's packages put it.

    PostgreSQL finds its other folders from the folder of its programs (``make_relative_path`` in path.c).
    """
    initdb = find_program("initdb", at_least_major=12, search=())
    programs = initdb.path.resolve().parent
    share = Path("/usr/share/postgresql", str(initdb.major))
    if programs != Path("/usr/lib/postgresql", str(initdb.major), "bin"):
        pytest.skip("only the places of Debian's packages are known here")
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as name:  # the server's user may read here
        copy = Path(name)
        shutil.copytree(programs.parent, copy / "lib/postgresql" / str(initdb.major), ignore=_unneeded)
        shutil.copytree(share, copy / "share/postgresql" / str(initdb.major))
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        there = copy / "lib/postgresql" / str(initdb.major)
        yield Installation(there / "bin", there / "lib", copy / "share/postgresql" / str(initdb.major))


def _unneeded(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in {"bitcode", "pgxs"}]
