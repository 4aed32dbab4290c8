"""The findings of ``pgstow check``."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How serious a finding is, from the least to the most serious."""

    OK = "ok"
    NOTE = "note"
    """The finding is information; the user needn't do anything."""
    WARNING = "warning"
    """Backups succeed, but something endangers them or a restore."""
    PROBLEM = "problem"
    """A backup would fail, or would not keep pgstow's promises."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination."""

    subject: str
    """The subject in a word or two. The words never change, so that users can filter findings by subject."""
    outcome: Severity
    sentence: str
    """The finding in a sentence."""
    remedy: str | None = None
    """The remedy in a sentence; None if there is nothing to do."""
    sql: tuple[str, ...] = ()
    """SQL statements that carry out the remedy. They may need more rights than the checked role has."""


def some(names: Sequence[str], count: int | None = None, *, most: int = 20) -> str:
    """Return up to ``most`` of the names as text, and the number of other names. ``count`` is the number of all names, if not all are given."""
    rest = (len(names) if count is None else count) - len(names[:most])
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest else "")


def said(error: Exception) -> str:
    """Return an error's sentence, with a full stop at its end."""
    text = str(error)
    return text if text.endswith((".", "?", "!")) else f"{text}."
