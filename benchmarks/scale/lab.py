"""Where the benchmarks of scale run: their servers, stores and folders, and how large they are."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy import CountingProxy
from benchmarks.runs import SERVER_SETTINGS, SOURCE, Bench, create_source
from benchmarks.scale import commands
from benchmarks.scale.catalogs import Template
from benchmarks.scale.databases import build_tables
from benchmarks.scale.rows import Trial
from benchmarks.stores import BUCKET, Store
from pipeline.postgres.throwaway import NOT_DURABLE, ThrowawayCluster

SETTINGS: Mapping[str, str] = {**SERVER_SETTINGS, **NOT_DURABLE, "max_locks_per_transaction": "1024"}
"""The server's settings. The disk's speed matters less than with a durable server. pg_dump can lock all tables at once."""
TABLES_OF_A_COPY = 20
"""The number of tables in the backup that the many backups are copies of."""


@dataclass(frozen=True, slots=True)
class Lab:
    """The place and the size of all measurements."""

    directory: Path
    stack: ExitStack
    """Ends the servers after all measurements. An earlier removal of their files would slow the measurements down."""
    share: float
    """The share of the whole sizes: 1 for the whole sizes."""
    repeat: int
    """The number of runs of each command."""
    jobs: int
    """The number of parallel jobs."""

    def size(self, whole: int) -> int:
        """Return this lab's share of a number of things: at least 1."""
        return max(1, round(whole * self.share))

    def start(self, name: str) -> Bench:
        """Start a server with an empty database, :data:`benchmarks.runs.SOURCE`, that runs until the end of all measurements."""
        directory = self.directory / name
        directory.mkdir()
        cluster = self.stack.enter_context(ThrowawayCluster(settings=SETTINGS, directory=directory))
        create_source(cluster)
        return Bench(cluster, directory, self.jobs)

    def template(self, bench: Bench) -> Template:
        """Fill the bench's database with 20 tables, back it up, and return the backup."""
        build_tables(bench.cluster.conninfo(SOURCE), TABLES_OF_A_COPY)
        folder = bench.directory / "template"
        bench.run(commands.TEMPLATE, {"FOLDER": str(folder)})
        return Template.read(folder)


@dataclass(frozen=True, slots=True)
class CountedStore:
    """A store in a bucket, behind a proxy that counts the requests."""

    bench: Bench
    store: Store
    proxy: CountingProxy

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment with which commands reach the store through the proxy."""
        return {**self.store.environment, "AWS_ENDPOINT_URL": self.proxy.endpoint}

    def folder(self, remote: str) -> Path:
        """Return the folder that has the store's objects below a prefix, each object in its own file."""
        return self.store.objects / BUCKET / remote

    def run(self, command: str, settings: Mapping[str, str]) -> Trial:
        """Run a command as :meth:`Bench.run` does. Return its costs, and its requests to the store."""
        before = self.proxy.counts()
        cost = self.bench.run(command, {**self.environment, **settings})
        return Trial(cost, self.proxy.counts() - before)


@contextmanager
def counted_store(bench: Bench, *, delay: float = 0.0) -> Iterator[CountedStore]:
    """Yield a new, empty store. ``delay`` is in seconds, for each request."""
    directory = bench.directory / "store"
    with (
        Store(directory) as store,
        CountingProxy(store.endpoint, directory / "requests.log", delay=delay) as proxy,
    ):
        yield CountedStore(bench, store, proxy)
