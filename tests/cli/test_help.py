"""What ``--help`` says: of every option what it does, and of every command an example."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.command_lines import commands, parse
from support.in_process import call_pgstow

COMMANDS = dict(commands())
LEAVES = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]
WIDTH = 80
STORE_OPTIONS = Path(__file__).parents[2] / "docs" / "store-options.md"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.delenv("PGSTOW_STORE", raising=False)


def help_of(path: tuple[str, ...]) -> str:
    result = call_pgstow(*path[1:], "--help")
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize(("path", "command"), COMMANDS.items(), ids=map(" ".join, COMMANDS))
def test_every_option_says_what_it_does(path: tuple[str, ...], command: Any) -> None:
    context = command.make_context(path[-1], [], resilient_parsing=True)
    assert [parameter.opts for parameter in command.get_params(context) if not parameter.help] == []
    shown = help_of(path)
    assert "<bool>" not in shown, "a flag takes no value"
    assert not re.search("<(int|str|float|list)", shown), "Python's names of types say nothing to a person"
    assert "[[" not in shown, "one pair of brackets says that an argument may be left out"


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_an_example_that_parses(path: tuple[str, ...]) -> None:
    heading, examples = help_of(path).rpartition("\n Example")[1:]
    assert heading
    first, *lines = filter(str.strip, examples.splitlines())
    assert first.rstrip() == ("s:" if len(lines) > 1 else ":")
    for line in lines:
        assert line.startswith(f" {' '.join(path)}"), "none is broken into two lines"
        words = shlex.split(line)
        end = next((place for place, word in enumerate(words) if word in {">", "|"}), None)
        parse(words[1:end])


def test_timeouts_and_retries_stand_by_themselves() -> None:
    panel = help_of(("pgstow", "backup")).partition("─ Timeouts and retries ─")[2].partition("╰")[0]
    for option in ("--lock-wait-timeout", "--statement-timeout", "--retries"):
        assert option in panel


def test_every_option_of_a_store_is_named() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", STORE_OPTIONS.read_text("utf-8"), re.MULTILINE))
    assert {"endpoint", "create"} < named
    panel = help_of(("pgstow", "check")).partition("─ The store ─")[2].partition("╰")[0]
    assert named <= set(re.findall(r"\w+", panel))
