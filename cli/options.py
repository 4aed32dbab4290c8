"""Options that several commands share, and how they are parsed."""

import math
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from pipeline import config

if TYPE_CHECKING:
    from pipeline.config import Limits
    from pipeline.postgres.conninfo import Conninfo
    from storage_backends import StorageBackend


def parse_size(text: str | int) -> int:
    """Return the bytes in a text such as ``256MiB``; see :func:`pipeline.config.parse_size`. Raises typer.BadParameter."""
    try:
        return config.parse_size(str(text))
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def parse_rate(text: str | int) -> int:
    """Return the bytes a second in a text such as ``10MiB``. Raises typer.BadParameter, also for 0."""
    if (rate := parse_size(text)) == 0:
        raise typer.BadParameter("at a rate of 0, nothing would ever be moved; leave the option out for no limit")
    return rate


def parse_moment(text: str) -> datetime:
    """Return the time in a text; see :func:`storage_backends.moments.parse_moment`. Raises typer.BadParameter."""
    from storage_backends.moments import parse_moment as parse

    try:
        return parse(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is not a time; write 2026-11-23T02:00 or 2026-11-23T02:00:00Z") from exc


def parse_patience(text: str | float) -> float:
    """Return the seconds for which to retry a request, from 0 to :data:`config.LONGEST_PATIENCE`. Raises typer.BadParameter."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= config.LONGEST_PATIENCE:
        raise typer.BadParameter(f"{text!r} is not a number of seconds from 0 to {config.LONGEST_PATIENCE}")
    return seconds


def parse_format(text: str) -> str:
    """Return the name of pg_dump's format. The text is the name or its first letter, as for ``pg_dump --format``.

    Raises typer.BadParameter.
    """
    for name in ("directory", "custom", "tar", "plain"):
        if text in {name, name[0]}:
            return name
    raise typer.BadParameter(f"{text!r} is no format of pg_dump's; write directory, custom, tar or plain")


MEMORY_DEFAULT = "192MiB"
STORE_VARIABLE = "PGSTOW_STORE"
STORE = "The store"
LIMITS = "Limits"
WHAT = "What to take"
SERVER = "A whole server"

To: TypeAlias = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="URL",
        envvar=STORE_VARIABLE,
        help="s3://bucket/prefix, gs://bucket/prefix or a folder",
        rich_help_panel=STORE,
    ),
]
ToEach: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        metavar="URL",
        help="s3://bucket/prefix, gs://bucket/prefix or a folder; several times for several stores, from one dump; "
        f"{STORE_VARIABLE} of the environment by default",
        show_default=False,
        rich_help_panel=STORE,
    ),
]
From: TypeAlias = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="URL",
        envvar=STORE_VARIABLE,
        help="s3://bucket/prefix, gs://bucket/prefix or a folder",
        rich_help_panel=STORE,
    ),
]
CreateStore: TypeAlias = Annotated[
    bool,
    typer.Option("--create-store", help="Make the folder in --to if it is missing", rich_help_panel=STORE),
]
StoreOptions: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--store-option",
        "-o",
        metavar="KEY=VALUE",
        help="endpoint, ca_bundle, region, profile, path_style, storage_class, kms_key, checksum, project, retain_days, retain_until, "
        "lock_mode, allow_http, create_only, connect_timeout, read_timeout, create; as in the URL's query",
        rich_help_panel=STORE,
    ),
]
GiveUpAfter: TypeAlias = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        parser=parse_patience,
        help="How long to retry each request to a store that fails",
        rich_help_panel=STORE,
    ),
]
Cluster: TypeAlias = Annotated[
    str | None, typer.Option(metavar="NAME", help="The cluster that the backup is filed under")
]
Database: TypeAlias = Annotated[str | None, typer.Option(metavar="NAME", help="The database that was backed up")]
At: TypeAlias = Annotated[
    datetime | None,
    typer.Option(metavar="TIME", parser=parse_moment, help="With latest: the newest backup of this time or before"),
]
Partial: TypeAlias = Annotated[bool, typer.Option("--partial", help="With latest: also a partial backup")]
BackupId: TypeAlias = Annotated[
    str, typer.Argument(metavar="BACKUP", help="A backup's ID, the beginning of one, or latest", show_default=False)
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors and the result")]
Jobs: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        min=1,
        max=config.MOST_AT_ONCE,
        help="Parallel jobs; by default the processors, four at most",
        rich_help_panel=LIMITS,
    ),
]
Transfers: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=config.MOST_AT_ONCE,
        help="Objects on their way to or from the store at once",
        rich_help_panel=LIMITS,
    ),
]
Memory: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="SIZE",
        parser=parse_size,
        help="Memory for data in flight",
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
        help="Where to spool; the system's temporary folder by default",
        rich_help_panel=LIMITS,
    ),
]
LimitRate: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="SIZE",
        parser=parse_rate,
        help="Bytes a second to or from the store, all transfers together; no limit by default",
        rich_help_panel=LIMITS,
    ),
]
Nice: TypeAlias = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=0,
        max=19,
        help="Raise the niceness of pgstow and of PostgreSQL's programs here, so that others get the processors first",
        rich_help_panel=LIMITS,
    ),
]
BinDir: TypeAlias = Annotated[
    list[Path] | None,
    typer.Option(metavar="FOLDER", help="Where PostgreSQL's programs are, if not in the usual places"),
]


def open_store(
    url: str,
    options: list[str] | None,
    give_up_after: float,
    limit_rate: int | None = None,
    *,
    quiet: bool = False,
) -> "StorageBackend":
    """Return the store at ``url``. ``give_up_after`` is in seconds, ``limit_rate`` in bytes a second.

    Unless ``quiet``, standard error tells of requests that fail more than once, while they are tried again.

    Raises InvalidRequest if an option has no value, and InvalidStorageURL or AccessDenied as :func:`storage_backends.open_backend` does.
    """
    from cli.errors import print_error
    from storage_backends import open_backend

    tell = (lambda _: None) if quiet else print_error
    return open_backend(url, parse_store_options(options), give_up_after=give_up_after, rate=limit_rate, tell=tell)


def parse_conninfo(text: str, *, quiet: bool) -> "Conninfo":
    """Return the connection string. Unless ``quiet``, standard error warns of a secret in it. Raises InvalidRequest as Conninfo.parse does."""
    from cli.errors import print_error
    from pipeline.postgres.conninfo import Conninfo

    conninfo = Conninfo.parse(text)
    if conninfo.secrets and not quiet:
        print_error(
            f"Others on this machine can read the {conninfo.secrets[0]} in the list of processes: keep it in ~/.pgpass, or in a service file."
        )
    return conninfo


def parse_store_options(options: list[str] | None) -> dict[str, str]:
    """Return the options in ``KEY=VALUE`` by their keys. Raises InvalidRequest if an option has no value."""
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
    create: bool = False,
    quiet: bool = False,
) -> "list[StorageBackend]":
    """Return the stores at ``urls``, or else the store that the environment names. ``options_of_each`` are added for each store. With
    ``create``, the first object makes a folder that is missing.

    Raises InvalidRequest if no store is named, if a store is named twice, or if ``options`` are given for several stores. Also raises as
    :func:`open_store` does.
    """
    from pipeline.errors import InvalidRequest
    from storage_backends import is_folder, place_of

    # typer itself would split the variable at its spaces, which a folder's name may have.
    if not (named := urls or [url for url in [os.environ.get(STORE_VARIABLE)] if url]):
        raise InvalidRequest(f"Say where the backup shall go: --to URL, or {STORE_VARIABLE} in the environment.")
    if len(named) > 1 and options:
        raise InvalidRequest("With several stores, options stand in each one's URL: leave out --store-option.")
    given = parse_store_options(options)
    if len({place_of(url, given) for url in named}) < len(named):
        raise InvalidRequest("A store is named twice: one copy there is all that can be.")
    of_each = [*(options or ()), *options_of_each]
    return [
        open_store(
            url,
            [*of_each, "create=true"] if create and is_folder(url) else of_each,
            give_up_after,
            limit_rate,
            quiet=quiet,
        )
        for url in named
    ]


def make_limits(jobs: int | None, transfers: int, memory: int, spool_dir: Path | None, **more: int) -> "Limits":
    """Return the limits. ``memory`` is in bytes; ``more`` may have ``spool`` and ``object_size``, too. Raises InvalidRequest."""
    from pipeline.config import Limits, default_jobs

    return Limits(jobs=jobs or default_jobs(), transfers=transfers, memory=memory, spool_parent=spool_dir, **more)
