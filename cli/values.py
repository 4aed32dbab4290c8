"""Parse the values of options, so that typer can refuse a bad one."""

import math
import re
from datetime import datetime

import typer

from pipeline import config


def parse_size(text: str | int) -> int:
    """Return the bytes in a text such as ``256MiB``; see :func:`pipeline.config.parse_size`. Raise typer.BadParameter."""
    try:
        return config.parse_size(str(text))
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def parse_rate(text: str | int) -> int:
    """Return the bytes a second in a text such as ``10MiB``. Raise typer.BadParameter, also for 0."""
    if (rate := parse_size(text)) == 0:
        raise typer.BadParameter("a rate of 0 would move nothing; leave the option out for no limit")
    return rate


def parse_split_tables(text: str | int) -> config.SplitTables:
    """Return ``auto``, ``never`` or a number of bytes. Raise typer.BadParameter for any other text."""
    try:
        return config.parse_split_tables(str(text))
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def parse_moment(text: str) -> datetime:
    """Return the time in a text; see :func:`storage_backends.moments.parse_moment`. Raise typer.BadParameter."""
    from storage_backends.moments import parse_moment as parse

    try:
        return parse(text)
    except ValueError as exc:
        raise typer.BadParameter(f"{text!r} is not a time; write 2026-11-23T02:00 or 2026-11-23T02:00:00Z") from exc


def parse_patience(text: str | float) -> float:
    """Return the seconds for which to retry a request, from 0 to :data:`config.LONGEST_PATIENCE`. Raise typer.BadParameter."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= config.LONGEST_PATIENCE:
        raise typer.BadParameter(f"{text!r} is not a number of seconds from 0 to {config.LONGEST_PATIENCE}")
    return seconds


def parse_sha256(text: str) -> str:
    """Return the SHA-256 in lower case. Raise typer.BadParameter unless the text has 64 hexadecimal digits."""
    if not re.fullmatch("[0-9a-f]{64}", digest := text.strip().lower()):
        raise typer.BadParameter(f"{text!r} is not a SHA-256; write all 64 hexadecimal digits")
    return digest


def parse_level(text: str | int) -> config.Level:
    """Return the compression level in a text such as ``3`` or ``auto``. Raise typer.BadParameter."""
    try:
        return config.parse_level(str(text))
    except ValueError as exc:
        raise typer.BadParameter(str(exc)) from exc


def parse_format(text: str) -> str:
    """Return the name of pg_dump's format. The text is the name or its first letter, as for ``pg_dump --format``.

    Raise typer.BadParameter.
    """
    for name in ("directory", "custom", "tar", "plain"):
        if text in {name, name[0]}:
            return name
    raise typer.BadParameter(f"{text!r} is not a format of pg_dump; write directory, custom, tar or plain")
