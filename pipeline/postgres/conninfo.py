"""libpq's connection strings, with their secrets kept out of sight."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pipeline.errors import InvalidRequest
from pipeline.postgres.workspace import Workspace

_NOBODY = "pgstow: nobody"


@dataclass(frozen=True, slots=True)
class Conninfo:
    """A connection string. libpq takes missing parameters from its environment, service file and password file."""

    parameters: dict[str, Any] = field(repr=False)
    role: str | None = None
    """The role as which pgstow's own sessions act, by SET ROLE; None for the role that logs in. Programs have an option for the role."""
    maintenance: str | None = None
    """The database to connect to for work on the whole server; None for a database that usually exists."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the connection string of a URI, of ``key=value`` pairs, or of a plain database name, as pg_dump takes them.

        Raises InvalidRequest for other text. The error repeats no part of the text, which may hold a password.
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
            # libpq's words and the cause are left out: they would repeat part of the string, and so of a password.
            raise InvalidRequest(
                "The connection string is not one that libpq understands; write it as postgresql://user@host/database "
                "or as 'host=… dbname=…' (special characters in a URI percent-encoded)."
            ) from None

    @property
    def database(self) -> str | None:
        """The database that the string, or libpq's environment or service file, names; None if there is no name."""
        # libpq alone knows all of these. Without a name it takes the user's, and no real user has the name _NOBODY.
        name = self._values().get("dbname", "")
        return None if name in {"", _NOBODY} else name

    @property
    def passfile(self) -> Path | None:
        """The password file that libpq would read, even if it doesn't exist; None if the password comes from elsewhere."""
        values = self._values(undecodable="surrogateescape")  # a path may have any bytes
        return None if values.get("password") or not values.get("passfile") else Path(values["passfile"])

    @property
    def sslmode(self) -> str:
        """libpq's mode of asking for encryption. The default is ``prefer``."""
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
        """Return the connection string with a setting for each session, which wins over the settings of the database and the role."""
        escaped = re.sub(r"([\s\\])", r"\\\1", value)  # pg_split_opts() in postinit.c
        options = f"{self._values().get('options', '')} -c {name}={escaped}".strip()
        return replace(self, parameters={**self.parameters, "options": options})

    def with_database(self, name: str) -> "Conninfo":
        """Return the connection string of another database on the same server."""
        return replace(self, parameters={**self.parameters, "dbname": name})

    def maintained_in(self, name: str | None) -> "Conninfo":
        """Return the connection string with a database to connect to for work on the whole server."""
        return replace(self, maintenance=name)

    def with_password(self, password: str) -> "Conninfo":
        """Return the connection string with a password that came from elsewhere."""
        return replace(self, parameters={**self.parameters, "password": password})

    @property
    def secrets(self) -> list[str]:
        """The names of the parameters in the string that are secrets."""
        return sorted(name for name in {"password", *_secret_parameters()} if self.parameters.get(name))

    def acting_as(self, role: str | None) -> "Conninfo":
        """Return the connection string for sessions that act as another role after login; None for the role that logs in."""
        return replace(self, role=role)

    def at(self, host: str, address: str, port: int) -> "Conninfo":
        """Return the connection string of the very server that a session got to: the string's host may name several servers.

        ``address`` is empty if ``host`` is a socket's folder.
        """
        pinned = {"host": host, "port": port} | ({"hostaddr": address} if address else {})
        return replace(self, parameters={**self.parameters, **pinned})

    def for_psycopg(self) -> str:
        """Return the whole string, with its secrets, for a session that speaks UTF-8. In SQL_ASCII, psycopg would return no text."""
        return make_conninfo(**{"fallback_application_name": "pgstow", **self.parameters, "client_encoding": "UTF8"})

    @property
    def overrides(self) -> tuple[str, ...]:
        """Variables that programs must not see: PGPASSWORD would win against the file that :meth:`for_program` names (``connectOptions2``)."""
        return ("PGPASSWORD",) if "password" in self.parameters else ()

    def for_program(self, workspace: Workspace, application_name: str) -> str:
        """Return a string for a program's command line. It names a file of mode 0600 in the workspace instead of a password.

        The program uses the database's encoding, whatever the string says.

        Call this once for a workspace. Raises InvalidRequest if the string has other secrets than a password.
        """
        parameters = {**self.parameters, "application_name": application_name}
        parameters.pop("client_encoding", None)
        password = parameters.pop("password", None)
        if secrets := sorted(name for name in _secret_parameters() if parameters.get(name)):
            raise InvalidRequest(
                f"{secrets[0]} can't be handed to PostgreSQL's programs without showing it on their command line: keep it in a "
                "service file, or use a client key without a passphrase."
            )
        if password:
            parameters["passfile"] = str(workspace.write_private("passfile", _passfile_line(str(password))))
        return make_conninfo(**parameters)


def _secret_parameters() -> set[str]:
    """Return the parameters that libpq itself would not show (PQconninfoOption's ``dispchar``), and SCRAM's keys.

    libpq takes SCRAM's keys for debugging options, and would show them.
    """
    hidden = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults() if option.dispchar == b"*"}
    return hidden | {"scram_client_key", "scram_server_key"}


def _passfile_line(password: str) -> str:
    """Return a line of a password file that fits every server: https://www.postgresql.org/docs/current/libpq-pgpass.html."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    return f"*:*:*:*:{escaped}\n"
