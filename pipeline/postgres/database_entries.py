"""The entries in an archive that concern the database as a whole: owner, settings, comment, grants."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from pipeline.postgres.toc import Toc, TocEntry

_NAME = r'(?:"(?:[^"]|"")+"|[\w.$]+)'
_STATEMENT = re.compile(r"""\s*+((?>(?:[^;'"]++|'(?>(?:[^']++|'')*)'|"(?>(?:[^"]++|"")*)"|['"])*);?)""")
"""One statement. The pattern reads each character once, in any text. It takes an unpaired quote as a plain character. The last match
may lack a semicolon.

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
        # Parallel sessions that build indexes and check foreign keys would make each other fail. The content doesn't depend on these settings.
        "default_transaction_isolation",
        "transaction_isolation",
        "default_transaction_deferrable",
        "transaction_deferrable",
        # If it is off, COPY reads a NULL in an array as text.
        "array_nulls",
        # The restore's own role makes the objects, and may need rights that another role lacks.
        "role",
        "session_authorization",
        # If a library is missing, or needs its extension, no session can begin.
        "session_preload_libraries",
        "local_preload_libraries",
        # pg_restore sets these two itself by default.
        "search_path",
        "default_table_access_method",
        # pg_restore sets default_tablespace, too, but not with --no-tablespaces. The restore then must use no tablespace.
        "default_tablespace",
        "temp_tablespaces",
        # pg_restore may go on after errors, and pgstow reads its messages.
        "exit_on_error",
        "lc_messages",
        # On a platform that can't check connections, the server refuses every value except 0.
        "client_connection_check_interval",
    }
)
"""Settings that a restore doesn't need, or that would make it fail."""


@dataclass(frozen=True, slots=True)
class DatabaseStatements:
    """The SQL that gives a database the owner, settings, comment and grants of another database."""

    first: tuple[str, ...] = ()
    """Settings on which restored objects may depend: the format of money, the time zone, custom settings in functions and views."""
    last: tuple[str, ...] = ()
    """Settings that would disturb a restore."""
    others: tuple[str, ...] = ()
    """Owner, comment, grants and the like. These statements run last, since most of them decide who may connect."""


def database_statements(
    toc: Toc, name: str, *, no_owner: bool = False, without: Collection[str] = ()
) -> DatabaseStatements:
    """Return the SQL that gives a database of this name the owner, settings, comment and grants of the archive's database.

    In the archive, the SQL contains the name of the archive's own database. So pg_restore runs the SQL only with ``--create``, which makes a
    database of that name. pg_restore then applies the settings first. ``without`` names the kinds of entries to leave out.
    """
    found = [entry for entry in toc.entries if _is_of_the_database(entry) and entry.description not in without]
    databases = [entry for entry in found if entry.description == "DATABASE"]
    if not databases:
        return DatabaseStatements()
    original, owner = databases[0].tag, databases[0].owner
    # pg_dump quotes a name only if the name needs quotes (fmtId in string_utils.c).
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
        first=tuple(statement for statement, setting in settings.items() if not _comes_last(setting)),
        last=last,
        others=new_owner + tuple(statement for statement in statements if statement not in settings),
    )


def setting_name(statement: str) -> str | None:
    """Return the name of the setting that a statement sets for a database, or for a role in a database; None for other statements."""
    match = _SETTING.match(statement)
    return match["name"].strip('"') if match else None


def text_search_default(statement: str) -> str | None:
    """Return the name of the text search configuration that a statement makes the default, without its schema; None for other statements."""
    if setting_name(statement) != "default_text_search_config":
        return None
    value = statement.rpartition(" TO ")[2].strip("';")
    return value.rpartition(".")[2].strip('"')


def is_of_a_role(statement: str) -> bool:
    """True if the statement changes a setting of a single role."""
    return statement.startswith("ALTER ROLE ")


def _comes_last(setting: str) -> bool:
    return setting.lower() in _LAST or setting.lower().endswith("_timeout")


def _statements(definition: str) -> Iterator[str]:
    """Yield the statements of a definition, without comments."""
    return (match[1] for match in _STATEMENT.finditer(definition) if match[1].endswith(";"))


def _is_of_the_database(entry: TocEntry) -> bool:
    if entry.description in {"COMMENT", "ACL", "SECURITY LABEL"}:
        return entry.tag.startswith("DATABASE ") and not entry.namespace
    return entry.description in {"DATABASE", "DATABASE PROPERTIES"}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
