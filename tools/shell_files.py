"""Make the shell completions, and a manual page for each command, when the wheel is built.

hatchling runs this module (see pyproject.toml), and puts the files below ``share``, where shells and man look for them. The text comes from
the command line itself, so that it always agrees with the commands. click-man doesn't recognize typer's options, and leaves them out.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACES = {
    "bash": "share/bash-completion/completions/pgstow",
    "zsh": "share/zsh/site-functions/_pgstow",
    "fish": "share/fish/vendor_completions.d/pgstow.fish",
}
MANUAL = "share/man/man1"

# typer's own script is for a .zshrc. As an autoloaded function, it would complete nothing the first time.
_ZSH = """\
#compdef pgstow
eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" _PGSTOW_COMPLETE=complete_zsh pgstow)
"""


class ShellFiles(BuildHookInterface):
    """Add the files to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the files to ``build/``, and name their places in the wheel. An editable install gets none."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        for place, text in shell_files(self.metadata.version).items():
            file = Path(self.root, "build", place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")
            build_data["shared_data"][str(file)] = place


def shell_files(version: str) -> dict[str, str]:
    """Return the text of each file by its place."""
    from typer.completion import get_completion_script
    from typer.main import get_command

    from cli.main import app

    names = {"prog_name": "pgstow", "complete_var": "_PGSTOW_COMPLETE"}
    files = {place: get_completion_script(shell=shell, **names) + "\n" for shell, place in PLACES.items()}
    files[PLACES["zsh"]] = _ZSH
    for page in _pages(get_command(app), "pgstow", parent=None):
        files[f"{MANUAL}/{page.command_path.replace(' ', '-')}.1"] = manual_page(page, version)
    return files


def _pages(command: Any, name: str, parent: Any) -> Iterator[Any]:
    """Yield the context of the command and of every command below it."""
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    yield context
    for below, sub in getattr(command, "commands", {}).items():
        yield from _pages(sub, below, context)


def manual_page(context: Any, version: str) -> str:
    """Return the manual page of a command in man's macros."""
    command, path = context.command, context.command_path
    named = path.replace(" ", "-")
    summary, *paragraphs = _paragraphs(command.help)
    sections: dict[str, list[str]] = {
        "NAME": [f"{_text(named)} \\- {_text(summary)}"],
        "SYNOPSIS": [f".B {_text(path)}", _text(" ".join(command.collect_usage_pieces(context)))],
        "DESCRIPTION": [_text(summary), *paragraphs],
    }
    for parameter in command.get_params(context):
        if not getattr(parameter, "hidden", False):
            kind = "ARGUMENTS" if parameter.param_type_name == "argument" else "OPTIONS"
            panel = getattr(parameter, "rich_help_panel", None)
            lines = sections.setdefault(f"{kind}: {panel}" if panel else kind, [])
            lines += _entry(*(parameter.get_help_record(context) or (parameter.human_readable_name, "")))
    below = getattr(command, "commands", {})
    if below:
        sections["COMMANDS"] = [
            line
            for name, sub in below.items()
            for line in _entry(f"{named}-{name}(1)", (sub.help or "").split("\n")[0])
        ]
    if command.epilog:
        title, *examples = _paragraphs(command.epilog)
        sections[title.rstrip(":").upper()] = examples
    if context.parent:
        sections["SEE ALSO"] = [_text(f"{context.parent.command_path.replace(' ', '-')}(1)")]
    body = "\n".join(f'.SH "{_text(title)}"\n' + "\n".join(lines) for title, lines in sections.items())
    return f'.TH "{_text(named.upper())}" 1 "" "pgstow {version}" "pgstow"\n{body}\n'


def _paragraphs(text: str | None) -> list[str]:
    """Return the first paragraph as plain text, and the other paragraphs in man's macros."""
    first, *others = re.split(r"\n\s*\n", (text or "").strip())
    return [first, *(f".PP\n{_text(paragraph)}" for paragraph in others)]


def _entry(term: str, text: str) -> list[str]:
    return [".TP", f".B {_text(term)}", _text(text)]


def _text(text: str) -> str:
    """Return text for man without macros. A person can copy its hyphens, since they are minus signs."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
