"""Sizes, times and results in words, and JSON."""

import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.counting import counted
from pipeline.words import SYMBOLS
from pipeline.words import format_duration as format_duration
from pipeline.words import format_size as format_size
from pipeline.words import one_line as one_line

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.catalog.attestation import Attestation
    from pipeline.prune.deletion import Deleted

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in SYMBOLS if code > 0x7E}
"""JSON's escapes for control characters above ASCII. The encoder itself escapes the others."""
_LONGEST_SENTENCE = 1500  # characters
_ANY_WIDTH = 10**6  # characters


def format_age(moment: datetime) -> str:
    """Return how long ago a moment was, in words such as ``3 hours ago``."""
    age = datetime.now(UTC) - moment
    for unit, span in (("day", timedelta(days=1)), ("hour", timedelta(hours=1)), ("minute", timedelta(minutes=1))):
        if count := age // span:
            return f"{counted(count, unit)} ago"
    return "just now"


def local_time(moment: datetime) -> datetime:
    """Return the moment in this machine's time zone, or in UTC if the year would be 0 or 10000 in the zone."""
    try:
        return moment.astimezone()
    except OverflowError:
        return moment


def literal(text: str) -> str:
    """Return text on one line, escaped for rich's markup."""
    from rich.markup import escape

    return escape(one_line(text))


def one_sentence(text: str) -> str:
    """Return text on one line, cut off after 1,500 characters: a server's error may quote a whole query."""
    if len(text) > _LONGEST_SENTENCE:
        text = (
            f"{text[:_LONGEST_SENTENCE]} … ({len(text) - _LONGEST_SENTENCE:,} more characters; --debug shows them all)"
        )
    return one_line(text)


def describe_attestation(attestation: "Attestation | None") -> str:
    """Return the result of a backup's latest verification in words; ``never`` for None."""
    if attestation is None:
        return "never"
    words = f"{local_time(attestation.finished_at):%Y-%m-%d} {attestation.level}"
    if attestation.good:
        return words
    if not attestation.unproven:
        return f"{words}: failed"
    return f"{words}: {'could not be read' if attestation.unreadable else 'was overwritten'}"


def describe_removal(removed: "Deleted") -> str:
    """Return in words how many objects were removed or only hidden, and how many stay because of a lock or an odd name."""
    words = (
        f"{counted(removed.objects, 'object')} ({format_size(removed.size)}) {'is' if removed.objects == 1 else 'are'} "
    )
    words += (
        "hidden, not gone: the bucket keeps their versions until its lifecycle rules remove them"
        if removed.hidden
        else "gone"
    )
    if removed.odd:
        words += f"; {_staying(len(removed.odd))} because of names that pgstow never gives, such as {one_line(removed.odd[0])}"
    if not removed.locked:
        return words
    moments = [moment for moment in removed.locked.values() if moment]
    until = f" until {max(moments):%Y-%m-%d %H:%M}Z at the latest" if moments else ""
    holds = len(removed.locked) - len(moments)
    held = f", {holds:,} by a legal hold" if until and holds else " by a legal hold" if holds else ""
    return f"{words}; {_staying(len(removed.locked))}, locked{until}{held}"


def _staying(objects: int) -> str:
    return f"{counted(objects, 'object')} {'stays' if objects == 1 else 'stay'}"


def removal_document(removed: "Deleted") -> dict[str, Any]:
    """Return the removed and the remaining objects in JSON's types."""
    locked = [
        {"key": key, "until": until and f"{until:%Y-%m-%dT%H:%M:%SZ}"} for key, until in sorted(removed.locked.items())
    ]
    return {
        "objects": removed.objects,
        "size": removed.size,
        "hidden": removed.hidden,
        "locked": locked,
        "odd": removed.odd,
    }


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    print(_indented(document))


def print_json_list(items: Iterable[Any]) -> None:
    """Print the items as one JSON list on standard output. The list isn't in memory as a whole."""
    before = "[\n  "
    for item in items:
        sys.stdout.write(before + _indented(item).replace("\n", "\n  "))
        before = ",\n  "
    print("[]" if before.startswith("[") else "\n]")


def _indented(document: Any) -> str:
    # Imported here, since most commands print no JSON. Python's own encoder takes many times longer if it indents.
    import msgspec

    try:
        return msgspec.json.format(json_line(document, sys.stdout.encoding), indent=2)
    except msgspec.DecodeError:  # a path whose bytes aren't UTF-8 has halves of characters, which msgspec doesn't take
        return _json(document, sys.stdout.encoding, indent=2)


def json_line(document: Any, encoding: str) -> str:
    """Return a JSON document on one line.

    The characters that ``encoding`` may lack, and the characters that control a terminal, are escaped.
    """
    return _json(document, encoding)


def _json(document: Any, encoding: str, *, indent: int | None = None) -> str:
    is_ascii = encoding.lower() != "utf-8"
    return json.dumps(document, ensure_ascii=is_ascii, indent=indent, default=str).translate(_JSON_ESCAPES)


def console() -> "Console":
    """Return rich's console for standard output. It is as wide as the terminal. Without a terminal, it breaks no lines."""
    from rich.console import Console

    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_ANY_WIDTH)
