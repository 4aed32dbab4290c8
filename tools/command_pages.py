"""Read what the command line says of each command, for the manual pages and for docs/command-line.md."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Parameter:
    """An argument, or an option with all its spellings."""

    term: str
    """How to write it, such as ``-j, --jobs N``."""
    help: str
    facts: Mapping[str, str]
    """What typer adds to the help, by ``default``, ``env var``, ``range`` and ``required``."""


@dataclass(frozen=True)
class Page:
    """A command's page."""

    path: str
    """The words that call the command, such as ``pgstow backup``."""
    parent: str | None
    """The path of the command above; None for pgstow itself."""
    summary: str
    paragraphs: Sequence[str]
    """The paragraphs of the help after the summary."""
    usage: str
    arguments: Sequence[Parameter]
    options: Mapping[str, Sequence[Parameter]]
    """The options by the title of their panel. The common options come first, with an empty title."""
    commands: Mapping[str, str]
    """The paths of the commands below, with their summaries."""
    examples: Sequence[str]


def pages() -> Iterator[Page]:
    """Yield a page for pgstow, and for each command below it."""
    from typer.main import get_command

    from cli.main import app

    yield from _pages(get_command(app), "pgstow", parent=None)


def _pages(command: Any, name: str, parent: Any) -> Iterator[Page]:
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    below = getattr(command, "commands", {})
    shown = [each for each in command.get_params(context) if not getattr(each, "hidden", False)]
    options: dict[str, list[Parameter]] = {}
    for each in shown:
        if each.param_type_name == "option":
            options.setdefault(each.rich_help_panel or "", []).append(_parameter(each, context))
    summary, *paragraphs = _split(command.help)
    yield Page(
        path=context.command_path,
        parent=context.parent and context.parent.command_path,
        summary=summary,
        paragraphs=paragraphs,
        usage=re.sub(r"{(\w+)}", r"\1", " ".join([context.command_path, *command.collect_usage_pieces(context)])),
        arguments=[_parameter(each, context) for each in shown if each.param_type_name == "argument"],
        options={title: options[title] for title in sorted(options, key=lambda title: title != "")},
        commands={f"{context.command_path} {name}": _split(sub.help)[0] for name, sub in below.items()},
        examples=_split(command.epilog)[1:],
    )
    for name, sub in below.items():
        yield from _pages(sub, name, context)


def _parameter(parameter: Any, context: Any) -> Parameter:
    term, text = parameter.get_help_record(context) or (parameter.human_readable_name, "")
    added = re.search(r"  \[(.*)\]$", text)
    facts = {}
    for fact in added[1].split("; ") if added else ():
        name, colon, value = fact.partition(": ")
        if colon:
            facts[name] = value.removeprefix("(").removesuffix(")")
        elif bounds := re.fullmatch(r"(\d+)<=x<=(\d+)", fact):
            facts["range"] = f"from {bounds[1]} to {bounds[2]}"
        elif least := re.fullmatch(r"x>=(\d+)", fact):
            facts["range"] = f"{least[1]} or more"
        else:
            facts[fact] = ""
    if parameter.param_type_name == "argument":
        term = term.partition(" <")[0]  # Python's name of the type says nothing to a person
    return Parameter(re.sub(r"<(.*)>$", r"\1", term), " ".join((parameter.help or "").split()), facts)


def _split(text: str | None) -> list[str]:
    """Return the paragraphs, each in a line; an empty one if there is no text."""
    return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", (text or "").strip())]
