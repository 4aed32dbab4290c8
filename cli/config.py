"""``pgstow config``: check the configuration file, or print its JSON Schema."""

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from cli import display, options, run_options
from cli.check import print_findings, verdict
from cli.command import Commands
from cli.errors import ExitCode, print_error
from cli.progress import show_progress

if TYPE_CHECKING:
    from pipeline.nightly.jobs import Job

_PATIENCE = 20.0  # seconds to retry a request to a store, as in pgstow check

app = Commands(help="Check the configuration file, or print its JSON Schema.", no_args_is_help=True)


@app.command("check", examples=["pgstow config check --connect", "pgstow config check --notify"])
def check(
    *,
    config: run_options.Config = None,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Examine each database and each of its destinations too, as pgstow check does"),
    ] = False,
    notify: Annotated[
        bool, typer.Option("--notify", help="Send a message to all that are told of a run that fails")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Say all that is wrong in the file, each with its line."""
    from pipeline.errors import InvalidRequest
    from pipeline.nightly.config_file import ConfigFile
    from pipeline.nightly.jobs import make_jobs
    from pipeline.nightly.notify import examine, send_test

    file = ConfigFile(run_options.find_config(config))
    settings = file.parse(os.environ)
    jobs = make_jobs(file, settings, (), {})
    if settings.monitoring.ping == "":
        raise InvalidRequest(f"The environment lacks the variable that [monitoring] of {file.path} names for its ping.")
    if troubles := [trouble for recipient in settings.monitoring.notify if (trouble := examine(recipient))]:
        raise InvalidRequest(" ".join(troubles))
    print(f"{file.path} is good: it lists {', '.join(job.name for job in jobs)}.")
    ready = list[bool]()
    if notify:
        monitoring = settings.monitoring
        if not monitoring.notify:
            raise InvalidRequest(f"[monitoring] of {file.path} has no notify.")
        for recipient in monitoring.notify:
            trouble = send_test(recipient, socket.gethostname(), monitoring.hook_timeout)
            print(trouble or f"A message was sent to the URL in {recipient.name}.", flush=True)
            ready.append(trouble is None)
    if connect:
        ready += [_examine(job, name, quiet=quiet) for job in jobs for name in job.destinations]
    if not all(ready):
        raise typer.Exit(ExitCode.CHECK)


def _examine(job: "Job", destination: str, *, quiet: bool) -> bool:
    """Print the findings of ``pgstow check`` for the job and the destination. Return True if there is no problem."""
    from pipeline.check.check import Place
    from pipeline.check.check import check as examine
    from pipeline.check.finding import Severity
    from pipeline.errors import PipelineError
    from storage_backends import StorageError, open_backend

    print(f"\n{display.one_line(f'{job.name} to {destination}')}", flush=True)
    try:
        url = job.destinations[destination].url
        store = open_backend(url, give_up_after=_PATIENCE)
        with closing(store), show_progress(quiet=quiet) as notify:
            findings = examine(job.request, store, notify, Place.of(url, {}, os.environ))
    except (PipelineError, StorageError) as exc:
        print_error(str(exc))
        return False
    print_findings(
        [finding for finding in findings if not quiet or finding.outcome in (Severity.WARNING, Severity.PROBLEM)]
    )
    print(verdict(findings))
    return all(finding.outcome is not Severity.PROBLEM for finding in findings)


@app.command("schema", examples=["pgstow config schema > pgstow.schema.json"])
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from pipeline.nightly.settings import config_schema

    display.print_json(config_schema())
