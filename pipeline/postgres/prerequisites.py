"""What an archive needs of the server around it, since no database's dump holds it: roles and extensions."""

import re
from collections.abc import Iterable, Iterator, Set

from psycopg import sql

from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc

_NAMES_ROLES = frozenset({"ACL", "DEFAULT ACL", "DATABASE PROPERTIES", "POLICY", "USER MAPPING"})
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?P<quoted>(?:[^"]|"")+)"|(?P<word>[^\W\d][\w$]*)|(?P<mark>\S)""")
_BEFORE_ROLES = frozenset({"TO", "FROM", "FOR", "ROLE", "AUTHORIZATION"})
"""pg_dump writes key words in capitals, and a name that has capitals, or is a key word, in quotes (``fmtId`` in string_utils.c)."""


def named_roles(toc: Toc) -> set[str]:
    """The roles that the archive names: owners, grantors and grantees, those of policies, settings and user mappings."""
    owners = {entry.owner for entry in toc.entries if entry.owner}
    return owners.union(
        *(_roles_in(entry.definition, entry.description) for entry in toc.entries if entry.description in _NAMES_ROLES)
    )


def missing_roles(server: Server, needed: Set[str]) -> list[str]:
    """Those that the server lacks. Raises ConnectionFailed."""
    return sorted(needed - {name for (name,) in server.fetch("SELECT rolname FROM pg_roles")})


def missing_extensions(server: Server, toc: Toc) -> list[str]:
    """The extensions in the archive that the server can't create. Raises ConnectionFailed."""
    needed = {entry.tag for entry in toc.entries if entry.description == "EXTENSION"}
    return sorted(needed - {name for (name,) in server.fetch("SELECT name FROM pg_available_extensions")})


def make_roles(server: Server, names: Iterable[str]) -> None:
    """Make roles that nobody can log in as, on a server that holds nothing but what is to be restored. Raises ConnectionFailed.

    They are superusers: memberships aren't in the archive, and where an owner lacks what it had by them, a materialized view isn't
    refreshed; others, such as event triggers, no other role may own.
    """
    for name in names:
        if not name.startswith("pg_"):  # reserved: either the server has it, or its version doesn't
            server.execute(sql.SQL("CREATE ROLE {} SUPERUSER NOLOGIN").format(sql.Identifier(name)))


def _roles_in(definition: str, description: str) -> Iterator[str]:
    tokens = list(_TOKEN.finditer(definition))
    if description == "POLICY":  # its expressions come last, and may have any of the key words in them
        ends = [index for index, token in enumerate(tokens) if token["word"] in {"USING", "WITH"}]
        tokens = tokens[: ends[0]] if ends else tokens
    expected = listing = False
    for token in tokens:
        name = token["quoted"].replace('""', '"') if token["quoted"] else token["word"]
        if expected and name and (token["quoted"] or name == name.lower()):
            yield name
            expected, listing = False, True
        elif listing and token["mark"] == ",":
            expected = True
        else:
            expected, listing = token["word"] in _BEFORE_ROLES, False
