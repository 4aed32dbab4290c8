"""``pgstow config``: write or check pgstow.toml, or print its JSON Schema."""

import os
import socket
from typing import Annotated

import typer

from cli import display, options, run_options, trust_options
from cli.command import Commands
from cli.config_init import init
from cli.errors import ExitCode, print_error
from cli.job_check import examine_job

app = Commands(name="config", help="Write or check pgstow.toml, or print its JSON Schema.", no_args_is_help=True)
app.command(
    "init",
    examples=[
        "pgstow config init service=shop --to s3://bucket/prefix",
        "pgstow config init 'host=db1 user=backup' --all-databases --to /mnt/backups",
    ],
)(init)


@app.command("check", examples=["pgstow config check --connect", "pgstow config check --notify"])
def check(
    *,
    config: run_options.Config = None,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Also examine each database and its destinations, as pgstow check does"),
    ] = False,
    notify: Annotated[
        bool, typer.Option("--notify", help="Send a test message to each recipient in monitoring.notify")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Check pgstow.toml, and print each error with its line."""
    from pipeline.errors import InvalidRequest
    from pipeline.nightly.config_file import ConfigFile
    from pipeline.nightly.jobs import make_jobs, unused_retentions
    from pipeline.nightly.notify import examine, send_test

    file = ConfigFile(run_options.find_config(config))
    settings = file.parse(os.environ)
    jobs = make_jobs(file, settings, (), {}, None, *trust_options.open_keys(settings))
    if settings.monitoring.ping == "":
        raise InvalidRequest(
            f"[monitoring] of {file.path} takes the URL of its ping from an environment variable, which is not set: set it."
        )
    if troubles := [trouble for recipient in settings.monitoring.notify if (trouble := examine(recipient))]:
        raise InvalidRequest(" ".join(troubles))
    for name in unused_retentions(settings):
        print_error(f"No database in {file.path} uses [retention.{name}].")
    print(f"{file.path} is valid. It lists {', '.join(job.name for job in jobs)}.")
    ready = list[bool]()
    if notify:
        monitoring = settings.monitoring
        if not monitoring.notify:
            raise InvalidRequest(f"[monitoring] of {file.path} has no notify: add a recipient, or leave out --notify.")
        for recipient in monitoring.notify:
            trouble = send_test(recipient, socket.gethostname(), monitoring.hook_timeout)
            print(trouble or f"Sent a message to the URL in {recipient.name}.", flush=True)
            ready.append(trouble is None)
    if connect:
        ready += [examine_job(job, name, quiet=quiet) for job in jobs for name in job.destinations]
    if not all(ready):
        raise typer.Exit(ExitCode.CHECK)


@app.command("schema", examples=["pgstow config schema > pgstow.schema.json"])
def schema() -> None:
    """Print the JSON Schema of pgstow.toml, for editors."""
    from pipeline.nightly.settings import config_schema

    display.print_json(config_schema())
