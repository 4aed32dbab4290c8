"""Options that several commands share, and what commands make of them: stores, connection strings and limits."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from cli.values import parse_moment, parse_patience, parse_rate, parse_size, parse_split_tables
from pipeline import config

if TYPE_CHECKING:
    from pipeline.config import Limits
    from pipeline.postgres.conninfo import Conninfo
    from storage_backends import StorageBackend


MEMORY_DEFAULT = "192MiB"
STORE_VARIABLE = "PGSTOW_STORE"
STORE = "The store"
LIMITS = "Resources"
WHAT = "Selection"
SERVER = "A whole server"
SERVER_SETTINGS = (
    "Keep the server's own synchronous_commit, maintenance_work_mem and max_parallel_maintenance_workers. Default: values that make a restore "
    "faster, and one last transaction that makes all restored data durable"
)
"""The help of ``--server-settings``, which several commands have."""

To: TypeAlias = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        envvar=STORE_VARIABLE,
        help="The store for the backup: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder",
    ),
]
ToEach: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="The store for the backup: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder. If it is repeated, pgstow dumps once, "
        "and writes the dump to every store. "
        f"Default: the environment variable {STORE_VARIABLE}",
        show_default=False,
    ),
]
From: TypeAlias = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="URL",
        envvar=STORE_VARIABLE,
        help="The store of the backups: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder",
    ),
]
CreateStore: TypeAlias = Annotated[
    bool,
    typer.Option("--create-store", help="Create the folder in --to if it does not exist", rich_help_panel=STORE),
]
StoreOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--store-option",
        "-o",
        metavar="KEY=VALUE",
        help="An option of the store; can be repeated. A URL takes the same options in its query, after '?'. The keys: endpoint, ca_bundle, "
        "region, profile, path_style, storage_class, kms_key, checksum, project, retain_days, retain_until, lock_mode, allow_http, "
        "create_only, connect_timeout, read_timeout, create",
        rich_help_panel=STORE,
    ),
]
GiveUpAfter: TypeAlias = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        parser=parse_patience,
        help="If a request to the store fails, retry it for this time",
        rich_help_panel=STORE,
    ),
]
Cluster: TypeAlias = Annotated[
    str | None, typer.Option(metavar="CLUSTER", help="Only backups of this cluster, as pgstow list shows it")
]
Database: TypeAlias = Annotated[str | None, typer.Option(metavar="DATABASE", help="Only backups of this database")]
At: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME",
        parser=parse_moment,
        help="Take the latest backup whose data is not newer than this time, such as 2026-11-23T02:00 or 2026-11-23T02:00:00Z",
    ),
]
Partial: TypeAlias = Annotated[
    bool, typer.Option("--partial", help="Let the BACKUP 'latest' also mean a partial backup")
]
BackupId: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="BACKUP", help="The backup's ID, the beginning of its ID, or 'latest'"),
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors, warnings and the result")]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        min=1,
        max=config.MOST_AT_ONCE,
        help="The number of parallel jobs. Default: the number of processors, at most 4",
        rich_help_panel=LIMITS,
    ),
]
SplitTables: TypeAlias = Annotated[
    Any,
    typer.Option(
        "--split-tables",
        metavar="auto|never|SIZE",
        parser=parse_split_tables,
        help="Let all jobs load a large table at the same time. auto: only if the jobs would otherwise end at different times. "
        "SIZE: every table of at least this size, uncompressed. See docs/restoring.md",
        rich_help_panel=LIMITS,
    ),
]
Transfers: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=config.MOST_AT_ONCE,
        help="The number of objects to send or fetch at once",
        rich_help_panel=LIMITS,
    ),
]
Memory: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="Memory for data on its way, such as 512MiB",
        show_default=MEMORY_DEFAULT,
        rich_help_panel=LIMITS,
    ),
]
SpoolDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        file_okay=False,
        exists=True,
        help="The folder for temporary files. Default: the system's temporary folder",
        rich_help_panel=LIMITS,
    ),
]
LimitRate: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=parse_rate,
        help="The most bytes a second to or from the store, for all transfers together, such as 10MiB. Default: no limit",
        rich_help_panel=LIMITS,
    ),
]
Nice: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=19,
        help="Add N to the niceness of pgstow and of PostgreSQL's programs on this machine, so that other programs run first",
        rich_help_panel=LIMITS,
    ),
]
BinDir: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FOLDER",
        help="A folder with PostgreSQL's programs; can be repeated. Default: the usual folders, then PATH",
        rich_help_panel=LIMITS,
    ),
]


def open_store(
    url: str,
    options: list[str] | None,
    give_up_after: float,
    limit_rate: int | None = None,
    *,
    quiet: bool = False,
    lazily: bool = False,
) -> "StorageBackend":
    """Return the store at ``url``. ``give_up_after`` is in seconds, ``limit_rate`` in bytes a second.

    Unless ``quiet``, standard error reports requests that fail more than once, while pgstow retries them. With ``lazily``, a bucket is
    opened later, as :func:`storage_backends.open_backend` says.

    Raise InvalidRequest if an option has no value, and InvalidStorageURL or AccessDenied as :func:`storage_backends.open_backend` does.
    """
    from cli.errors import print_error
    from storage_backends import open_backend

    tell = (lambda _: None) if quiet else print_error
    return open_backend(
        url, parse_store_options(options), give_up_after=give_up_after, rate=limit_rate, tell=tell, lazily=lazily
    )


def parse_conninfo(text: str, *, quiet: bool) -> "Conninfo":
    """Return the connection string. Unless ``quiet``, warn on standard error of a secret in it. Raise InvalidRequest as Conninfo.parse does."""
    from cli.errors import print_error
    from pipeline.postgres.conninfo import Conninfo

    conninfo = Conninfo.parse(text)
    if conninfo.secrets and not quiet:
        print_error(
            f"Other users of this machine can read the {conninfo.secrets[0]} in the list of processes: "
            "keep it in ~/.pgpass or in a service file."
        )
    return conninfo


def parse_store_options(options: list[str] | None) -> dict[str, str]:
    """Return the options in ``KEY=VALUE`` by their keys. Raise InvalidRequest if an option has no value."""
    from pipeline.errors import InvalidRequest

    pairs = [option.partition("=") for option in options or []]
    for key, equals, _ in pairs:
        if not equals:
            raise InvalidRequest(f"--store-option {key} needs a value: write {key}=VALUE.")
    return {key: value for key, _, value in pairs}


def open_stores(
    urls: list[str] | None,
    options: list[str] | None,
    give_up_after: float,
    limit_rate: int | None = None,
    options_of_each: Sequence[str] = (),
    *,
    option: str = "--to",
    create: bool = False,
    quiet: bool = False,
    lazily: bool = False,
) -> "list[StorageBackend]":
    """Return the stores at ``urls``, or else the store that the environment names. Each store gets ``options_of_each``, too.

    With ``create``, a missing folder is created when the first object is written. ``lazily`` is :func:`open_store`'s. ``option`` is the option
    that names the stores.

    Raise InvalidRequest if no store is named, if a store is named twice, or if ``options`` are given for several stores. Also raise as
    :func:`open_store` does.
    """
    from pipeline.errors import InvalidRequest
    from storage_backends import is_folder, place_of

    # typer would split the variable at its spaces, but a folder's name may have spaces.
    if not (named := urls or [url for url in [os.environ.get(STORE_VARIABLE)] if url]):
        raise InvalidRequest(
            f"The command needs a store: give {option} URL, or set {STORE_VARIABLE} in the environment."
        )
    if len(named) > 1 and options:
        raise InvalidRequest(
            "--store-option works only with one store: leave out --store-option, and write the options into the URLs."
        )
    given = parse_store_options(options)
    if len({place_of(url, given) for url in named}) < len(named):
        raise InvalidRequest(f"A store is named twice, but it can hold only one copy: leave out one {option}.")
    of_each = [*(options or ()), *options_of_each]
    return [
        open_store(
            url,
            [*of_each, "create=true"] if create and is_folder(url) else of_each,
            give_up_after,
            limit_rate,
            quiet=quiet,
            lazily=lazily,
        )
        for url in named
    ]


def make_limits(jobs: int | None, transfers: int, memory: int, spool_dir: Path | None, **more: Any) -> "Limits":
    """Return the limits. ``memory`` is in bytes; ``more`` may have other fields of Limits. Raise InvalidRequest."""
    from pipeline.config import Limits, default_jobs

    return Limits(jobs=jobs or default_jobs(), transfers=transfers, memory=memory, spool_parent=spool_dir, **more)
