"""The encoding and the locale of a database, as CREATE DATABASE takes them."""

from psycopg import sql

from pipeline.catalog.origin import Source

_PROVIDERS = {"c": ("libc", None), "i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}
"""The provider's name and the option for its locale, by pg_database.datlocprovider."""


def locale_options(like: Source, major: int) -> list[sql.Composable]:
    """Return the options that give a new database the encoding and locale of another database, on a server of this major version.

    pg_dump --create writes the same options (dumpDatabase() in pg_dump.c). From version 15 on, the options always name the provider, since
    template0 may have another one. A server refuses the options if it lacks the provider or doesn't know an option.
    """
    provider, locale_option = _PROVIDERS[like.locale_provider]
    options: list[sql.Composable] = [
        sql.SQL("ENCODING {}").format(like.encoding),
        sql.SQL("LC_COLLATE {}").format(like.collation),
        sql.SQL("LC_CTYPE {}").format(like.character_type),
    ]
    if locale_option is not None or major >= 15:
        options.append(sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(provider)))
    if locale_option is not None and like.locale is not None:
        options.append(sql.SQL("{} {}").format(sql.SQL(locale_option), like.locale))
    if like.icu_rules is not None:
        options.append(sql.SQL("ICU_RULES {}").format(like.icu_rules))
    return options
