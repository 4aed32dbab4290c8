"""The findings of ``pgstow check``."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters, from least to most."""

    OK = "ok"
    NOTE = "note"
    """The finding is worth knowing, but nothing has to be done."""
    WARNING = "warning"
    """Backups succeed, but something puts them or a restore at risk."""
    PROBLEM = "problem"
    """A backup would fail, or would not keep pgstow's promises."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination."""

    subject: str
    """The subject in a word or two. The words never change, so that findings can be filtered by them."""
    outcome: Severity
    sentence: str
    """What was found."""
    remedy: str | None = None
    """What to do about the finding, in a sentence; None if there is nothing to do."""
    sql: tuple[str, ...] = ()
    """SQL statements that carry out the remedy, for somebody who may run them."""


def some(names: Sequence[str], count: int | None = None, *, most: int = 20) -> str:
    """Return up to ``most`` of the names as text, with the number of others. ``count`` is how many names there are; None for ``len(names)``."""
    rest = (len(names) if count is None else count) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest else "")


def said(error: Exception) -> str:
    """Return an error's sentence. Add a full stop if it has none."""
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."
