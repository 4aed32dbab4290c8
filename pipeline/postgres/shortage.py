"""Finds out if a restore failed because the server lacks something that no backup holds: a library, a locale, a file, an extension's version.

pg_restore prints no SQLSTATE, and a server may write messages in any language. So the message alone isn't enough. pgstow also considers the
kind of the statement, and the collations and extensions that it needs.
"""

import re
from collections.abc import Iterable, Mapping

from pipeline.errors import RefusedStatement
from pipeline.postgres.server import Server
from pipeline.postgres.toc import Toc, TocEntry

_KINDS = frozenset(
    {
        "ACCESS METHOD",
        "COLLATION",
        "CONVERSION",
        "EXTENSION",
        "FOREIGN DATA WRAPPER",
        "PROCEDURAL LANGUAGE",
        "SECURITY LABEL",  # its provider must be preloaded
        "SERVER",  # the library of the foreign-data wrapper checks the options of servers and user mappings
        "USER MAPPING",
        "SUBSCRIPTION",
        "TEXT SEARCH DICTIONARY",
        "TEXT SEARCH PARSER",
        "TEXT SEARCH TEMPLATE",
        "TRANSFORM",
    }
)
"""Kinds of entries that need a library or a file on the server's machine, a locale, or a right."""
_STATEMENT = re.compile(r"(?:CREATE|ALTER|COMMENT ON)(?: OR REPLACE| TRUSTED)* (?P<words>[A-Z ]+)")
_FUNCTION = re.compile("CREATE (?:FUNCTION|PROCEDURE) ")
_LANGUAGE = re.compile(r'\bLANGUAGE (?P<name>\w+|"[^"]+")')
_BUILT_IN = frozenset({"sql", "plpgsql"})
_COLLATION = re.compile(r'\bCOLLATE pg_catalog\.(?P<name>\w+|"(?:[^"]|"")+")')
_SQLSTATES = re.compile("53...|58...|F0000|57P..")
"""Insufficient resources, system errors, errors of configuration files, shutdowns (errcodes-appendix.html in PostgreSQL's manual)."""
_UNDEFINED = re.compile("42...")
_DENIED = "42501"
_WORDS = re.compile(
    r"(?:^|ERROR:  )(?:"
    r"could not (?:access file|load library|open (?:.* )?file|find function) .*"
    r"|.* (?:must|can only) be (?:pre)?loaded .*"
    r'|invalid value for parameter "(?:lc_|TimeZone|session_preload|local_preload).*'
    r'|collation ".*" for encoding ".*" does not exist'
    r"|security label provider .* not loaded"
    r"|ICU is not supported .*"
    r")"
)
_WORDS_OF_DENIAL = re.compile(r"ERROR:  (?:permission denied|must be |must have |only superuser|Only roles with)")
_NO_CONNECTION = re.compile(r"(?:pg_restore|psql) failed: (?:connection to |could not connect to )")


def is_shortage(
    sentence: str, refused: RefusedStatement | None, toc: Toc, versions: Mapping[str, str], server: Server
) -> bool:
    """True if the restore failed because the server lacks something, so that the failure is no evidence against the backup.

    ``versions`` has the versions of the backed-up database's extensions, by name. Even on pgstow's own server, a role may lack a right: on the
    backed-up server, the role may have had the right by membership in another role. Raises ConnectionFailed.
    """
    if refused is None:
        return _NO_CONNECTION.match(sentence) is not None  # a setting of the database may refuse every session
    if _WORDS.search(refused.message) or _SQLSTATES.fullmatch(refused.sqlstate):
        return True
    if _is_denied(refused, server):
        return True
    if _kind_of(refused.statement) in _KINDS or _needs_library(refused.statement):
        return True
    return _lacks_collation(refused.statement, server) or bool(
        _other_versions(versions, server) & _extensions_of(refused, toc, versions)
    )


def _kind_of(statement: str) -> str:
    """Return the kind of object that a statement makes or changes, by pg_dump's name; empty if the kind isn't in ``_KINDS``."""
    match = _STATEMENT.match(statement)
    words = match["words"] if match else statement
    return next((kind for kind in _KINDS if re.match(rf"{kind}\b", words)), "")


def _needs_library(statement: str) -> bool:
    language = _LANGUAGE.search(statement) if _FUNCTION.match(statement) else None
    return language is not None and language["name"] not in _BUILT_IN


def _is_denied(refused: RefusedStatement, server: Server) -> bool:
    """True if the role lacks a right.

    If pgstow can't read the message's language, return True unless the server refused rows of a table.
    """
    if refused.sqlstate:
        return refused.sqlstate == _DENIED
    [(language,)] = server.fetch("SHOW lc_messages")
    unreadable = not refused.relation and not re.match(r"C\b|POSIX|en|$", str(language))
    return unreadable or _WORDS_OF_DENIAL.search(refused.message) is not None


def _lacks_collation(statement: str, server: Server) -> bool:
    """True if the statement names a system collation that the server lacks. initdb makes these collations from the machine's locales."""
    named = {match["name"].strip('"').replace('""', '"') for match in _COLLATION.finditer(statement)}
    return bool(named and named - {name for (name,) in server.fetch("SELECT collname FROM pg_catalog.pg_collation")})


def _other_versions(versions: Mapping[str, str], server: Server) -> set[str]:
    """Return the extensions whose version on the server differs from the version in the backed-up database."""
    rows = server.fetch("SELECT name, default_version FROM pg_catalog.pg_available_extensions")
    return {name for name, version in rows if versions.get(name, version) != version}


def _extensions_of(refused: RefusedStatement, toc: Toc, versions: Mapping[str, str]) -> set[str]:
    """Return the extensions on which the refused statement or rows depend, by the archive's dependencies.

    For rows, return only the extension that makes their table. A script has no dependencies: return all extensions if the error is an
    undefined name, or else none.
    """
    if not toc.entries:
        return set(versions) if _UNDEFINED.fullmatch(refused.sqlstate) else set()
    found: Iterable[TocEntry]
    if refused.relation:
        rows = [entry for entry in toc.entries if (entry.description, entry.tag) == ("TABLE DATA", refused.relation)]
        tables = {dump_id for entry in rows for dump_id in entry.dependencies}
        found = [entry for entry in toc.entries if entry.dump_id in tables]
    else:
        found = toc.with_needed(
            entry.dump_id for entry in toc.entries if entry.definition.strip().startswith(refused.statement)
        )
    return {entry.tag for entry in found if entry.description == "EXTENSION"}
