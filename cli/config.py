"""``pgstow config``: what the configuration file says, and what it may say."""

import os
from contextlib import closing
from typing import Annotated

import typer

from cli import display, options
from cli.check import print_findings, verdict
from cli.errors import ExitCode

app = typer.Typer(help="Check the configuration file, or print its JSON Schema.", no_args_is_help=True)


@app.command("check")
def check(
    *,
    config: options.Config = None,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Examine each database and each of its destinations too, as pgstow check does"),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Say all that is wrong in the file, each with its line."""
    from pipeline.check import check as examine
    from pipeline.checks.finding import Outcome
    from pipeline.nightly.config_file import ConfigFile
    from pipeline.nightly.jobs import make_jobs
    from storage_backends import open_backend

    file = ConfigFile(options.find_config(config))
    settings = file.parse(os.environ)
    jobs = make_jobs(file, settings, (), {})
    print(f"{file.path} is good: it lists {', '.join(job.name for job in jobs)}.")
    ready = True
    for job in jobs if connect else ():
        for name, destination in job.destinations.items():
            store = open_backend(destination.url, give_up_after=20.0)
            with closing(store), display.progress(quiet=quiet) as notify:
                findings = examine(job.request, store, notify)
            ready = ready and all(finding.outcome is not Outcome.PROBLEM for finding in findings)
            print(f"\n{display.one_line(f'{job.name} to {name}')}")
            print_findings(
                [finding for finding in findings if not quiet or finding.outcome in (Outcome.WARNING, Outcome.PROBLEM)]
            )
            print(verdict(findings))
    if not ready:
        raise typer.Exit(ExitCode.CHECK)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the file, for editors."""
    from pipeline.nightly.settings import config_schema

    display.print_json(config_schema())
