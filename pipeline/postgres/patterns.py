"""Which entries of an archive a user means by a pattern, in pg_dump's and psql's spelling.

https://www.postgresql.org/docs/current/app-psql.html#APP-PSQL-PATTERNS: ``*`` and ``?`` stand for any characters, double quotes stop folding to
lower case and take what is in them literally, a dot parts schema from name, and other characters are those of a regular expression.
"""

import re
from collections.abc import Iterable, Sequence

from pipeline.errors import InvalidRequest
from pipeline.postgres.toc import Toc, TocEntry

_RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"})
_NAMED_AFTER_TABLE = frozenset(
    {"DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY", "ROW SECURITY"}
)
"""Their tag is ``table name``, and they may depend on other tables than their own."""
_PARTS_OF_A_RELATION = _NAMED_AFTER_TABLE | {
    "TABLE DATA",
    "MATERIALIZED VIEW DATA",
    "INDEX",
    "TABLE ATTACH",
    "COMMENT",
    "SECURITY LABEL",
    "ACL",
    "STATISTICS",
    "STATISTICS DATA",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "PUBLICATION TABLE",
}


def choose_entries(toc: Toc, tables: Sequence[str], schemas: Sequence[str]) -> set[int]:
    """The dump IDs of what the patterns name, each with all that is part of it.

    A table brings its data, defaults, owned sequences, indexes, constraints, triggers, rules, policies, comments and grants; more than
    ``pg_restore --table``, which leaves out the indexes and what comes after them. What other objects it refers to must be there already.

    Raises InvalidRequest where a pattern matches nothing.
    """
    chosen: set[int] = set()
    relations: set[tuple[str, str]] = set()
    for pattern in tables:
        schema, name = compile_pattern(pattern)
        found = [
            entry
            for entry in toc.entries
            if entry.description in _RELATIONS
            and name.fullmatch(entry.tag)
            and (schema is None or schema.fullmatch(entry.namespace))
        ]
        _check_found(found, "table", pattern)
        chosen.update(entry.dump_id for entry in found)
        relations.update((entry.namespace, entry.tag) for entry in found)
    for pattern in schemas:
        _, name = compile_pattern(pattern)
        found = [
            entry
            for entry in toc.entries
            if name.fullmatch(entry.namespace) or (entry.description == "SCHEMA" and name.fullmatch(entry.tag))
        ]
        _check_found(found, "schema", pattern)
        chosen.update(entry.dump_id for entry in found)
    _add_parts(toc, chosen, relations)
    return chosen


def _add_parts(toc: Toc, chosen: set[int], relations: set[tuple[str, str]]) -> None:
    before = -1
    while before != len(chosen):  # a comment on an index of a table takes three rounds
        before = len(chosen)
        for entry in toc.entries:
            if entry.dump_id not in chosen and _is_part(entry, chosen, relations):
                chosen.add(entry.dump_id)


def _is_part(entry: TocEntry, chosen: set[int], relations: set[tuple[str, str]]) -> bool:
    if entry.description == "INDEX ATTACH":
        return chosen.issuperset(entry.dependencies)
    if entry.description not in _PARTS_OF_A_RELATION or chosen.isdisjoint(entry.dependencies):
        return False
    if entry.description in _NAMED_AFTER_TABLE:
        return any(
            schema == entry.namespace and (entry.tag == table or entry.tag.startswith(f"{table} "))
            for schema, table in relations
        )
    return entry.description != "TABLE ATTACH" or (entry.namespace, entry.tag) in relations


def _check_found(found: Iterable[TocEntry], kind: str, pattern: str) -> None:
    if not found:
        raise InvalidRequest(f"The backup holds no {kind} that matches {pattern}.")


def compile_pattern(pattern: str) -> tuple[re.Pattern[str] | None, re.Pattern[str]]:
    """Regular expressions for the whole of the schema (None where the pattern names none) and of the name. Raises InvalidRequest."""
    parts, quoted, at = [""], False, 0
    while at < len(pattern):
        char = pattern[at]
        if char == '"':
            if quoted and pattern[at : at + 2] == '""':
                parts[-1] += '"'
                at += 1
            else:
                quoted = not quoted
        elif quoted:
            parts[-1] += re.escape(char)
        elif char == ".":
            parts.append("")
        else:
            parts[-1] += {"*": ".*", "?": ".", "$": r"\$"}.get(char, char.lower() if char.isascii() else char)
        at += 1
    if quoted or len(parts) > 2:
        raise InvalidRequest(f"{pattern!r} is not a pattern: write name or schema.name, with double quotes in pairs.")
    try:
        schema, name = ([None] + [re.compile(part, re.DOTALL) for part in parts])[-2:]
    except re.error as exc:
        raise InvalidRequest(f"{pattern!r} is not a pattern: {exc}.") from exc
    if name is None:
        raise InvalidRequest("A pattern is empty.")
    return schema, name
