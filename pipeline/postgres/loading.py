"""Settings of restoring sessions that decide the meaning of a dump's text, and that neither pg_dump nor pg_restore makes.

``setup_connection`` in pg_dump.c and ``_doSetFixedOutputState`` in pg_backup_archiver.c make the others: DateStyle, IntervalStyle,
extra_float_digits, xmloption, search_path, row_security, standard_conforming_strings, the client's encoding. The text of a time with a
zone holds its offset, and the text of bytea shows its format. Dates in ISO style and intervals in PostgreSQL's read alike everywhere.
"""

import re
from collections.abc import Iterable

from pipeline.catalog.manifest import Source
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
"""How definitions name the type money. pg_dump writes the schema before the name of any type that isn't the system's."""
_CAST = rf"::{_MONEY}"
_NEVER_READ = frozenset({"COMMENT", "FUNCTION", "PROCEDURE"})
"""Entries whose text a restore doesn't read."""
_MADE_OF_MONEY = (
    "WITH RECURSIVE money (oid) AS (VALUES ('pg_catalog.money'::pg_catalog.regtype::pg_catalog.oid) UNION "
    "SELECT t.oid FROM money m JOIN pg_catalog.pg_type t ON m.oid IN (t.typelem, t.typbasetype))"
)
_LIKE_C = re.compile(r"(?:C|POSIX|en_US)(?:\.[\w-]+)?(?:@\w+)?", re.IGNORECASE)
"""Locales that write money alike (``cash_out`` in cash.c). C, which each server has, stands for them all."""


def session_default(server: Server, setting: str) -> str:
    """Return a setting's value in new sessions like this session, whose own value may differ. Raises ConnectionFailed."""
    [(value,)] = server.fetch("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = %s", [setting])
    return str(value)


def names_money(entries: Iterable[TocEntry]) -> bool:
    """True if an entry has the type money, whose text is in the format of ``lc_monetary``."""
    return any("money" in entry.definition and _names_money(entry) for entry in entries)


def _names_money(entry: TocEntry) -> bool:
    patterns = [_OF_MONEY.get(entry.description.removeprefix("FOREIGN ")), _CAST]
    return entry.description not in _NEVER_READ and any(
        re.search(pattern, entry.definition, re.MULTILINE) for pattern in patterns if pattern
    )


def has_money(server: Server) -> bool:
    """True if a relation or a range type of the database, apart from the system's, has the type money or a type made of it.

    Raises ConnectionFailed.
    """
    [(found,)] = server.fetch(
        f"{_MADE_OF_MONEY} "  # noqa: S608 - constants
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND atttypid IN (TABLE money)) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_range WHERE rngtypid >= 16384 AND rngsubtype IN (TABLE money))"
    )
    return bool(found)


def has_types_of_money(server: Server) -> bool:
    """True if the database has a domain, a composite type or a range of money, of which tables to restore may be made.

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
    """Return the target with settings under which the dump's text means the same as at the source.

    Settings that the target's sessions have anyway are left out, since some poolers take no options. ``money`` is true if the dump holds
    money. Raises RestoreFailed if the server lacks the locale in which the money is written, and ConnectionFailed.
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
                    f"The backup's money is written as in the locale {wanted}, which the server doesn't know, so it would be read wrong. "
                    "Install that locale on the server's machine, and restart the server."
                ) from exc
            target = target.with_setting("lc_monetary", locale)
    return target


def money_setting(source: Source) -> str | None:
    """Return the locale that a script must set for its money; None if every server reads the money alike, or if the locale is unknown.

    Raises BackupDamaged if the name could end the statement that sets it.
    """
    if source.lc_monetary and re.search(r"['\\\x00-\x1f]", source.lc_monetary):
        raise BackupDamaged(
            f"The manifest has {source.lc_monetary!r} for the locale of money, which is not a locale's name."
        )
    return source.lc_monetary if source.lc_monetary and not _LIKE_C.fullmatch(source.lc_monetary) else None


def writes_money_alike(one: str, other: str) -> bool:
    """True if both locales are known to write money alike."""
    return _normalized(one) == _normalized(other)


def _normalized(locale: str) -> str:
    """Return one spelling of a locale: the name of its encoding has several."""
    return "C" if _LIKE_C.fullmatch(locale) else locale.lower().replace("-", "")
