"""The command line: ``pgstow COMMAND``.

pgstow imports a command only when it is called, and the command imports the pipeline only when it runs. So each command starts at once.
"""

import functools
import gc
import importlib
import locale
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from typer.main import get_command

from cli import errors, stdio
from cli.command import Commands, Group

_BACK_UP = "Back up"
_RESTORE = "Look, verify and restore"
_REMOVE = "Remove and hold"
_SEAL = "Seal"
_NIGHTLY = "Back up every night"
_PANELS = {
    "check": _BACK_UP,
    "backup": _BACK_UP,
    "list": _RESTORE,
    "show": _RESTORE,
    "verify": _RESTORE,
    "chain": _RESTORE,
    "diff": _RESTORE,
    "find": _RESTORE,
    "stats": _RESTORE,
    "audit": _RESTORE,
    "restore": _RESTORE,
    "export": _RESTORE,
    "prune": _REMOVE,
    "gc": _REMOVE,
    "hold": _REMOVE,
    "keygen": _SEAL,
    "rewrap": _SEAL,
    "run": _NIGHTLY,
    "config": _NIGHTLY,
    "schedule": _NIGHTLY,
}
"""By command: the title above it in the help. A command's module in cli/ has the command's name, and defines the command as ``app``."""


class _Commands(Mapping[str, Any]):
    """The commands by name. A look-up imports the command's module."""

    def __getitem__(self, name: str) -> Any:
        return _import_command(name, panel=_PANELS[name])

    def __iter__(self) -> Iterator[str]:
        return iter(_PANELS)

    def __len__(self) -> int:
        return len(_PANELS)


@functools.cache
def _import_command(name: str, *, panel: str) -> Any:
    command: Any = get_command(importlib.import_module(f"cli.{name}").app)
    command.rich_help_panel = panel
    return command


class _Pgstow(Group):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"commands": _Commands()})


app = Commands(
    name="pgstow",
    cls=_Pgstow,
    help="Back up PostgreSQL databases to S3, Google Cloud Storage or a folder, and restore them.\n\n"
    "pgstow COMMAND --help explains a command, and ends with examples.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    try:
        with errors.reported(debug="--debug" in sys.argv[1:]):
            app()
    finally:
        gc.freeze()  # at its end, Python would search all objects for cycles, which takes long beside a small backup


def _use_utf8() -> None:
    """Start Python again in its UTF-8 mode (PEP 540), unless it already uses UTF-8. The output keeps the locale's encoding.

    PostgreSQL's programs take names in UTF-8, but without the mode Python would pass arguments in the locale's encoding.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.environ.setdefault("PYTHONIOENCODING", locale.getencoding())
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself
