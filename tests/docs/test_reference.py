"""What is generated in docs/ says what the command line and the models say now."""

import dataclasses
from pathlib import Path

import pytest
from support.command_lines import commands

from pipeline.backup.request import BackupRequest
from pipeline.config import Limits
from pipeline.nightly.settings import Config, config_schema
from tools.command_pages import pages
from tools.reference import DOCS, reference, with_keys

FILES = reference()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_fresh(path: Path) -> None:
    assert path.read_text("utf-8") == FILES[path], "run make reference, and look at what changed"


def test_a_change_would_be_found() -> None:
    schema = config_schema()
    schema["$defs"]["Options"]["properties"]["jobs"]["description"] = "How many; default: 7"
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert "| How many | `7` |" in with_keys(page, schema)


def test_every_command_has_a_section_with_each_option() -> None:
    page = (DOCS / "command-line.md").read_text("utf-8")
    for path, command in commands():
        heading = f"{'#' * max(2, len(path))} {' '.join(path)}\n"
        assert page.count(f"\n{heading}") == 1
        section = page.partition(f"\n{heading}")[2].partition("\n#")[0]
        for parameter in command.params:
            for spelling in parameter.opts if parameter.param_type_name == "option" else ():
                assert f"`{spelling}`" in section or f"`{spelling} " in section


def test_no_type_of_python_is_left() -> None:
    terms = [
        each.term
        for page in pages()
        for each in [*page.arguments, *(option for of in page.options.values() for option in of)]
    ]
    assert len(terms) > 100
    assert [term for term in terms if "<" in term or "[" in term] == []


def test_every_table_of_keys_is_there() -> None:
    page = (DOCS / "configuration.md").read_text("utf-8")
    models = set(config_schema()["$defs"])
    for model in models:
        assert f"<!-- keys of {model}" in page
    assert len(models) == len(Config.model_fields)


def test_the_defaults_in_words_are_those_of_the_program() -> None:
    keys = config_schema()["$defs"]["Options"]["properties"]
    usual = {key: keys[key]["description"].partition("; default: ")[2] for key in keys}
    limits = Limits()
    assert usual["transfers"] == str(limits.transfers)
    for key, value in (("memory", limits.memory), ("spool_limit", limits.spool), ("object_size", limits.object_size)):
        assert usual[key] == f"{value // 2**20}MiB"
    request = {field.name: field.default for field in dataclasses.fields(BackupRequest)}
    for key in ("format", "level", "lock_wait_timeout", "statement_timeout"):
        assert usual[key] == str(request[key])
