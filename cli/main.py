"""The command line: ``pgstow COMMAND``. A command imports the pipeline only when it runs, so that help comes at once."""

import locale
import os
import sys
from typing import Annotated

import typer

from cli import config, errors, schedule, stdio
from cli.backup import backup
from cli.check import check
from cli.command import Commands
from cli.export import export
from cli.gc import gc
from cli.hold import app as hold
from cli.list import list_
from cli.prune import prune
from cli.restore import restore
from cli.run import run
from cli.show import show
from cli.verify import verify

_STORE = "s3://bucket/prefix"

app = Commands(
    name="pgstow",
    help="Stows PostgreSQL databases offsite, and brings them back.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("check", examples=[f"pgstow check service=shop --to {_STORE}"])(check)
app.command(
    "backup",
    examples=[
        f"pgstow backup service=shop --to {_STORE}",
        f"pgstow backup service=shop --to {_STORE} -n sales -T sales.audit",
        "pgstow backup service=shop --all-databases --to /mnt/backups/postgres",
    ],
)(backup)
app.command("run", examples=["pgstow run", "pgstow run shop --destination nas --jobs 2"])(run)
app.command(
    "restore",
    examples=[
        f"pgstow restore --from {_STORE} --database shop --into shop_new -C",
        f"pgstow restore --from {_STORE} --database shop --into shop -t orders",
    ],
)(restore)
app.command("export", examples=[f"pgstow export --from {_STORE} --database shop -f shop.sql"])(export)
app.command("list", examples=[f"pgstow list --from {_STORE}"])(list_)
app.command(
    "show",
    examples=[
        f"pgstow show latest --from {_STORE} --database shop",
        f"pgstow show --from {_STORE} --database shop --toc",
    ],
)(show)
app.command(
    "verify",
    examples=[
        f"pgstow verify --from {_STORE} --database shop",
        f"pgstow verify --from {_STORE} --latest-of-each --level restore",
    ],
)(verify)
app.command(
    "prune",
    examples=[
        f"pgstow prune --from {_STORE} --keep-daily 14 --dry-run",
        f"pgstow prune --from {_STORE} --keep-daily 14 --keep-monthly 12 -y",
    ],
)(prune)
app.command("gc", examples=[f"pgstow gc --from {_STORE} --dry-run"])(gc)
app.add_typer(hold, name="hold")
app.add_typer(config.app, name="config")
app.add_typer(schedule.app, name="schedule")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as distribution_version

        print(f"pgstow {distribution_version('pgstow')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options before the command. ``main`` reads them itself."""


def main() -> None:
    """Run the command line, and exit with a documented exit code."""
    _use_utf8()
    stdio.take_over()
    with errors.reported(debug="--debug" in sys.argv[1:]):
        app()


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode (PEP 540), unless it uses UTF-8 already. Output stays in the locale's encoding.

    PostgreSQL's programs take names in UTF-8, and Python would give them arguments in the locale's encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.environ.setdefault("PYTHONIOENCODING", locale.getencoding())
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
