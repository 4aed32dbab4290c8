"""The options of the commands that read the records of many backups, and the cache of what was read."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from cli import display, options
from cli.progress import show_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.audit.cache import Cache
    from pipeline.audit.facts import DatabaseFacts
    from pipeline.events import Notify
    from pipeline.trust.policy import Trust

NoCache: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        help="Read all records, and remember none. Default: remember what they say in $XDG_CACHE_HOME/pgstow, so that the next run reads only "
        "new ones",
    ),
]


@contextmanager
def read_manifests(
    url: str,
    store_options: list[str] | None,
    give_up_after: float,
    trust: "Trust | None",
    *,
    cluster: str | None,
    database: str | None,
    no_cache: bool,
    quiet: bool,
) -> "Iterator[tuple[str, Iterator[DatabaseFacts]]]":
    """Yield the URL of a store, and what its manifests say, database by database. Close the store afterwards.

    Raise as :func:`cli.options.open_store` and :func:`pipeline.audit.read.read_store` do.
    """
    from pipeline.audit.read import read_store
    from pipeline.catalog.keys import MANIFESTS
    from pipeline.events import Started

    with (
        closing(options.open_store(url, store_options, give_up_after)) as store,
        show_progress(quiet=quiet) as notify,
        closing(open_cache(notify, no_cache=no_cache)) as cache,
    ):
        notify(Started("Reading manifests"))
        now = datetime.now(UTC)
        found = read_store(
            store, trust, now, notify, cluster=cluster, database=database, folders=[MANIFESTS], cache=cache
        )
        yield store.url, found


def open_cache(notify: "Notify", *, no_cache: bool) -> "Cache":
    """Return the user's cache of records; one that keeps nothing, if ``no_cache`` is true or if the cache can't be used."""
    from pipeline.audit import cache
    from pipeline.events import Notice

    if no_cache:
        return cache.NO_CACHE
    try:
        folder = _default_folder()
    except RuntimeError:
        notify(
            Notice("Your user has no home directory, so pgstow reads all records: set XDG_CACHE_HOME to keep a cache.")
        )
        return cache.NO_CACHE
    return cache.open_cache(folder, notify)


def _default_folder() -> Path:
    """Return the folder of the cache. systemd sets CACHE_DIRECTORY. Raises RuntimeError if the user has no home directory."""
    if folders := os.environ.get("CACHE_DIRECTORY"):
        return Path(folders.split(":")[0])
    if home := os.environ.get("XDG_CACHE_HOME"):
        return Path(home) / "pgstow"
    return Path("~/.cache/pgstow").expanduser()


def print_problems(sentences: "Sequence[str]") -> None:
    """Print the sentences on backups that can't be read or believed."""
    for sentence in sentences:
        display.console().print(f"[red]{display.literal(sentence)}[/red]", soft_wrap=True)
