"""Tests of new files: a file has the chosen settings, explains every key, and is valid."""

import os
import re
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InvalidRequest
from pipeline.nightly.config_file import ConfigFile
from pipeline.nightly.new_file import USUAL_RETENTION, Choices, compose, create
from pipeline.nightly.retention import Retention
from pipeline.nightly.settings import (
    DatabaseSettings,
    DestinationSettings,
    EncryptionSettings,
    Monitoring,
    Options,
)

PLAIN = Choices("shop", "service=shop", {"s3": "s3://my-backups/postgres"})
ALL = Choices(
    "server",
    "host=db1 user=backup",
    {"s3": "s3://my-backups/postgres", "folder": "/mnt/backups"},
    all_databases=True,
    password_file=Path("/run/secrets/backup"),
    cluster="prod",
    verify="archive",
    keep=USUAL_RETENTION,
)


@pytest.mark.parametrize("choices", [PLAIN, ALL], ids=["plain", "all"])
def test_every_key_is_explained(choices: Choices) -> None:
    tables = re.split(r"^#?\[(?=\w)", compose(choices), flags=re.MULTILINE)[1:]
    models = [
        Options,
        *[DestinationSettings] * len(choices.urls),
        DatabaseSettings,
        EncryptionSettings,
        Retention,
        Monitoring,
    ]
    assert len(tables) == len(models)
    for table, model in zip(tables, models, strict=True):
        named = re.findall(r"^(?:#   (\w+): \w|#?(\w+) = )", table, re.MULTILINE)
        own = set(model.model_fields) - (set(Options.model_fields) if model is DatabaseSettings else set())
        assert sorted("".join(names) for names in named) == sorted(own)


def test_a_new_file_has_the_chosen_settings() -> None:
    assert tomllib.loads(compose(PLAIN)) == {
        "defaults": {},
        "destinations": {"s3": {"url": "s3://my-backups/postgres"}},
        "databases": {"shop": {"conninfo": "service=shop"}},
        "encryption": {},
        "monitoring": {},
    }
    assert tomllib.loads(compose(ALL)) == {
        "defaults": {"cluster": "prod", "verify": "archive"},
        "destinations": {"s3": {"url": "s3://my-backups/postgres"}, "folder": {"url": "/mnt/backups"}},
        "databases": {
            "server": {
                "conninfo": "host=db1 user=backup",
                "password_file": "/run/secrets/backup",
                "all_databases": True,
            }
        },
        "retention": {"default": {"keep_daily": 14, "keep_monthly": 12}},
        "encryption": {},
        "monitoring": {},
    }


def test_the_retention_in_the_comments_is_valid() -> None:
    without_marks = re.sub(r"^#(?=\[|\w)", "", compose(PLAIN), flags=re.MULTILINE)
    config = ConfigFile(Path("pgstow.toml"), without_marks).parse({})
    assert config.retention["default"].keep_daily == USUAL_RETENTION["keep_daily"]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from(
    ['"]\n[x', "\\", "a\x7fb", "'''", "# x", "ä ö", "\r\n\t"]
)


@settings(deadline=None)
@given(TEXTS, TEXTS, TEXTS)
def test_any_names_can_be_written_and_read(name: str, conninfo: str, url: str) -> None:
    content = tomllib.loads(compose(Choices(name, conninfo, {"folder": url}, cluster=url)))
    assert content["databases"] == {name: {"conninfo": conninfo}}
    assert content["destinations"] == {"folder": {"url": url}}
    assert content["defaults"] == {"cluster": url}


def test_only_the_owner_may_read_a_new_file_and_no_file_is_overwritten(tmp_path: Path) -> None:
    path, dangling = tmp_path / "pgstow.toml", tmp_path / "link"
    before = os.umask(0)
    try:
        create(path, "ä")
    finally:
        os.umask(before)
    assert path.read_text("utf-8") == "ä"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    dangling.symlink_to(tmp_path / "elsewhere")
    for existing in (path, dangling, tmp_path / "no" / "folder"):
        with pytest.raises(InvalidRequest, match="Cannot make"):
            create(existing, "other")
    assert path.read_text("utf-8") == "ä"
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(UnicodeEncodeError):
        create(tmp_path / "half", "a\ud800")
    assert not (tmp_path / "half").exists()
