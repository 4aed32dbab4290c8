"""What README.md and docs/operations.md promise is what the command line has."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command_lines import PROGRAM, parse

from cli.errors import ExitCode

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
SHELL = ("sh", "console", "crontab", "ini")
STORE_VARIABLE = "PGSTOW_STORE"
"""README names a store on each line; docs/operations.md has it in the environment."""


def shell_lines(page: str) -> Iterator[str]:
    """The lines to type in a page's fenced blocks, without prompts."""
    for language, block in re.findall(r"^ *```(\w+)\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE):
        if language in SHELL:
            lines = block.splitlines()
            yield from (line.removeprefix("$ ") for line in lines if language != "console" or line.startswith("$ "))


def pgstow_command_lines(page: str) -> list[list[str]]:
    """The arguments of each ``pgstow``, whatever stands before and after it."""
    found = []
    for line in shell_lines(page):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "@:%"
        words = list(lexer)
        names = [place for place, word in enumerate(words) if word == "pgstow" or word.endswith("/bin/pgstow")]
        if names:
            rest = words[names[0] + 1 :]
            end = next((place for place, word in enumerate(rest) if set(word) <= set("();<>|&")), len(rest))
            found.append(rest[:end])
    return found


@pytest.mark.parametrize("arguments", pgstow_command_lines(README), ids=shlex.join)
def test_every_command_line_parses(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(STORE_VARIABLE, raising=False)
    parse(arguments)


@pytest.mark.parametrize("arguments", pgstow_command_lines(OPERATIONS), ids=shlex.join)
def test_every_command_line_of_the_operators_page_parses(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STORE_VARIABLE, "s3://my-backups/postgres")
    parse(arguments)


def test_command_lines_are_found_at_all() -> None:
    commands = {arguments[0] for arguments in pgstow_command_lines(README)}
    assert commands >= set(PROGRAM.commands), "each command has an example"
    assert ["backup", "service=shop", "--to", "s3://my-backups/postgres", "--quiet"] in pgstow_command_lines(README)
    nightly = ["backup", "service=shop", "--all-databases", "--databases-at-once", "2", "--retries", "3", "--quiet"]
    assert nightly in pgstow_command_lines(OPERATIONS), "by cron"


def test_a_wrong_option_would_be_found() -> None:
    for arguments in (["backup", "shop", "--to", "x", "--no-such"], ["config", "check", "--no-such"]):
        with pytest.raises(Exception, match="No such option"):
            parse(arguments)


def test_the_table_of_exit_codes_is_complete() -> None:
    section = README.partition("\n## Exit codes\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| ([\w ]+) \|", section, re.MULTILINE)
    assert rows == [(str(code.value), code.name.lower().replace("_", " ")) for code in ExitCode]


def test_make_targets_exist_and_ci_runs_the_same() -> None:
    targets = {line.split()[1] for line in shell_lines(README) if line.startswith("make ")}
    defined = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "lint", "test"} <= targets <= defined
    run_by_ci = set(re.findall(r"^make (\w+)", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE))
    assert run_by_ci == {"lint", "test"}


def test_links_to_headings_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", README, re.M)
    }
    from_elsewhere = set(re.findall(r"\]\(\.\./README\.md#([^)]+)\)", OPERATIONS))
    assert from_elsewhere
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) | from_elsewhere <= headings
