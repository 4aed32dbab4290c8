"""The command line: ``pgstow COMMAND``. A command imports the pipeline only when it runs, so that the help appears at once."""

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
_BACK_UP = "Back up"
_RESTORE = "Look, verify and restore"
_REMOVE = "Remove and hold"
_NIGHTLY = "Back up every night"

app = Commands(
    name="pgstow",
    help="Back up PostgreSQL databases to S3, Google Cloud Storage or a folder, and restore them.\n\n"
    "pgstow COMMAND --help explains a command, and ends with examples.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(
    "check",
    rich_help_panel=_BACK_UP,
    examples=[
        f"pgstow check service=shop --to {_STORE}",
        "pgstow check 'host=db1 user=backup dbname=shop' --to /mnt/backups/postgres",
    ],
)(check)
app.command(
    "backup",
    rich_help_panel=_BACK_UP,
    examples=[
        f"pgstow backup service=shop --to {_STORE}",
        f"pgstow backup service=shop --to {_STORE} -n sales -T sales.audit",
        "pgstow backup service=shop --all-databases --to /mnt/backups/postgres",
    ],
)(backup)
app.command(
    "list",
    rich_help_panel=_RESTORE,
    examples=[f"pgstow list --from {_STORE}", f"pgstow list --from {_STORE} --database shop --json"],
)(list_)
app.command(
    "show",
    rich_help_panel=_RESTORE,
    examples=[
        f"pgstow show latest --from {_STORE} --database shop",
        f"pgstow show --from {_STORE} --database shop --toc",
    ],
)(show)
app.command(
    "verify",
    rich_help_panel=_RESTORE,
    examples=[
        f"pgstow verify --from {_STORE} --database shop",
        f"pgstow verify --from {_STORE} --latest-of-each --level restore",
    ],
)(verify)
app.command(
    "restore",
    rich_help_panel=_RESTORE,
    examples=[
        f"pgstow restore --from {_STORE} --database shop --into shop_new -C",
        f"pgstow restore --from {_STORE} --database shop --into shop -t orders",
    ],
)(restore)
app.command(
    "export",
    rich_help_panel=_RESTORE,
    examples=[
        f"pgstow export --from {_STORE} --database shop -f shop.sql",
        f"pgstow export --from {_STORE} --database shop | psql service=new",
    ],
)(export)
app.command(
    "prune",
    rich_help_panel=_REMOVE,
    examples=[
        f"pgstow prune --from {_STORE} --keep-daily 14 --dry-run",
        f"pgstow prune --from {_STORE} --keep-daily 14 --keep-monthly 12 -y",
    ],
)(prune)
app.command(
    "gc",
    rich_help_panel=_REMOVE,
    examples=[f"pgstow gc --from {_STORE} --dry-run", f"pgstow gc --from {_STORE} --grace 3d -y"],
)(gc)
app.add_typer(hold, name="hold", rich_help_panel=_REMOVE)
app.command(
    "run",
    rich_help_panel=_NIGHTLY,
    examples=["pgstow run", "pgstow run shop --destination nas --jobs 2"],
)(run)
app.add_typer(config.app, name="config", rich_help_panel=_NIGHTLY)
app.add_typer(schedule.app, name="schedule", rich_help_panel=_NIGHTLY)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as distribution_version

        print(f"pgstow {distribution_version('pgstow')}")
        raise typer.Exit


@app.callback()
def options(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="After an error, also print Python's traceback")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Options that stand before the command. :func:`main` reads ``--debug`` itself."""


def main() -> None:
    """Run the command line. Exit with a code of docs/exit-codes.md."""
    _use_utf8()
    stdio.take_over()
    with errors.reported(debug="--debug" in sys.argv[1:]):
        app()


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode (PEP 540), unless it already uses UTF-8. The output keeps the locale's encoding.

    PostgreSQL's programs take names in UTF-8, but without the mode Python would pass arguments in the locale's encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.environ.setdefault("PYTHONIOENCODING", locale.getencoding())
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
