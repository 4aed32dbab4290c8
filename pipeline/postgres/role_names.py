"""Finds the roles that an archive names, and replaces them.

Each entry has a field for its owner. Other roles are in the SQL of a few kinds of entries (``buildACLCommands`` in dumputils.c,
``dumpPolicy`` and ``dumpUserMappings`` in pg_dump.c). pgstow splits this SQL into tokens. So it takes neither a literal nor another object
with the same name for a role.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from pipeline.errors import InvalidRequest
from pipeline.postgres.toc import TocEntry
from pipeline.postgres.toc_edit import rewrite

_NAMES_ROLES = frozenset({"ACL", "DEFAULT ACL", "DATABASE PROPERTIES", "POLICY", "USER MAPPING"})
_TOKEN = re.compile(
    r"""
      [eE]'(?>(?:[^'\\]+|''|\\.)*)(?:'|\Z)               # a literal with escapes; if its end is missing, it goes on to the end
    | '(?>(?:[^']+|'')*)(?:'|\Z)                          # a literal
    | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z) # a literal in dollar quotes
    | "(?P<quoted>(?>(?:[^"]+|"")+))(?:"|\Z)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<mark>\S)
    """,
    re.DOTALL | re.VERBOSE,
)
_BEFORE_ROLES = frozenset({"TO", "FROM", "FOR", "ROLE", "AUTHORIZATION", "BY"})
"""Key words before a role's name. pg_dump writes key words in capitals, and quotes a name that has capitals or is a key word (``fmtId`` in
string_utils.c)."""
_EVERYBODY = "public"
"""Stands for all roles; no role can have this name. pg_dump writes it in capitals, except in a user mapping."""


@dataclass(frozen=True, slots=True)
class _Mention:
    """A role's name in SQL. It begins at the offset ``start``, and ends before the offset ``end``."""

    role: str
    start: int
    end: int


def roles_of(entry: TocEntry) -> set[str]:
    """Return the roles that an entry names: its owner, grantors and grantees, and the roles of policies, settings and user mappings."""
    owner = {entry.owner} if entry.owner else set()
    return owner | {mention.role for mention in _mentions(entry.definition, entry.description)}


def with_roles(entry: TocEntry, roles: Mapping[str, str]) -> TocEntry:
    """Return the entry with other roles. ``roles`` has the new names by the old names."""
    return replace(
        entry,
        owner=roles.get(entry.owner, entry.owner),
        tag=_renamed_tag(entry, roles),
        definition=_renamed(entry.definition, entry.description, roles),
        drop_statement=_renamed(entry.drop_statement, entry.description, roles),
    )


def rename_roles(data: bytes, roles: Mapping[str, str]) -> bytes:
    """Return the table of contents with other roles. ``roles`` has the new names by the old names.

    Only pg_dump's own SQL on roles changes. Functions, expressions and values of settings stay as they are. Raises InvalidRequest if the
    archive doesn't name one of the old names, or if its encoding lacks a character of a new name.
    """
    found: set[str] = set()

    def change(entry: TocEntry) -> TocEntry:
        named = roles_of(entry)
        found.update(named)
        return entry if named.isdisjoint(roles) else with_roles(entry, roles)

    changed = rewrite(data, change)
    if absent := sorted(roles.keys() - found):
        raise InvalidRequest(
            f"The backup doesn't name the role {absent[0]}: the role owns no object in it, and no grant or policy names the role."
        )
    return changed


def _renamed(sql: str, description: str, roles: Mapping[str, str]) -> str:
    parts, copied = [], 0
    for mention in _mentions(sql, description):
        if mention.role in roles:
            parts += [sql[copied : mention.start], _quoted(roles[mention.role])]
            copied = mention.end
    return "".join([*parts, sql[copied:]])


def _renamed_tag(entry: TocEntry, roles: Mapping[str, str]) -> str:
    """Return the tag with other roles. Only the tag of a user mapping has a role: ``USER MAPPING role SERVER server``."""
    if entry.description == "USER MAPPING":
        for role in roles_of(entry) - {entry.owner}:
            if role in roles and entry.tag.startswith(f"USER MAPPING {role} SERVER "):
                return f"USER MAPPING {roles[role]}{entry.tag.removeprefix(f'USER MAPPING {role}')}"
    return entry.tag


def _mentions(sql: str, description: str) -> Iterator[_Mention]:
    if description not in _NAMES_ROLES:
        return
    expected = listing = False
    for token in _TOKEN.finditer(sql):
        if description == "POLICY" and token["word"] in {"USING", "WITH"}:
            return  # expressions follow, which may have any of the key words in them
        name = token["quoted"].replace('""', '"') if token["quoted"] else token["word"]
        if expected and name and (token["quoted"] or name == name.lower()):
            if name != _EVERYBODY:
                yield _Mention(name, token.start(), token.end())
            expected, listing = False, True
        elif listing and token["mark"] == ",":
            expected = True
        else:
            expected, listing = token["word"] in _BEFORE_ROLES, False


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
