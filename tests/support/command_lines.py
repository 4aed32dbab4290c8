"""Command lines of pgstow, parsed without being run."""

from collections.abc import Iterator, Sequence
from typing import Any

from typer.main import get_command

from cli.main import app

PROGRAM = get_command(app)


def commands(group: Any = PROGRAM, path: tuple[str, ...] = ("pgstow",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield the program, its groups and its commands, each with the words that name it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


def parse(arguments: Sequence[str]) -> None:
    """Parse the arguments as the command line does. Raises the exception that would end the command line.

    An option that does its work at once, such as --version, isn't parsed.
    """
    if list(arguments) in (["--version"], ["--install-completion"]):
        return
    command: Any = PROGRAM
    context, rest = PROGRAM.make_context("pgstow", list(arguments)), list(arguments)
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        assert command is not None
        context = command.make_context(name, list(rest), parent=context)
