"""The options in docs/pg_restore-options.md."""

import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "pg_restore-options.md"


@dataclass(frozen=True)
class PageOption:
    """A row of one of the page's tables."""

    spellings: tuple[str, ...]
    """As in ``pg_restore --help``: at most one short spelling, then the long one."""
    refusal: str | None
    """Why pgstow refuses the option, as in its error; None if pgstow has the option."""
    since: int
    """The first major version of pg_restore that has the option; 0 for versions before 15."""


def _options(text: str, *, refused: bool) -> list[PageOption]:
    return [
        PageOption(
            spellings=tuple(re.findall("`(-[^`]+)`", names)),
            refusal=_as_clause(words) if refused else None,
            since=int(since or 0),
        )
        for names, words, since in re.findall(r"^\| (`-.*?`) \| (.*?) \| (\d*) ?\|$", text, re.MULTILINE)
    ]


def _as_clause(sentence: str) -> str:
    """Return a reason of the page as it follows a colon in pgstow's error: with a small first letter, and without backquotes."""
    return (sentence[0].lower() + sentence[1:]).replace("`", "")


_TAKEN, _, _REFUSED = PAGE.read_text("utf-8").partition("## Options that pgstow refuses")
OPTIONS = _options(_TAKEN, refused=False) + _options(_REFUSED, refused=True)
