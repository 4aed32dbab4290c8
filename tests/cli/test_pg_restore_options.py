"""docs/pg_restore-options.md agrees with the command line. tests/integration/test_versions.py compares the page with pg_restore itself."""

import re
from pathlib import Path

import pytest
from support.in_process import call_pgstow
from support.pg_restore_page import OPTIONS, PageOption
from support.pgstow import assert_one_sentence
from typer.main import get_command

from cli.main import app
from cli.refused_options import OF_PG_RESTORE
from pipeline.postgres.restore_options import SINCE, option_of

COMMAND = get_command(app).commands["restore"]
KNOWN = {spelling for parameter in COMMAND.params for spelling in parameter.opts} | {"-h", "--help"}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.spellings[-1])
def test_an_option_is_supported_or_refused_with_the_reason_on_the_page(option: PageOption, tmp_path: Path) -> None:
    taken = set(option.spellings) & KNOWN
    if option.refusal is None:
        assert taken == set(option.spellings)
        return
    assert taken <= {"-h", "--help"}
    for spelling in set(option.spellings) - taken:
        result = call_pgstow("restore", "--from", tmp_path, f"{spelling}=x" if spelling.startswith("--") else spelling)
        line = assert_one_sentence(result, 2, re.escape(f"pgstow restore doesn't take {spelling}: {option.refusal}."))
        assert "doesn't" in line


def test_the_page_has_each_refused_option_and_each_version() -> None:
    refused = {spelling for option in OPTIONS if option.refusal for spelling in option.spellings} - {"-h", "--help"}
    assert refused == {spelling for spellings in OF_PG_RESTORE for spelling in spellings}
    supported = {option.spellings[-1]: option.since for option in OPTIONS if option.since and not option.refusal}
    assert supported == {option_of(name): major for name, major in SINCE.items()}


def test_an_unknown_option_is_still_unknown(tmp_path: Path) -> None:
    result = call_pgstow("restore", "--from", tmp_path, "--frobnicate")
    assert result.exit_code == 2
    assert "No such option" in result.stderr
    assert "No such option" in call_pgstow("list", "--from", tmp_path, "--strict-names").stderr


def test_each_option_has_a_text() -> None:
    assert [parameter.opts[0] for parameter in COMMAND.params if not getattr(parameter, "help", "")] == []
