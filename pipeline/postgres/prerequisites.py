"""Roles, extensions and tablespaces that an archive needs on the server. A dump of a database doesn't contain them."""

from collections.abc import Callable, Iterable, Set
from itertools import pairwise
from pathlib import Path

from psycopg import sql

from pipeline.postgres.role_names import roles_of
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc

_SUPERUSERS_OWN = frozenset({"EVENT TRIGGER", "FOREIGN DATA WRAPPER", "SUBSCRIPTION"})
"""Kinds of entries whose owner must be a superuser: ``AlterEventTriggerOwner_internal`` in event_trigger.c, and similar functions in
foreigncmds.c and, up to PostgreSQL 15, in subscriptioncmds.c."""
_READ_ALL_SINCE = 14
"""The first major version that has the role pg_read_all_data."""


def named_roles(toc: Toc) -> set[str]:
    """Return the roles that the archive names: owners, grantors and grantees, and the roles of policies, settings and user mappings."""
    return set().union(*map(roles_of, toc.entries))


def missing_roles(server: Server, needed: Set[str]) -> list[str]:
    """Return the needed roles that the server lacks, sorted. Raises ConnectionFailed."""
    return sorted(needed - {name for (name,) in server.fetch("SELECT rolname FROM pg_catalog.pg_roles")})


def named_extensions(toc: Toc) -> set[str]:
    """Return the names of the extensions in the archive."""
    return {entry.tag for entry in toc.entries if entry.description == "EXTENSION"}


def missing_extensions(server: Server, needed: Set[str]) -> list[str]:
    """Return the needed extensions that the server can't create, sorted. Raises ConnectionFailed."""
    return sorted(needed - {name for (name,) in server.fetch("SELECT name FROM pg_catalog.pg_available_extensions")})


def make_roles(server: Server, names: Iterable[str], toc: Toc, superusers: Iterable[str] = ()) -> None:
    """Make roles without a login, on a server that is used only to restore ``toc``. Raises ConnectionFailed.

    Functions of an index or a materialized view run as its owner. So only two kinds of roles become superusers: owners of objects that only
    a superuser may own, and the roles in ``superusers``. Only a script needs ``superusers``: the table of contents of a
    script is empty, and names no owners.

    An archive doesn't name the roles' memberships, so functions could lack rights. So the other roles form a chain, and each role is a member
    of the next. The last is a member of pg_read_all_data. Owners of materialized views come first in the chain, since they use objects of many
    other roles.
    """
    # Names that begin with pg_ are reserved. The server already has these roles, or its version doesn't know them.
    made = [name for name in names if not name.startswith("pg_")]
    superusers = _owners(toc, _SUPERUSERS_OWN) | set(superusers)
    refreshing = _owners(toc, frozenset({"MATERIALIZED VIEW"}))
    for name in made:
        rights = "SUPERUSER" if name in superusers else "NOSUPERUSER BYPASSRLS"
        server.execute(sql.SQL(f"CREATE ROLE {{}} {rights} NOLOGIN").format(server.quoted(name)))
    chain = sorted((name for name in made if name not in superusers), key=lambda name: name not in refreshing)
    if server.major >= _READ_ALL_SINCE:
        chain.append("pg_read_all_data")
    for member, role in pairwise(chain):
        server.execute(sql.SQL("GRANT {} TO {}").format(server.quoted(role), server.quoted(member)))


def _owners(toc: Toc, kinds: Set[str]) -> set[str]:
    return {entry.owner for entry in toc.entries if entry.description in kinds}


def make_tablespaces(server: Server, names: Iterable[str], make_folder: Callable[[], Path]) -> None:
    """Make tablespaces. ``make_folder`` makes a new folder for each, to which the server may write. Raises ConnectionFailed."""
    for name in names:
        location = sql.Literal(str(make_folder()))
        server.execute(sql.SQL("CREATE TABLESPACE {} LOCATION {}").format(server.quoted(name), location))
