"""The command line treats every option of pg_dump and pg_dumpall as docs/pg_dump-options.md says."""

import json
import re
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support.pgstow import assert_one_sentence, run_pgstow
from support.shelf import BackupBuilder
from typer.main import get_command

from cli.main import app
from pipeline.catalog.origin import DumpOptions
from pipeline.pg_dump_options import REFUSED, SUPPORTED, DumpOption, names_of_refused
from storage_backends.local import LocalBackend

PAGE = (Path(__file__).parents[2] / "docs" / "pg_dump-options.md").read_text("utf-8")


def rows_of(text: str) -> dict[str, str]:
    """Return the rows of a page's tables of options: the first cell, which has an option's names, and the text of the cells after it."""
    return dict(re.findall(r"^\| (`-[^|]*`) \|(?: (.*))? \|$", text, re.MULTILINE))


ROWS = rows_of(PAGE)
TAKEN = rows_of(PAGE.partition("## Options that pgstow refuses")[0])


def listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def supported_row(option: DumpOption) -> tuple[str, str]:
    names = listed([name for name in (option.short, option.name, option.also) if name])
    since = str(option.since or "")
    of_all = "no" if option.metavar in ("PATTERN", "FILE") else "yes" if option.in_pg_dumpall else "not `-F plain`"
    partial = "yes" if option.leaves_out else "no"
    return names, f"{option.help} | {since} | {partial} | {'`-F plain` only' if option.plain_only else of_all}"


def refused_row(name: str) -> tuple[str, str]:
    reason = REFUSED[name]
    return listed(names_of_refused(name)), reason if reason.startswith("pgstow") else reason[0].upper() + reason[1:]


@pytest.mark.parametrize("row", [*map(supported_row, SUPPORTED), *map(refused_row, REFUSED)], ids=lambda row: row[0])
def test_the_page_says_what_the_table_of_options_says(row: tuple[str, str]) -> None:
    """The comparison leaves out backticks, since only the page shows options as code."""
    assert ROWS[row[0]].replace("`", "") == row[1].replace("`", ""), f"| {row[0]} | {row[1]} |"


@pytest.mark.parametrize("program", ["pg_dump", "pg_dumpall"])
def test_every_option_of_18_is_on_the_page(program: str, programs: Callable[[int], Path]) -> None:
    told = subprocess.run([programs(18) / program, "--help"], capture_output=True, text=True, check=True).stdout
    options = {
        name
        for line in re.findall(r"^  (-.*)$", told, re.MULTILINE)
        for name in re.findall(r"(?<!\S)--?[\w?-]+", line[:35])
    }
    assert len(options) > 60
    on_page = {name for names in ROWS for name in re.findall(r"`([^`]+)`", names)}
    assert options - on_page == set()


def test_what_the_page_says_pgstow_takes_it_takes() -> None:
    commands: Any = get_command(app)
    taken = {name for parameter in commands.commands["backup"].params for name in parameter.opts}
    assert len(TAKEN) > 40
    for names in TAKEN.keys() - {"`--help`"}:
        assert set(re.findall(r"`([^`]+)`", names)) <= taken, names
    checked = {name for parameter in commands.commands["check"].params for name in parameter.opts}
    assert {option.name for option in SUPPORTED} <= checked


@pytest.mark.parametrize("command", ["backup", "check"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--inserts"], "--inserts: .*COPY"),
        (["-Z", "9"], "-Z: .*--level"),
        (["-r"], "say --roles-only"),
        (["-xc"], "-c: it belongs to a restore"),
        (["--filter", "/nonexistent"], "filters /nonexistent can't be read"),
        (["-b", "-B"], "exclude each other"),
        (["-O"], "--no-owner unless the format is plain"),
        (["-E", "nonsense"], "can't dump in the encoding 'nonsense'"),
    ],
)
def test_what_pgstow_does_not_take_has_a_reason(command: str, arguments: list[str], words: str, tmp_path: Path) -> None:
    assert_one_sentence(run_pgstow(command, "--to", tmp_path, *arguments), 2, words)


def test_a_manifest_commands_no_terminal_by_its_options(tmp_path: Path) -> None:
    """A writer of the store can put any option into a manifest. pgstow shows such options, and treats the backup as partial."""
    dump = DumpOptions(format="directory", jobs=1, only=None, options=["--role=\x1b]0;title\x07", "[bold]x[/bold]"])
    with closing(LocalBackend(tmp_path)) as store:
        ref = BackupBuilder(store).add(timedelta(hours=1), dump=dump)
    shown = run_pgstow("show", ref.backup_id, "--from", tmp_path)
    assert shown.exit_code == 0
    assert "--role=␛]0;title␇ [bold]x[/bold]" in shown.stdout
    assert (
        json.loads(run_pgstow("show", ref.backup_id, "--from", tmp_path, "--json").stdout)["dump"]["options"]
        == dump.options
    )
    assert_one_sentence(run_pgstow("verify", "--from", tmp_path, "--level", "objects", "-q"), 8)


def test_what_nobody_takes_is_the_command_lines_to_tell(tmp_path: Path) -> None:
    assert "No such option: --unheard-of" in run_pgstow("backup", "--to", tmp_path, "--unheard-of").stderr
    assert "No such option: --inserts" in run_pgstow("restore", "--from", tmp_path, "--inserts").stderr


def test_of_a_server_only_what_pg_dumpall_has(tmp_path: Path) -> None:
    for arguments, words in (
        (["-g", "-B"], "only options of pg_dumpall"),
        (["-A", "-e", "x"], "backs up whole databases"),
        (["-A", "-F", "plain", "-B"], "pg_dumpall, .* has no --no-large-objects"),
    ):
        assert_one_sentence(run_pgstow("backup", "--to", tmp_path, *arguments), 2, words)
