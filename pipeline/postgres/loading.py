"""Settings of the sessions that restore, which decide what the text of a dump means and that neither pg_dump nor pg_restore sets.

``setup_connection`` in pg_dump.c and ``_doSetFixedOutputState`` in pg_backup_archiver.c set the others: DateStyle, IntervalStyle,
extra_float_digits, xmloption, search_path, row_security, standard_conforming_strings, the client's encoding. A time with a zone has its
offset, and bytea its format in it; dates in ISO style and intervals in PostgreSQL's are read alike under each style.
"""

import re
from collections.abc import Iterable

from pipeline.errors import ConnectionFailed, RestoreFailed
from pipeline.manifest import Source
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.server import Server
from pipeline.postgres.toc import TocEntry

_OF_MONEY = {
    "TABLE": r"""^\s+(?:"(?:[^"]|"")+"|[^\s"(),]+) money\b(?!\.)""",
    "TYPE": r"""^\s+(?:"(?:[^"]|"")+"|[^\s"(),]+) money\b(?!\.)|\bsubtype = money\b""",
    "DOMAIN": r"\bAS money\b(?!\.)",
}
"""How definitions name the type. pg_dump writes the schema before the name of any type that isn't the system's."""
_CAST = r"::money\b"
_NEVER_READ = frozenset({"COMMENT", "FUNCTION", "PROCEDURE"})
"""Entries that hold text which a restore doesn't look into."""
_MADE_OF_MONEY = (
    "WITH RECURSIVE money (oid) AS (VALUES ('pg_catalog.money'::pg_catalog.regtype::pg_catalog.oid) UNION "
    "SELECT t.oid FROM money m JOIN pg_catalog.pg_type t ON m.oid IN (t.typelem, t.typbasetype))"
)
_LIKE_C = re.compile(r"(?:C|POSIX|en_US)(?:\.[\w-]+)?(?:@\w+)?", re.IGNORECASE)
"""Locales in which money is written alike, so that C, which each server has, will do for them (``cash_out`` in cash.c)."""


def session_default(server: Server, setting: str) -> str:
    """Return what a setting is in new sessions like this one, whatever this session set it to."""
    [(value,)] = server.fetch("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = %s", [setting])
    return str(value)


def names_money(entries: Iterable[TocEntry]) -> bool:
    """True if something in an archive has the type money, whose text is in the format of ``lc_monetary``."""
    return any("money" in entry.definition and _names_money(entry) for entry in entries)


def _names_money(entry: TocEntry) -> bool:
    patterns = [_OF_MONEY.get(entry.description.removeprefix("FOREIGN ")), _CAST]
    return entry.description not in _NEVER_READ and any(
        re.search(pattern, entry.definition, re.MULTILINE) for pattern in patterns if pattern
    )


def has_money(server: Server) -> bool:
    """True if something in the database, but for the system's own, has the type money or is made of it."""
    [(found,)] = server.fetch(
        f"{_MADE_OF_MONEY} "  # noqa: S608 - constants
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND atttypid IN (TABLE money)) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_range WHERE rngtypid >= 16384 AND rngsubtype IN (TABLE money))"
    )
    return bool(found)


def has_types_of_money(server: Server) -> bool:
    """True if the database has a domain, a composite type or a range of money, of which tables to restore may be made."""
    [(found,)] = server.fetch(
        f"{_MADE_OF_MONEY} SELECT EXISTS (SELECT FROM money WHERE oid >= 16384) "  # noqa: S608 - constants
        "OR EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
        "WHERE c.oid >= 16384 AND c.relkind = 'c' AND a.atttypid IN (TABLE money)) "
        "OR EXISTS (SELECT FROM pg_catalog.pg_range WHERE rngtypid >= 16384 AND rngsubtype IN (TABLE money))"
    )
    return bool(found)


def as_dumped(target: Conninfo, source: Source, *, money: bool) -> Conninfo:
    """Return the target for sessions in which the text of the dump means what it meant where it was dumped.

    Settings that the target's sessions have anyway aren't set: some poolers take no options. Raises RestoreFailed where the server lacks
    the locale that ``money`` is written in.
    """
    with Server(target) as server:
        if session_default(server, "array_nulls") != "on":
            target = target.with_setting("array_nulls", "on")
        wanted = source.lc_monetary
        if money and wanted is not None and not writes_money_alike(wanted, session_default(server, "lc_monetary")):
            locale = "C" if _LIKE_C.fullmatch(wanted) else wanted
            try:
                server.fetch("SELECT pg_catalog.set_config('lc_monetary', %s, true)", [locale])
            except ConnectionFailed as exc:
                raise RestoreFailed(
                    f"The backup's money is written as in the locale {wanted}, which the server doesn't know, and would be read wrong: install "
                    "that locale on the server's machine, and restart the server."
                ) from exc
            target = target.with_setting("lc_monetary", locale)
    return target


def money_setting(source: Source) -> str | None:
    """Return the locale that a script has to set by itself for its money; None where each server reads it alike, or nobody knows."""
    return source.lc_monetary if source.lc_monetary and not _LIKE_C.fullmatch(source.lc_monetary) else None


def writes_money_alike(one: str, other: str) -> bool:
    """True if both locales are known to write money alike."""
    return _normalized(one) == _normalized(other)


def _normalized(locale: str) -> str:
    """The encoding's name is spelled in more than one way."""
    return "C" if _LIKE_C.fullmatch(locale) else locale.lower().replace("-", "")
