"""What an examination says."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters, from least to most."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing to do."""
    WARNING = "warning"
    """Backups succeed, but something puts them, or what they are for, at risk."""
    PROBLEM = "problem"
    """A backup would fail, or would not be what pgstow promises."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined."""

    subject: str
    """What it is about, in a word or two that stay the same: for whoever filters findings."""
    outcome: Severity
    sentence: str
    remedy: str | None = None
    """What to do about it: a sentence."""
    sql: tuple[str, ...] = ()
    """The statements that do it, for somebody who may run them."""


def some(names: Sequence[str], count: int | None = None, *, most: int = 20) -> str:
    """Up to ``most`` of the names, and how many more there are of ``count``."""
    rest = (len(names) if count is None else count) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest else "")


def counted(count: int, noun: str) -> str:
    """``1 table`` or ``3 tables``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def said(error: Exception) -> str:
    """An error's sentence, with the full stop that some lack."""
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."
