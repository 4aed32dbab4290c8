"""Lists of an archive's entries. ``pg_restore --list`` prints a list, users edit it, and ``pg_restore --use-list`` reads it."""

import re
from collections.abc import Iterable

from pipeline.errors import InvalidRequest

_LONGEST_EXCERPT = 60


def format_list(dump_ids: Iterable[int]) -> str:
    """Return the text of a list of these entries, in this order."""
    return "".join(f"{dump_id};\n" for dump_id in dump_ids)


def parse_list(text: str) -> tuple[int, ...]:
    """Return the dump IDs in a list, in its order, each once. A semicolon begins a comment (``SortTocFromFile`` in pg_backup_archiver.c).

    Raises InvalidRequest if the list names no entry, or if a line doesn't begin with a dump ID. pg_restore would skip such a line with a
    warning.
    """
    dump_ids: dict[int, None] = {}
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.partition(";")[0].strip()
        if not entry:
            continue
        dump_id = re.match(r"[0-9]{1,10}(?![0-9])", entry)
        if dump_id is None:
            raise InvalidRequest(
                f"Line {number} of the list of entries doesn't begin with a dump ID: {line.strip()[:_LONGEST_EXCERPT]}."
            )
        dump_ids[int(dump_id[0])] = None
    if not dump_ids:
        raise InvalidRequest("The list of entries names no entry.")
    return tuple(dump_ids)
