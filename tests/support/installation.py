"""PostgreSQL's programs in a place of a test's own, which may lack what the real installation has."""

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
    """A copy of the newest server's programs, libraries and extensions."""

    bin: Path
    lib: Path
    share: Path


@contextmanager
def own_installation() -> Iterator[Installation]:
    """A copy to change as a test likes. PostgreSQL finds all of it from where its programs are (``make_relative_path`` in path.c)."""
    initdb = find_program("initdb", at_least_major=12, search=())
    programs = initdb.path.resolve().parent
    share = Path("/usr/share/postgresql", str(initdb.major))
    if programs != Path("/usr/lib/postgresql", str(initdb.major), "bin"):
        pytest.skip("only the places of Debian's packages are known here")
    with tempfile.TemporaryDirectory(prefix="postgresql-", dir="/tmp") as name:  # where the server's user may look
        copy = Path(name)
        shutil.copytree(programs.parent, copy / "lib/postgresql" / str(initdb.major), ignore=_unneeded)
        shutil.copytree(share, copy / "share/postgresql" / str(initdb.major))
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        there = copy / "lib/postgresql" / str(initdb.major)
        yield Installation(there / "bin", there / "lib", copy / "share/postgresql" / str(initdb.major))


def _unneeded(_folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in {"bitcode", "pgxs"}]
