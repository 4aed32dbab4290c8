"""The options of retention: tags, locks, and questions before a removal."""

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeAlias

import typer

from cli.options import STORE
from cli.values import parse_moment
from pipeline import config

Tags: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--tag",
        metavar="TAG",
        help="A tag of the backup, for pgstow prune --keep-tag; can be repeated",
        rich_help_panel=STORE,
    ),
]
RetainDays: TypeAlias = Annotated[
    int | None,
    typer.Option(
        metavar="DAYS",
        min=1,
        max=36500,
        help="The store locks every object for this number of days",
        rich_help_panel=STORE,
    ),
]
RetainUntil: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        metavar="TIME",
        parser=parse_moment,
        help="The store locks every object until this time, such as 2026-12-31 or 2026-12-31T00:00:00Z",
        rich_help_panel=STORE,
    ),
]
Yes: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--yes", "-y", help="Remove without asking. Without --yes and without a terminal, pgstow removes nothing"
    ),
]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Print what would be removed, and remove nothing")]


def parse_duration(text: str | timedelta) -> timedelta:
    """Return the duration in a text such as ``30d``; see :func:`pipeline.config.parse_duration`. Raise typer.BadParameter."""
    if isinstance(text, timedelta):
        return text
    try:
        return config.parse_duration(text)
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def lock_options(days: int | None, until: datetime | None) -> list[str]:
    """Return the options of a store that locks each object ``until`` a time, or for a number of ``days`` from now.

    Return no options if neither is given. Raise InvalidRequest if both are given.
    """
    from pipeline.errors import InvalidRequest

    if days is not None and until is not None:
        raise InvalidRequest("--retain-days and --retain-until exclude each other: leave one out.")
    if days is not None:
        until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    return [] if until is None else [f"retain_until={until.isoformat()}"]


def is_confirmed(question: str, *, yes: bool, dry_run: bool, json: bool) -> bool:
    """True if ``--yes`` or a person at the terminal agrees to the removal. False in a dry run.

    Without ``--yes``, also False with ``json`` or without a terminal, since pgstow then asks nobody.
    """
    if yes and not dry_run:
        return True
    if not dry_run and not json and sys.stdin.isatty() and sys.stderr.isatty():
        try:
            if typer.confirm(question, default=False, err=True):
                return True
        except typer.Abort:  # Ctrl-D, which leaves the cursor in the line of the question
            print(file=sys.stderr)
        print("Nothing was removed.", file=sys.stderr)
        return False
    why = (
        "this was a dry run"
        if dry_run
        else "this was a dry run, because pgstow asks only at a terminal, without --json. To remove what is listed, give --yes"
    )
    print(f"Nothing was removed: {why}.", file=sys.stderr)
    return False
