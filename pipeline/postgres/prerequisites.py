"""What an archive needs of the server around it, since no database's dump holds it: roles, extensions and tablespaces."""

from collections.abc import Callable, Iterable, Set
from pathlib import Path

from psycopg import sql

from pipeline.postgres.role_names import roles_of
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc


def named_roles(toc: Toc) -> set[str]:
    """The roles that the archive names: owners, grantors and grantees, those of policies, settings and user mappings."""
    return set().union(*map(roles_of, toc.entries))


def missing_roles(server: Server, needed: Set[str]) -> list[str]:
    """Those that the server lacks. Raises ConnectionFailed."""
    return sorted(needed - {name for (name,) in server.fetch("SELECT rolname FROM pg_catalog.pg_roles")})


def named_extensions(toc: Toc) -> set[str]:
    """The extensions in the archive."""
    return {entry.tag for entry in toc.entries if entry.description == "EXTENSION"}


def missing_extensions(server: Server, needed: Set[str]) -> list[str]:
    """Those that the server can't create. Raises ConnectionFailed."""
    return sorted(needed - {name for (name,) in server.fetch("SELECT name FROM pg_catalog.pg_available_extensions")})


def make_roles(server: Server, names: Iterable[str]) -> None:
    """Make roles that nobody can log in as, on a server that holds nothing but what is to be restored. Raises ConnectionFailed.

    They are superusers: memberships aren't in the archive, and where an owner lacks what it had by them, a materialized view isn't
    refreshed; others, such as event triggers, no other role may own.
    """
    for name in names:
        if not name.startswith("pg_"):  # reserved: either the server has it, or its version doesn't
            server.execute(sql.SQL("CREATE ROLE {} SUPERUSER NOLOGIN").format(server.quoted(name)))


def make_tablespaces(server: Server, names: Iterable[str], make_folder: Callable[[], Path]) -> None:
    """Make tablespaces, each in a folder that the server may write to. Raises ConnectionFailed."""
    for name in names:
        location = sql.Literal(str(make_folder()))
        server.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(server.quoted(name), location))
