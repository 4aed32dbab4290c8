"""The environment variables that PostgreSQL's programs get from pgstow.

pgstow's own environment may hold the store's keys, or the password of another server. A program may run somebody else's code, from a script
or an archive, and must get none of these secrets. So this module lists the variables that a program may have.
"""

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

_MACHINE = (
    r"PATH|LD_LIBRARY_PATH|DYLD_[A-Z_]*LIBRARY_PATH|LANG|LC_[A-Z]+|TZ|TZDIR"
    r"|LOCPATH|LOCALE_ARCHIVE|ICU_DATA"  # the places of locales, if not the defaults of glibc and ICU
)
_USER = r"HOME|USER|LOGNAME|TMPDIR"
_LIBPQ = r"PG(?!CLIENTENCODING)[A-Z]+"
"""libpq's variables: https://www.postgresql.org/docs/current/libpq-envars.html. The pattern leaves out PG_COLOR, which colours messages.

It leaves out PGCLIENTENCODING, too. Without it, the dump and the names on pg_dump's command line are in the database's own encoding.
"""
_CONNECTION = (
    f"{_LIBPQ}"
    r"|KRB5[A-Z0-9_]*|GSS_USE_PROXY|SSL_CERT_(?:FILE|DIR)|OPENSSL_CONF"
    r"|LOCALDOMAIN|RES_OPTIONS|HOSTALIASES"  # resolver(5)
)
_PROGRAM = re.compile(_MACHINE)
_SERVER = re.compile(_LIBPQ)
_CLIENT = re.compile(f"{_MACHINE}|{_USER}|{_CONNECTION}")


def for_client(*, without: Collection[str] = ()) -> Mapping[str, str]:
    """Return the environment for pg_dump, pg_restore, psql and the like: the variables that they need to run and to connect.

    ``without`` names variables to leave out.
    """
    return {name: value for name, value in _for_program(_CLIENT).items() if name not in without}


def for_no_connection() -> Mapping[str, str]:
    """Return the environment for pgstow's own servers, and for programs that connect to no server. It holds none of libpq's variables."""
    return _for_program(_PROGRAM)


@contextmanager
def without_servers() -> Iterator[None]:
    """Hide libpq's variables from this process and its programs while the block lasts.

    In the block, pgstow connects to a server that it started. The variables name another server. A connection string can't turn PGSERVICE
    off, and older versions of libpq don't know all the parameters that would override the other variables.
    No other thread may connect to a server meanwhile.
    """
    hidden = _inherited(_SERVER)
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def _for_program(names: re.Pattern[str]) -> dict[str, str]:
    """Return this process's variables of these names, changed so that programs write messages in English.

    PATH also has the system's own folders: the shell script that removes a working folder (``workspace.py``) needs programs such as rm.
    """
    variables = {name: value for name, value in _inherited(names).items() if name != "LC_ALL"}
    path = os.pathsep.join(filter(None, (variables.get("PATH"), os.defpath)))
    return {**variables, "LC_MESSAGES": "C", "PATH": path}


def _inherited(names: re.Pattern[str]) -> dict[str, str]:
    """Return this process's variables of these names. pgstow passes them on, and doesn't use them itself."""
    return {name: value for name, value in os.environ.items() if names.fullmatch(name)}
