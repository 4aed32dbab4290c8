"""Options on how long to keep backups, and on removing them."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

import typer

from cli.options import STORE, parse_moment
from pipeline import config

Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="NAME", help="A name for prune --keep-tag; may be given again", rich_help_panel=STORE
    ),
]
RetainDays: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="DAYS",
        min=1,
        max=36500,
        help="Have the store lock every object for so many days",
        rich_help_panel=STORE,
    ),
]
RetainUntil: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME",
        parser=parse_moment,
        help="Have the store lock every object until then",
        rich_help_panel=STORE,
    ),
]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Remove without asking")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing")]


def parse_duration(text: str | timedelta) -> timedelta:
    """Return the duration in a text such as ``30d``; see :func:`pipeline.config.parse_duration`. Raises typer.BadParameter."""
    if isinstance(text, timedelta):
        return text
    try:
        return config.parse_duration(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def lock_options(days: int | None, until: datetime | None) -> list[str]:
    """Return the options of a store that locks each object ``until`` a time, or for so many ``days`` from now.

    Return no options if neither is given. Raises InvalidRequest if both are given.
    """
    from pipeline.errors import InvalidRequest

    if days is not None and until is not None:
        raise InvalidRequest("Say either --retain-days or --retain-until.")
    if days is not None:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    return [] if until is None else [f"retain_until={until.isoformat()}"]


def is_confirmed(question: str, *, yes: bool, dry_run: bool, json: bool) -> bool:
    """True if something is to be removed: by ``--yes``, or by a person's answer at the terminal. Without a terminal, the answer is no."""
    if yes and not dry_run:
        return True
    if not dry_run and not json and sys.stdin.isatty() and sys.stderr.isatty():
        try:
            if typer.confirm(question, default=False, err=True):
                return True
        except typer.Abort:  # Ctrl-D, which ends no line
            print(file=sys.stderr)
        print("Nothing was removed.", file=sys.stderr)
        return False
    why = "a dry run" if dry_run else "a dry run, since nobody is asked here: give --yes to remove it"
    print(f"Nothing was removed: this was {why}.", file=sys.stderr)
    return False
