"""Tests that the published schema and docs/configuration.md match the model."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
from pydantic import BaseModel

from pipeline.nightly.config_file import ConfigFile
from pipeline.nightly.jobs import make_jobs
from pipeline.nightly.metrics import METRICS
from pipeline.nightly.retention import Retention
from pipeline.nightly.settings import (
    Config,
    DatabaseSettings,
    DestinationSettings,
    Monitoring,
    Options,
    config_schema,
)
from pipeline.nightly.signatures import Signing, Trust

ROOT = Path(__file__).parents[3]
REFERENCE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```$", REFERENCE, re.DOTALL | re.MULTILINE)


def test_the_published_schema_matches_the_model() -> None:
    published = json.loads((ROOT / "docs" / "config.schema.json").read_text("utf-8"))
    assert published == json.loads(json.dumps(config_schema())), "run make reference"
    jsonschema.Draft202012Validator.check_schema(published)


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_in_the_documentation_are_valid(text: str, tmp_path: Path) -> None:
    path = tmp_path / "pgstow.toml"
    path.write_text(re.sub("password_file = .*", "", text))
    jsonschema.validate(tomllib.loads(text), config_schema())
    file = ConfigFile(path)
    jobs = make_jobs(
        file, file.parse({"PGSTOW_PING": "https://hc.example.com/uuid", "PGSTOW_NOTIFY": "json://localhost"}), (), {}
    )
    assert [job.name for job in jobs] == list(tomllib.loads(text)["databases"])


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[databases.a]\nconninfo = ''",
        "[destinations.a]\nurl = '/a'\n[databases.a]\nconninfo = 1",
        "[destinations.a]\nurl = '/a'\nurls = '/a'\n[databases.a]\nconninfo = ''",
        "[destinations.a]\nurl = { enw = 'A' }\n[databases.a]\nconninfo = ''",
    ],
)
def test_the_schema_refuses_wrong_files(text: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tomllib.loads(text), config_schema())


@pytest.mark.parametrize(
    ("heading", "model", "inherited"),
    [
        ("[defaults]", Options, BaseModel),
        ("[databases.NAME]", DatabaseSettings, Options),
        ("[destinations.NAME]", DestinationSettings, BaseModel),
        ("[retention.NAME]", Retention, BaseModel),
        ("[signing]", Signing, BaseModel),
        ("[trust]", Trust, BaseModel),
        ("[monitoring]", Monitoring, BaseModel),
    ],
)
def test_every_key_is_explained(heading: str, model: type[BaseModel], inherited: type[BaseModel]) -> None:
    section = REFERENCE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
    explained = [key for row in rows for key in re.findall(r"`(\w+)`", row)]
    assert set(explained) == set(model.model_fields) - set(inherited.model_fields)
    assert len(explained) == len(set(explained))


def test_every_table_has_a_section() -> None:
    sections = set(re.findall(r"^## \[(\w+)", REFERENCE, re.MULTILINE))
    assert sections == set(Config.model_fields)


def test_every_metric_is_explained() -> None:
    rows = re.findall(r"^\| (`pgstow_[^|]*) \|", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(METRICS)
