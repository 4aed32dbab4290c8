"""Reads a file of filters for ``pg_dump --filter``, and turns the filters into options.

So pgstow knows what the filters select, and they work with every version of pg_dump.
The format is PostgreSQL's: https://www.postgresql.org/docs/current/app-pgdump.html, ``filter_read_item`` in filter.c.
"""

import re
from pathlib import Path

from pipeline.errors import InvalidRequest
from pipeline.pg_dump_options import OF_FILTERS, SUPPORTED, GivenOption, refusal

_MOST = 1024 * 1024  # characters of a file
_OPTIONS = {option.name: option for option in SUPPORTED} | OF_FILTERS
_NAMES = {
    "include extension": "--extension",
    "include foreign_data": "--include-foreign-data",
    "include schema": "--schema",
    "include table": "--table",
    "include table_and_children": "--table-and-children",
    "exclude extension": "--exclude-extension",
    "exclude schema": "--exclude-schema",
    "exclude table": "--exclude-table",
    "exclude table_and_children": "--exclude-table-and-children",
    "exclude table_data": "--exclude-table-data",
    "exclude table_data_and_children": "--exclude-table-data-and-children",
}
"""The options by the two words at the beginning of a filter (``read_dump_filters`` in pg_dump.c)."""
_FILTER = re.compile(
    r"""\s*(?:(?P<words>(?i:include|exclude)\s+\w+)[^\S\n]+(?P<pattern>(?:[^"#\n]|"(?:[^"\\]|\\.)*")+))?(?:\#[^\n]*)?(?:\n|\Z)""",
    re.DOTALL,
)
"""A line with a filter, a comment or both, or empty lines. A quoted name may span several lines."""
_PIECE = re.compile(r'"(?:[^"\\]|""|\\.)*"|[,.()]|[^\s,.()"]+', re.DOTALL)


def read_filters(path: Path) -> list[GivenOption]:
    """Return the options that mean the same as the filters in the file. Raises InvalidRequest if pg_dump would refuse the file."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MOST + 1)
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8"
        raise InvalidRequest(f"The file of filters {path} can't be read: {reason}.") from exc
    if len(text) > _MOST or "\0" in text:
        raise InvalidRequest(
            f"{path} is not a file of filters: it has a NUL character, or more than {_MOST:,} characters."
        )
    return parse_filters(text, str(path))


def parse_filters(text: str, name: str) -> list[GivenOption]:
    """Return the options that mean the same as the filters in the text. ``name`` is the file's name, for errors. Raises InvalidRequest."""
    found, at = [], 0
    while at < len(text):
        match = _FILTER.match(text, at)
        words = " ".join(match["words"].lower().split()) if match and match["words"] else ""
        if match is None or (words and words not in _NAMES):
            line = text.count("\n", 0, at) + 1
            raise InvalidRequest(
                f"Line {line} of {name} is not a filter of pg_dump: write include or exclude, the kind of an object, and a pattern."
            )
        at = match.end()
        if words:
            option = _OPTIONS.get(_NAMES[words])
            if option is None:
                raise InvalidRequest(f"{name} has {words!r}. {refusal(_NAMES[words])}")
            found.append(GivenOption(option, _pattern(match["pattern"])))
    return found


def _pattern(text: str) -> str:
    """Return the pattern with white space as ``read_pattern`` (filter.c) leaves it: a space between words and after commas."""
    pattern, last = "", 0
    for piece in _PIECE.finditer(text):
        spaced = pattern and piece.start() > last and piece[0] not in ",.()" and pattern[-1] not in " .()"
        pattern += (" " if spaced else "") + (", " if piece[0] == "," else _unescaped(piece[0]))
        last = piece.end()
    return pattern


def _unescaped(piece: str) -> str:
    r"""Return a piece of a pattern without escapes: in a quoted name, ``\n`` stands for a newline and ``\\`` for a backslash."""
    return (
        re.sub(r"(?s)\\(.)", lambda match: {"n": "\n", "\\": "\\"}.get(match[1], ""), piece)
        if piece[0] == '"'
        else piece
    )
