"""Settings that decide how a server reads a dump's text, but that neither pg_dump nor pg_restore sets.

The programs set DateStyle, IntervalStyle, extra_float_digits, xmloption, search_path, row_security, standard_conforming_strings and the
client's encoding (``setup_connection`` in pg_dump.c, ``_doSetFixedOutputState`` in pg_backup_archiver.c). The text of a time with a zone
holds its offset, and the text of bytea shows its format. All servers read dates in ISO style and intervals in PostgreSQL's style the same way.
"""

import re
from collections.abc import Iterable

from pipeline.catalog.origin import Source
from pipeline.errors import BackupDamaged, RestoreFailed, StatementRefused
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TocEntry

_MONEY = r"""(?:money\b|"money")(?!\.)"""
"""The type's name; with --quote-all-identifiers, in quotes."""
_COLUMN_OF_MONEY = rf"""^[ \t]++(?:"(?>(?:[^"]++|"")+)"|[^\s"(),]++) {_MONEY}"""
_OF_MONEY = {
    "TABLE": _COLUMN_OF_MONEY,
    "TYPE": rf"{_COLUMN_OF_MONEY}|\bsubtype = {_MONEY}",
    "DOMAIN": rf"\bAS {_MONEY}",
}
"""Patterns of the type money, by kind of entry. pg_dump writes a schema before the name of each type that isn't the system's."""
_CAST = rf"::{_MONEY}"
_NEVER_READ = frozenset({"COMMENT", "FUNCTION", "PROCEDURE"})
"""Kinds of entries whose text holds no values that a restore reads."""
_MADE_OF_MONEY = (
    "WITH RECURSIVE money (oid) AS (VALUES ('pg_catalog.money'::pg_catalog.regtype::pg_catalog.oid) UNION "
    "SELECT t.oid FROM money m JOIN pg_catalog.pg_type t ON m.oid IN (t.typelem, t.typbasetype))"
)
_LIKE_C = re.compile(r"(?:C|POSIX|en_US)(?:\.[\w-]+)?(?:@\w+)?", re.IGNORECASE)
"""Locales that write money alike (``cash_out`` in cash.c). pgstow uses C for all of them, since each server has it."""


def session_default(server: Server, setting: str) -> str:
    """Return the value that a setting has at the start of a session like this one. Raises ConnectionFailed."""
    [(value,)] = server.fetch("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = %s", [setting])
    return str(value)


def names_money(entries: Iterable[TocEntry]) -> bool:
    """True if an entry uses the type money, whose text depends on ``lc_monetary``."""
    return any("money" in entry.definition and _names_money(entry) for entry in entries)


def _names_money(entry: TocEntry) -> bool:
    patterns = [_OF_MONEY.get(entry.description.removeprefix("FOREIGN ")), _CAST]
    return entry.description not in _NEVER_READ and any(
        re.search(pattern, entry.definition, re.MULTILINE) for pattern in patterns if pattern
    )


def has_money(server: Server) -> bool:
    """True if a relation or a range type of the database uses the type money, or a type made of it. The system's own don't count.

    Raises ConnectionFailed.
    """
    [(found,)] = server.fetch(
        f"{_MADE_OF_MONEY} "  # noqa: S608 - constants
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND atttypid IN (TABLE money)) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_range WHERE rngtypid >= 16384 AND rngsubtype IN (TABLE money))"
    )
    return bool(found)


def has_types_of_money(server: Server) -> bool:
    """True if the database has a domain, a composite type or a range of money. Tables to restore may use these types.

    Raises ConnectionFailed.
    """
    [(found,)] = server.fetch(
        f"{_MADE_OF_MONEY} SELECT EXISTS (SELECT FROM money WHERE oid >= 16384) "  # noqa: S608 - constants
        "OR EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
        "WHERE c.oid >= 16384 AND c.relkind = 'c' AND a.atttypid IN (TABLE money)) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_range WHERE rngtypid >= 16384 AND rngsubtype IN (TABLE money))"
    )
    return bool(found)


def with_dump_settings(target: Conninfo, source: Source, *, money: bool) -> Conninfo:
    """Return the target with the settings under which the dump's text means the same as at the source.

    If the target's sessions already have a setting, it is left out, since some poolers refuse options. ``money`` is true if the dump holds
    money. Raises RestoreFailed if the server lacks the locale of the dump's money, or ConnectionFailed.
    """
    with Server(target) as server:
        if session_default(server, "array_nulls") != "on":
            target = target.with_setting("array_nulls", "on")
        wanted = source.lc_monetary
        if money and wanted is not None and not writes_money_alike(wanted, session_default(server, "lc_monetary")):
            locale = "C" if _LIKE_C.fullmatch(wanted) else wanted
            try:
                server.fetch("SELECT pg_catalog.set_config('lc_monetary', %s, true)", [locale])
            except StatementRefused as exc:
                raise RestoreFailed(
                    f"The backup's money is written in the locale {wanted}, which the server doesn't know, so it would read the money wrong. "
                    "Install the locale on the server's machine, and restart the server."
                ) from exc
            target = target.with_setting("lc_monetary", locale)
    return target


def money_setting(source: Source) -> str | None:
    """Return the locale that a script must set for its money; None if every server reads the money alike, or if the locale is unknown.

    Raises BackupDamaged if the locale's name has characters that could end the statement that sets it.
    """
    if source.lc_monetary and re.search(r"['\\\x00-\x1f]", source.lc_monetary):
        raise BackupDamaged(
            f"The manifest names {source.lc_monetary!r} as the locale of money, but this can't be a locale's name."
        )
    return source.lc_monetary if source.lc_monetary and not _LIKE_C.fullmatch(source.lc_monetary) else None


def writes_money_alike(one: str, other: str) -> bool:
    """True if pgstow knows that both locales write money alike."""
    return _normalized(one) == _normalized(other)


def _normalized(locale: str) -> str:
    """Return one spelling of a locale, since the name of its encoding may have several spellings."""
    return "C" if _LIKE_C.fullmatch(locale) else locale.lower().replace("-", "")
