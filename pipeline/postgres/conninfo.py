"""libpq's connection strings. Their secrets are never shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline.errors import InvalidRequest
from pipeline.postgres.workspace import Workspace

ADDRESS_VARIABLES = {
    "PGSERVICE": "service",
    "PGHOST": "host",
    "PGHOSTADDR": "hostaddr",
    "PGPORT": "port",
    "PGDATABASE": "dbname",
    "PGUSER": "user",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
}
"""libpq's environment variables that say where the server is and how to reach it, each with the name of its parameter."""
_NOBODY = "pgstow: nobody"


@dataclass(frozen=True, slots=True)
class Conninfo:
    """A connection string. libpq takes missing parameters from its environment, service file and password file."""

    parameters: dict[str, Any] = field(repr=False)
    role: str | None = None
    """The role that pgstow's own sessions set by SET ROLE; None for the role that logs in. Programs get the role as an option."""
    maintenance: str | None = None
    """The database to connect to for work on the whole server; None to try the databases that usually exist."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the connection string for a URI, for ``key=value`` pairs, or for a plain database name, as pg_dump takes them.

        Raises InvalidRequest for other text. The error repeats no part of the text, since the text may hold a password.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest("The connection string is not valid UTF-8.") from None
        if "\0" in text:
            raise InvalidRequest("The connection string has a NUL character in it.")
        if text and "=" not in text and not text.startswith(("postgresql://", "postgres://")):
            return cls({"dbname": text})
        try:
            return cls(conninfo_to_dict(text))
        except psycopg.Error:
            # The error has neither libpq's message nor a cause: both would repeat a part of the string, which may hold a password.
            raise InvalidRequest(
                "libpq does not understand the connection string; write it as postgresql://user@host/database "
                "or as 'host=… dbname=…' (special characters in a URI percent-encoded)."
            ) from None

    @property
    def database(self) -> str | None:
        """The database that the string, libpq's environment or its service file names; None if none of them names a database."""
        # Only libpq knows all these places. If none of them names a database, libpq takes the user's name, which is _NOBODY here.
        name = self._values().get("dbname", "")
        return None if name in {"", _NOBODY} else name

    @property
    def passfile(self) -> Path | None:
        """The password file that libpq would read, even if it doesn't exist; None if libpq takes the password from elsewhere."""
        values = self._values(undecodable="surrogateescape")  # a path may have any bytes
        return None if values.get("password") or not values.get("passfile") else Path(values["passfile"])

    @property
    def sslmode(self) -> str:
        """libpq's ``sslmode``, which says if it asks for encryption. The default is ``prefer``."""
        return self._values().get("sslmode", "prefer")

    def _values(self, *, undecodable: str = "replace") -> dict[str, str]:
        """Return the parameters that libpq would use, including those of its environment and files."""
        nowhere = {**self.parameters, "host": "/nonexistent", "hostaddr": "", "user": _NOBODY}
        connection = psycopg.pq.PGconn.connect_start(make_conninfo("", **nowhere).encode())
        try:
            return {
                option.keyword.decode(): option.val.decode("utf-8", undecodable)
                for option in connection.info
                if option.val
            }
        finally:
            connection.finish()

    def with_setting(self, name: str, value: str) -> "Conninfo":
        """Return the connection string with a setting for each session. It overrides the settings of the database and of the role."""
        escaped = re.sub(r"([\s\\])", r"\\\1", value)  # pg_split_opts() in postinit.c
        given = self._values().get("options", "")
        if (len(given) - len(given.rstrip("\\"))) % 2:
            given = given[:-1]  # PostgreSQL ignores a lone backslash at the end, but here it would escape the space
        options = f"{given} -c {name}={escaped}".strip()
        return replace(self, parameters={**self.parameters, "options": options})

    def completed(self, environment: Mapping[str, str]) -> "Conninfo":
        """Return the connection string with the parameters of :data:`ADDRESS_VARIABLES` that libpq would take from ``environment``.

        If a service is named, add no other parameter: libpq prefers the parameters in its service file.
        """
        found = {word: environment[name] for name, word in ADDRESS_VARIABLES.items() if environment.get(name)}
        if "service" in found or "service" in self.parameters:
            found = {word: value for word, value in found.items() if word == "service"}
        return replace(self, parameters={**found, **self.parameters})

    def with_database(self, name: str) -> "Conninfo":
        """Return the connection string of another database on the same server."""
        return replace(self, parameters={**self.parameters, "dbname": name})

    def maintained_in(self, name: str | None) -> "Conninfo":
        """Return the connection string with a database to connect to for work on the whole server."""
        return replace(self, maintenance=name)

    def with_password(self, password: str) -> "Conninfo":
        """Return the connection string with this password."""
        return replace(self, parameters={**self.parameters, "password": password})

    @property
    def secrets(self) -> list[str]:
        """The names of the string's parameters that are secrets."""
        return sorted(name for name in {"password", *_secret_parameters()} if self.parameters.get(name))

    def acting_as(self, role: str | None) -> "Conninfo":
        """Return the connection string for sessions that act as this role after login; None for the role that logs in."""
        return replace(self, role=role)

    def at(self, host: str, address: str, port: int) -> "Conninfo":
        """Return the connection string of the one server that a session reached. The original string may name several servers.

        ``address`` is empty if ``host`` is a socket's folder.
        """
        pinned = {"host": host, "port": port} | ({"hostaddr": address} if address else {})
        return replace(self, parameters={**self.parameters, **pinned})

    @property
    def text(self) -> str:
        """The whole string, secrets included, as libpq takes it."""
        return make_conninfo(**self.parameters)

    def for_psycopg(self) -> str:
        """Return the whole string, secrets included, for a session in UTF-8. With the encoding SQL_ASCII, psycopg would return no text."""
        return make_conninfo(**{"fallback_application_name": "pgstow", **self.parameters, "client_encoding": "UTF8"})

    @property
    def overrides(self) -> tuple[str, ...]:
        """Environment variables that programs must not get. PGPASSWORD would override the file that :meth:`for_program` names
        (``connectOptions2``)."""
        return ("PGPASSWORD",) if "password" in self.parameters else ()

    def for_program(self, workspace: Workspace, application_name: str) -> str:
        """Return a connection string for a program's command line. Instead of a password, it names a file of mode 0600 in the workspace.

        The program uses the database's encoding, even if the string names another one.

        Call this method only once for each workspace. Raises InvalidRequest if the string has secrets other than a password.
        """
        parameters = {**self.parameters, "application_name": application_name}
        parameters.pop("client_encoding", None)
        password = parameters.pop("password", None)
        if secrets := sorted(name for name in _secret_parameters() if parameters.get(name)):
            raise InvalidRequest(
                f"pgstow can't pass {secrets[0]} to PostgreSQL's programs, since their command line would show it: "
                "keep it in a service file, or use a client key without a passphrase."
            )
        if password:
            parameters["passfile"] = str(workspace.write_private("passfile", _passfile_line(str(password))))
        return make_conninfo(**parameters)


def _secret_parameters() -> set[str]:
    """Return the names of the parameters that libpq itself hides (PQconninfoOption's ``dispchar``), and of SCRAM's keys.

    libpq treats SCRAM's keys as options for debugging, and doesn't hide them.
    """
    hidden = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.dispchar == b"*"}
    return hidden | {"scram_client_key", "scram_server_key"}


def _passfile_line(password: str) -> str:
    """Return a line of a password file that fits every server: https://www.postgresql.org/docs/current/libpq-pgpass.html."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"
