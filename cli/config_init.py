"""``pgstow config init``: write a pgstow.toml."""

import os
import re
import shlex
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import backup_options as what
from cli import options
from cli.command import is_utf8
from cli.errors import ExitCode
from cli.job_check import PATIENCE, examine_job

if TYPE_CHECKING:
    from pipeline.nightly.jobs import Job
    from pipeline.nightly.new_file import Choices

KEEP = "Retention"


def init(
    conninfo: what.Source = "",
    *,
    to: options.ToEach = None,
    all_databases: Annotated[
        bool, typer.Option("--all-databases", help="Back up the whole server", rich_help_panel=options.SERVER)
    ] = False,
    config: Annotated[
        Path,
        typer.Option(metavar="FILE", envvar="PGSTOW_CONFIG", help="The file to write. It must not exist yet"),
    ] = Path("pgstow.toml"),
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The name for the database in the file. Default: the database's own name, or 'server' with --all-databases",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file that holds only the password. Default: libpq finds the password, for example in ~/.pgpass",
        ),
    ] = None,
    cluster: what.FiledUnder = None,
    verify: Annotated[
        Literal["objects", "bytes", "archive", "restore", "none"] | None,
        typer.Option(
            metavar="LEVEL",
            help="How far pgstow run verifies each backup: objects, bytes, archive, restore or none. "
            "Default: archive, if the credentials can read",
        ),
    ] = None,
    connect: Annotated[
        bool,
        typer.Option("--connect/--no-connect", help="First examine the database and the stores, as pgstow check does"),
    ] = True,
    quiet: options.Quiet = False,
    keep_daily: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Keep one backup of each of the last N days, and let the nightly run remove the others",
            rich_help_panel=KEEP,
        ),
    ] = None,
    keep_weekly: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep one backup of each of the last N weeks", rich_help_panel=KEEP),
    ] = None,
    keep_monthly: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Keep one backup of each of the last N months", rich_help_panel=KEEP),
    ] = None,
) -> None:
    """Write a pgstow.toml for a database and its stores.

    pgstow first examines the database and the stores. At a terminal, it asks for missing details.
    """
    from pipeline.errors import InvalidRequest
    from pipeline.nightly.new_file import Choices, create
    from pipeline.postgres.conninfo import ADDRESS_VARIABLES, Conninfo

    if os.path.lexists(config):
        raise InvalidRequest(f"{config} already exists: remove it, or name another file with --config.")
    conninfo, all_databases = _which_database(conninfo, all_databases=all_databases)
    source = Conninfo.parse(conninfo)
    if secrets := source.secrets:
        raise InvalidRequest(
            f"The {secrets[0]} must not be in the file: leave it out, and keep it in ~/.pgpass or in a file that --password-file names."
        )
    # pgstow run often starts without the environment of this terminal.
    if (complete := source.completed(os.environ)) != source:
        source, conninfo = complete, complete.text
    given = {"keep_daily": keep_daily, "keep_weekly": keep_weekly, "keep_monthly": keep_monthly}
    choices = Choices(
        name=name or _name(conninfo, all_databases=all_databases),
        conninfo=conninfo,
        urls=_destinations(_which_stores(to or [])),
        all_databases=all_databases,
        password_file=None if password_file is None else password_file.absolute(),
        cluster=cluster,
        verify=verify,
        keep={rule: number for rule, number in given.items() if number is not None},
    )
    job, text = _compose(config, choices)
    if connect:
        ready = [examine_job(job, destination, quiet=quiet) for destination in job.destinations]
        if not all(ready):
            print(f"\n{config} was not written.")
            raise typer.Exit(ExitCode.CHECK)
        _, text = _compose(config, _with_usual(choices, job))
    create(config, text)
    print(f"\n{config} is written. Read it, and then run: pgstow run --config {shlex.quote(str(config))}")
    written = {name for name, parameter in ADDRESS_VARIABLES.items() if parameter in source.parameters}
    if variables := sorted(name for name in os.environ.keys() - written if re.fullmatch("PG[A-Z]+", name)):
        print(f"pgstow run also needs these environment variables: {', '.join(variables)}.")


def _which_database(conninfo: str, *, all_databases: bool) -> tuple[str, bool]:
    """Return the connection string, and True to back up the whole server. At a terminal, ask. Raise InvalidRequest if nobody can answer."""
    from pipeline.errors import InvalidRequest

    if conninfo:
        return conninfo, all_databases
    if not _asks():
        raise InvalidRequest(
            "The file needs a database: name it, for example pgstow config init service=shop --to s3://bucket/prefix."
        )
    conninfo = typer.prompt("The database, such as service=shop or host=db1 dbname=shop, without a password", err=True)
    return conninfo, all_databases or typer.confirm("Back up all databases and the roles of the server?", err=True)


def _which_stores(urls: list[str]) -> list[str]:
    """Return the stores' URLs. At a terminal, ask. Raise InvalidRequest if nobody can answer."""
    from pipeline.errors import InvalidRequest

    if named := urls or [url for url in [os.environ.get(options.STORE_VARIABLE)] if url]:
        return named
    if not _asks():
        raise InvalidRequest(
            f"The backups need a store: give --to URL, or set {options.STORE_VARIABLE} in the environment."
        )
    return [typer.prompt("The store: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or a folder", err=True)]


def _with_usual(choices: "Choices", job: "Job") -> "Choices":
    """Return the choices. Add the usual verification and retention if no others are chosen and the credentials suffice."""
    from pipeline.nightly.new_file import USUAL_RETENTION, USUAL_VERIFICATION

    reads, deletes = _find_rights(job)
    if choices.verify is None and reads:
        choices = replace(choices, verify=USUAL_VERIFICATION)
    rules = ", ".join(f"{rule} = {number}" for rule, number in USUAL_RETENTION.items())
    question = f"The credentials can delete. Should each run remove the backups that no rule keeps ({rules})?"
    if deletes and not choices.keep and _asks() and typer.confirm(question, err=True):
        choices = replace(choices, keep=USUAL_RETENTION)
    return choices


def _asks() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _compose(path: Path, choices: "Choices") -> "tuple[Job, str]":
    """Return the job that the file will list, and the text of the file. Raise InvalidRequest if a choice is invalid."""
    from pipeline.errors import InvalidRequest
    from pipeline.nightly.config_file import ConfigFile
    from pipeline.nightly.jobs import make_jobs
    from pipeline.nightly.new_file import compose

    text = compose(choices)
    if not is_utf8(text):
        raise InvalidRequest("A name is not UTF-8, but all text in the file must be UTF-8.")
    file = ConfigFile(path, text)
    [job] = make_jobs(file, file.parse(os.environ), (), {})
    return job, text


def _name(conninfo: str, *, all_databases: bool) -> str:
    from pipeline.postgres.conninfo import Conninfo

    return "server" if all_databases else Conninfo.parse(conninfo).database or "database"


def _destinations(urls: list[str]) -> dict[str, str]:
    """Return the URLs by their names in the file. A folder's path becomes absolute. Raise InvalidStorageURL."""
    from storage_backends import is_folder

    named = dict[str, str]()
    for url in urls:
        folder = is_folder(url)
        name = "folder" if folder else url.partition(":")[0]
        number = 1 + sum(other.partition("-")[0] == name for other in named)
        named[name if number == 1 else f"{name}-{number}"] = (
            str(Path(url).absolute()) if folder and "://" not in url else url
        )
    return named


def _find_rights(job: "Job") -> tuple[bool, bool]:
    """Return True if the credentials can read at all destinations, and True if they can delete at all destinations."""
    from pipeline.backup.source import default_cluster
    from pipeline.check.store import find_rights
    from pipeline.postgres.server import Server
    from storage_backends import open_backend

    with Server(job.request.source) as server:
        cluster = job.request.cluster or default_cluster(server)
    rights = list[tuple[bool, bool]]()
    for destination in job.destinations.values():
        with closing(open_backend(destination.url, give_up_after=PATIENCE)) as store:
            rights.append(find_rights(store, cluster))
    reads, deletes = zip(*rights, strict=True)
    return all(reads), all(deletes)
