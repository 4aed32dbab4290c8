"""A new database gets the encoding and the locale of another database, from every provider."""

import pytest
from support.postgres_fixtures import Database
from support.shelf import SOURCE

from pipeline.catalog.origin import Source
from pipeline.errors import ConnectionFailed
from pipeline.postgres.conninfo import Conninfo
from pipeline.postgres.locales import locale_options
from pipeline.postgres.server import Server
from pipeline.postgres.throwaway import ThrowawayCluster


def spelled(major: int, **changes: str | None) -> str:
    source = SOURCE.model_copy(update={"encoding": "UTF8", "collation": "C", "character_type": "C", **changes})
    return " ".join(option.as_string() for option in locale_options(source, major))


def test_the_options_are_those_of_pg_dump() -> None:
    assert spelled(14) == "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"
    plain = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER "
    assert spelled(15) == f'{plain}"libc"'
    icu = {"locale_provider": "i", "locale": "de-DE"}
    assert spelled(15, **icu) == f"{plain}\"icu\" ICU_LOCALE 'de-DE'"
    assert spelled(16, **icu, icu_rules="&a < 'g'") == f"{plain}\"icu\" ICU_LOCALE 'de-DE' ICU_RULES '&a < ''g'''"
    assert spelled(17, locale_provider="b", locale="C.UTF-8") == f"{plain}\"builtin\" BUILTIN_LOCALE 'C.UTF-8'"


@pytest.fixture
def server(postgres: ThrowawayCluster) -> Database:
    """A server whose new databases have a locale of ICU by default."""
    server = Database("postgres", postgres.conninfo())
    if server.fetch("SELECT 1 WHERE current_setting('server_version_num')::int / 10000 <> 15"):
        pytest.skip("this test writes to columns as PostgreSQL 15 has them")
    return server


@pytest.mark.parametrize(("provider", "locale"), [("c", None), ("i", "de-DE")])
def test_the_new_database_has_the_sources_provider(server: Database, provider: str, locale: str | None) -> None:
    template = "WHERE datname = 'template0'"
    before = server.fetch(f"SELECT datlocprovider, quote_nullable(daticulocale) FROM pg_database {template}")[0]
    like: Source = SOURCE.model_copy(
        update={
            "encoding": "UTF8",
            "collation": "C",
            "character_type": "C",
            "locale_provider": provider,
            "locale": locale,
        }
    )
    server.execute(f"UPDATE pg_database SET datlocprovider = 'i', daticulocale = 'en-US' {template}")
    try:
        with Server(Conninfo.parse(server.conninfo)) as session:
            session.create_database("like_it", like)
        [row] = server.fetch("SELECT datlocprovider, daticulocale FROM pg_database WHERE datname = 'like_it'")
        assert row == (provider, locale)
    finally:
        server.execute(f"UPDATE pg_database SET datlocprovider = '{before[0]}', daticulocale = {before[1]} {template}")
        server.execute("DROP DATABASE IF EXISTS like_it")


def test_a_server_without_the_provider_refuses_the_database(server: Database) -> None:
    """Otherwise, the database would silently get another locale."""
    like = SOURCE.model_copy(update={"locale_provider": "b", "locale": "C.UTF-8"})
    with Server(Conninfo.parse(server.conninfo)) as session, pytest.raises(ConnectionFailed, match="builtin_locale"):
        session.create_database("like_it", like)
