"""An archive's entries on its database as a whole: owner, settings, comment, grants."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline.postgres.toc import Toc, TocEntry

_NAME = r'(?:"(?:[^"]|"")+"|[\w.$]+)'
_STATEMENT = re.compile(r"""\s*+((?>(?:[^;'"]++|'(?>(?:[^']++|'')*)'|"(?>(?:[^"]++|"")*)"|['"])*);?)""")
"""Each character is read once, in any text. An unpaired quote stands for itself. Text without a semicolon at its end comes last.

pg_dump doubles quotes and backslashes in a literal (``appendStringLiteral`` in string_utils.c)."""
_SETTING = re.compile(
    rf"ALTER (?:DATABASE {_NAME}|ROLE {_NAME} IN DATABASE {_NAME}) SET (?P<name>{_NAME}) TO ", re.IGNORECASE
)
"""``makeAlterConfigCommand`` in dumputils.c."""
_LAST = frozenset(
    {
        # A read-only session restores nothing.
        "default_transaction_read_only",
        "transaction_read_only",
        # Parallel sessions that build indexes and check foreign keys would make each other fail. Content doesn't depend on these.
        "default_transaction_isolation",
        "transaction_isolation",
        "default_transaction_deferrable",
        "transaction_deferrable",
        # When it is off, COPY reads a NULL in an array as a text.
        "array_nulls",
        # The restore's own role makes the objects, and may need rights that another role lacks.
        "role",
        "session_authorization",
        # A library that is missing, or that expects its extension, ends each session before it begins.
        "session_preload_libraries",
        "local_preload_libraries",
        # pg_restore sets these itself. Without tablespaces it doesn't, and no tablespace shall be used.
        "search_path",
        "default_table_access_method",
        "default_tablespace",
        "temp_tablespaces",
        # pg_restore may go on after errors, and pgstow reads them.
        "exit_on_error",
        "lc_messages",
        # Some jobs of pg_restore are idle while others work. pg_restore turns off most limits of time, but not all.
        "client_connection_check_interval",
    }
)
"""Settings that a restore doesn't need, or that would make it fail."""


@dataclass(frozen=True, slots=True)
class DatabaseStatements:
    """The SQL that gives a database the owner, settings, comment and grants of another database."""

    first: tuple[str, ...] = ()
    """Settings on which restored objects may depend: the format of money, the time zone, custom settings that functions and views read."""
    last: tuple[str, ...] = ()
    """Settings that would disturb a restore."""
    others: tuple[str, ...] = ()
    """Owner, comment, grants and the like. They come after all other statements, since they decide who may connect."""


def database_statements(
    toc: Toc, name: str, *, no_owner: bool = False, without: Collection[str] = ()
) -> DatabaseStatements:
    """Return the SQL that gives a database of this name the owner, settings, comment and grants of the archive's database.

    Only these entries name the database itself. pg_restore leaves them out unless it makes a database of the same name.
    pg_restore applies the settings before anything else. ``without`` are descriptions of entries to leave out.
    """
    found = [entry for entry in toc.entries if _is_of_the_database(entry) and entry.description not in without]
    databases = [entry for entry in found if entry.description == "DATABASE"]
    if not databases:
        return DatabaseStatements()
    original, owner = databases[0].tag, databases[0].owner
    # pg_dump quotes a name only where it has to be (fmtId in string_utils.c).
    named = re.compile(
        r"((?:ALTER|COMMENT ON) DATABASE |(?:GRANT|REVOKE) [A-Z, ]*?ON DATABASE |SECURITY LABEL FOR \S+ ON DATABASE "
        rf'|ALTER ROLE (?:"(?:[^"]|"")+"|\w+) IN DATABASE )(?:{re.escape(_quoted(original))}|{re.escape(original)})(?=[ ;])'
    )
    statements = [
        named.sub(lambda match: match[1] + _quoted(name), statement, count=1) if named.match(statement) else statement
        for entry in found
        if entry.description != "DATABASE"
        for statement in _statements(entry.definition)
    ]
    settings = {statement: setting for statement in statements if (setting := setting_name(statement))}
    last = tuple(statement for statement, setting in settings.items() if _comes_last(setting))
    new_owner = (f"ALTER DATABASE {_quoted(name)} OWNER TO {_quoted(owner)};",) if owner and not no_owner else ()
    return DatabaseStatements(
        first=tuple(statement for statement in settings if statement not in last),
        last=last,
        others=new_owner + tuple(statement for statement in statements if statement not in settings),
    )


def setting_name(statement: str) -> str | None:
    """Return the name of the setting that a statement gives a database, or a role in a database; None for another statement."""
    match = _SETTING.match(statement)
    return match["name"].strip('"') if match else None


def text_search_default(statement: str) -> str | None:
    """Return the name, without its schema, of the text search configuration that a statement makes the default; None for another statement."""
    if setting_name(statement) != "default_text_search_config":
        return None
    value = statement.rpartition(" TO ")[2].strip("';")
    return value.rpartition(".")[2].strip('"')


def is_of_a_role(statement: str) -> bool:
    """True if the statement sets a setting for a single role."""
    return statement.startswith("ALTER ROLE ")


def _comes_last(setting: str) -> bool:
    return setting.lower() in _LAST or setting.lower().endswith("_timeout")


def _statements(definition: str) -> Iterator[str]:
    """Return the statements of a definition, without comments."""
    return (match[1] for match in _STATEMENT.finditer(definition) if match[1].endswith(";"))


def _is_of_the_database(entry: TocEntry) -> bool:
    if entry.description in {"COMMENT", "ACL", "SECURITY LABEL"}:
        return entry.tag.startswith("DATABASE ") and not entry.namespace
    return entry.description in {"DATABASE", "DATABASE PROPERTIES"}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
