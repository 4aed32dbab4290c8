"""``pgstow run``."""

import os
import random
import socket
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli import display, logs, options, run_options, trust_options
from cli.command import Commands
from cli.errors import UNFINISHED_BACKUP, ExitCode, Stopped, exit_code_of, if_stopped, result_of
from cli.tables import Column, print_table
from cli.values import parse_size
from pipeline import config as pipeline_config

if TYPE_CHECKING:
    from pipeline.nightly.jobs import Job
    from pipeline.nightly.outcome import JobResult

OVER = "Instead of the settings in pgstow.toml"


app = Commands()


@app.command(
    "run",
    examples=["pgstow run", "pgstow run shop --destination nas --jobs 2"],
)
def run(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="The databases to back up, by their names in pgstow.toml. Default: all"),
    ] = None,
    *,
    config: run_options.Config = None,
    spread: Annotated[
        int,
        typer.Option(
            metavar="SPAN",
            parser=run_options.parse_span,
            help="First wait a random time of at most SPAN, such as 30m, so that not all hosts start at once",
            show_default=False,
        ),
    ] = 0,
    log_format: Annotated[
        Literal["text", "json"],
        typer.Option(
            metavar="text|json",
            envvar="PGSTOW_LOG_FORMAT",
            help="The log on standard error: text for people, or one JSON object a line",
        ),
    ] = "text",
    json: options.Json = False,
    quiet: options.Quiet = False,
    destination: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Back up only to this destination; can be repeated", rich_help_panel=OVER),
    ] = None,
    verify: Annotated[
        Literal["objects", "bytes", "archive", "restore", "none"] | None,
        typer.Option(
            metavar="LEVEL",
            envvar="PGSTOW_VERIFY",
            help="How far to verify each backup: objects, bytes, archive, restore or none",
            rich_help_panel=OVER,
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            max=pipeline_config.MOST_AT_ONCE,
            envvar="PGSTOW_JOBS",
            help="The number of parallel jobs",
            rich_help_panel=OVER,
        ),
    ] = None,
    memory: Annotated[
        int | None,
        typer.Option(
            metavar="SIZE",
            parser=parse_size,
            envvar="PGSTOW_MEMORY",
            help="Memory for data on its way, such as 512MiB",
            rich_help_panel=OVER,
        ),
    ] = None,
    spool_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            file_okay=False,
            exists=True,
            envvar="PGSTOW_SPOOL_DIR",
            help="The folder for temporary files",
            rich_help_panel=OVER,
        ),
    ] = None,
) -> None:
    """Back up the databases in pgstow.toml, verify the backups, and remove old backups.

    pgstow.toml says how far to verify each backup, which backups to keep, and where to report the result.
    """
    overrides = {
        "destinations": destination or None,
        "verify": verify,
        "jobs": jobs,
        "memory": memory,
        "spool_dir": None if spool_dir is None else str(spool_dir),
    }
    debug = bool(context.find_root().params.get("debug"))
    with logs.logging(log_format, quiet=quiet or json, debug=debug) as log:
        document = _run(run_options.find_config(config), names or [], overrides, spread, log)
    with result_of(_describe(document["backups"])):
        if json:
            display.print_json(document)
        else:
            _print(document["backups"])
    raise typer.Exit(document["exit_code"])


def _run(path: Path, names: "Sequence[str]", overrides: dict[str, Any], spread: int, log: logs.Log) -> dict[str, Any]:
    """Do the run, and report it by metrics, hooks and ping. Return the results as a document.

    Raise InvalidRequest if the file or a name is wrong, BackupRunning if another run is under way, or the exception that stopped the run.
    """
    from pipeline.nightly.config_file import ConfigFile
    from pipeline.nightly.hooks import attempt, ping, tell
    from pipeline.nightly.jobs import listed_pairs, make_jobs
    from pipeline.nightly.message import write_message
    from pipeline.nightly.metrics import Pair, Past, read_past, write_textfile
    from pipeline.nightly.outcome import JobResult
    from pipeline.nightly.run import run as run_jobs

    file = ConfigFile(path)
    config = file.parse(os.environ)
    environment = file.without_secrets(os.environ)
    jobs = make_jobs(file, config, names, overrides, environment, *trust_options.open_keys(config))
    with file.sole_run(), if_stopped(UNFINISHED_BACKUP):
        time.sleep(random.uniform(0, spread))  # noqa: S311 - no secret
        started_at = datetime.now(UTC)
        outcomes, stopped = list[JobResult](), None
        whole = (
            not names and not overrides["destinations"]
        )  # a run of some databases, by hand, must not ping the dead man's switch
        if config.monitoring.ping == "":
            log.trouble(
                "The run sends no ping: the environment variable that [monitoring] names for its URL is not set."
            )
        elif whole and (url := config.monitoring.ping):
            log.trouble(attempt("The ping", partial(ping, url, "start"), log.failed))
        try:
            for outcome in run_jobs(jobs, log.notify_of, log.retrying):
                log.ended(outcome)
                outcomes.append(outcome)
        except BaseException as exc:
            stopped = exc
            outcomes += _undone(jobs, outcomes)
        past = dict[Pair, Past]()
        if textfile := config.monitoring.textfile:
            words = f"Reading the metrics in {textfile}"
            log.trouble(attempt(words, lambda: past.update(read_past(Path(textfile))), log.failed))
            write = partial(write_textfile, Path(textfile), outcomes, listed_pairs(config))
            log.trouble(attempt(f"Writing the metrics to {textfile}", write, log.failed))
        code = _exit_code(outcomes, stopped)
        document = {
            "config": str(path),
            "good": code == 0,
            "exit_code": code,
            "started_at": started_at.isoformat(),
            "finished_at": datetime.now(UTC).isoformat(),
            "backups": [outcome.describe() for outcome in outcomes],
        }
        for trouble in tell(
            config.monitoring,
            document,
            good=code == 0,
            ping_too=whole,
            message=write_message(outcomes, past, good=code == 0, host=socket.gethostname(), config=path.absolute()),
            environment=environment,
            failed=log.failed,
        ):
            log.trouble(trouble)
        if stopped is not None:
            raise stopped
    return document


def _undone(jobs: "Sequence[Job]", outcomes: "Sequence[JobResult]") -> "list[JobResult]":
    """Return a failure for each database and destination that a stopped run did not reach."""
    from pipeline.errors import PipelineError
    from pipeline.nightly.outcome import JobResult

    done = {(outcome.database, outcome.destination) for outcome in outcomes}
    error = PipelineError("The run stopped before this backup was complete.")
    return [
        JobResult(job.name, name, datetime.now(UTC), error=error)
        for job in jobs
        for name in job.destinations
        if (job.name, name) not in done
    ]


def _exit_code(outcomes: "Sequence[JobResult]", stopped: BaseException | None) -> int:
    """Return the exit code of the run. As in ``pgstow verify``, damage comes before all other failures."""
    if isinstance(stopped, Stopped):
        return 128 + stopped.number
    if isinstance(stopped, Exception):
        return exit_code_of(stopped)
    codes = {exit_code_of(outcome.error) for outcome in outcomes if outcome.error is not None}
    return ExitCode.DAMAGED if ExitCode.DAMAGED in codes else min(codes, default=ExitCode.OK)


def _describe(backups: "Sequence[dict[str, Any]]") -> str:
    made = [display.one_line(f"{one['database']} {one['backup_id']}") for one in backups if one["backup_id"]]
    bad = sum(not one["good"] for one in backups)
    return f"The run is done. Backups made: {', '.join(made) or 'none'}. Failures: {bad}."


def _print(backups: "Sequence[dict[str, Any]]") -> None:
    def cells(tell: "Callable[[dict[str, Any]], str]") -> list[str]:
        return ["" if one["backup_id"] is None else tell(one) for one in backups]

    columns = [
        Column("DATABASE", [display.literal(one["database"]) for one in backups]),
        Column("DESTINATION", [display.literal(one["destination"]) for one in backups]),
        Column("BACKUP", cells(lambda one: one["backup_id"])),
        Column("TABLES", cells(lambda one: f"{one['tables']:,}"), right=True, spare=2),
        Column("ROWS", cells(lambda one: f"{one['rows']:,}"), right=True, spare=3),
        Column("SIZE", cells(lambda one: display.format_size(one["dumped_bytes"])), right=True, spare=1),
        Column("STORED", cells(lambda one: display.format_size(one["stored_bytes"])), right=True, spare=4),
        Column("TOOK", cells(lambda one: display.format_duration(one["seconds"])), right=True, spare=5),
        Column("VERIFIED", cells(lambda one: one["verified"] or "no")),
        Column("PRUNED", cells(lambda one: "" if one["removed"] is None else f"{one['removed']:,}"), right=True),
        Column("", ["[green]good[/green]" if one["good"] else "[red]FAILED[/red]" for one in backups]),
    ]
    print_table(columns)
