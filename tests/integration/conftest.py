"""Fixtures of the tests that run pgstow against servers and stores that fail."""

import math
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from support.faulty_backups import FILL_LARGE, FaultyStore
from support.faulty_http import Fault, FaultyProxy
from support.object_stores import StoreBucket
from support.postgres_fixtures import Database, DatabaseMaker

from pipeline.postgres.throwaway import ThrowawayCluster


@pytest.fixture(scope="session")
def _large_template(postgres: ThrowawayCluster) -> str:
    with closing(psycopg.connect(postgres.conninfo(), autocommit=True)) as connection:
        connection.execute("CREATE DATABASE large_template TEMPLATE template0")
    with psycopg.connect(postgres.conninfo("large_template")) as connection:
        connection.execute(FILL_LARGE.encode())
    return "large_template"


@pytest.fixture
def large_database(make_database: DatabaseMaker, _large_template: str) -> Database:
    """A new database whose dump has 24 MB, and 12 MB when compressed: more than the limits in ``SMALL`` hold."""
    return make_database(template=_large_template)


@pytest.fixture
def s3(s3_bucket: StoreBucket) -> Iterator[FaultyStore]:
    """An S3 store that fails when it is told to."""
    with FaultyProxy(s3_bucket.endpoint, verify_digests=True) as proxy:
        yield FaultyStore(s3_bucket.url_at(proxy.url), proxy, s3_bucket)


@pytest.fixture
def stuck_s3(s3: FaultyStore) -> FaultyStore:
    """An S3 store that answers no PUT until ``proxy.heal`` is called. With the limits in ``SMALL``, the spool fills, and pg_dump waits."""
    s3.proxy.fail(method="PUT", times=math.inf, with_=Fault.STALL)
    return s3
