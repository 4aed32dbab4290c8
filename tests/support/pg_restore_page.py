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
    """Why pgstow refuses the option; None if pgstow has it."""
    since: int
    """The first major version of pg_restore that has the option; 0 for versions before 15."""


OPTIONS = [
    PageOption(
        spellings=tuple(re.findall("`(-[^`]+)`", names)),
        refusal=refusal[1] if (refusal := re.search("[Rr]efused: (.*)$", text)) else None,
        since=int(since or 0),
    )
    for names, text, since in re.findall(r"^\| (`-.*?`) \| (.*?) \| (\d*) ?\|$", PAGE.read_text("utf-8"), re.MULTILINE)
]
