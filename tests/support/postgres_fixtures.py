"""A PostgreSQL server for the session, and databases in it for each test."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count

import psycopg
import pytest
from psycopg import sql

from demo import sample
from pipeline.postgres.throwaway import ThrowawayCluster

SAMPLE_SCALE = 0.02
"""Some 13,000 rows: enough for several slices and packs where a test asks for small ones."""

_numbers = count(1)


@dataclass(frozen=True)
class Database:
    """A database of a test's own, used as the superuser."""

    name: str
    conninfo: str

    def execute(self, query: str) -> None:
        """Run a statement, or several that make one transaction."""
        with closing(psycopg.connect(self.conninfo, autocommit=True)) as connection:
            connection.execute(query.encode())

    def fetch(self, query: str) -> list[tuple]:
        """The rows of a query."""
        with closing(psycopg.connect(self.conninfo, autocommit=True)) as connection:
            return connection.execute(query.encode()).fetchall()


DatabaseMaker = Callable[..., Database]


@pytest.fixture(scope="session")
def postgres() -> Iterator[ThrowawayCluster]:
    """The server. Its other databases are other tests': make your own by ``database`` or ``make_database``."""
    with ThrowawayCluster() as cluster:
        yield cluster


@pytest.fixture
def make_database(postgres: ThrowawayCluster) -> Iterator[DatabaseMaker]:
    """``make_database(name=None, template="template0")`` makes a database, which is dropped after the test."""
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
