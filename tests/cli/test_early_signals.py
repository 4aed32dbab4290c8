"""Ctrl-C while Python still imports pgstow ends it with a sentence, not with a traceback."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "module", ["typer._click.core", "typer", "cli.errors", "cli.command", "cli.trust_options", "pyrage"]
)
def test_an_interrupt_at_an_early_moment(module: str, tmp_path: Path) -> None:
    """Python prints each import as it ends (``-X importtime``), so that the signal comes at a known moment."""
    command = [sys.executable, "-X", "importtime", "-m", "cli", "show", "--from", tmp_path, "--identity", "-"]
    # The command waits for standard input, so it can't end before the signal.
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line.rpartition("|")[2].strip() == module for line in process.stderr)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 128 + signal.SIGINT, rest
    assert "Traceback" not in rest
    assert "pgstow: Stopped by SIGINT; no backup was changed." in rest


def test_the_installed_command_begins_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["scripts"] == {"pgstow": "cli.__main__:main"}
