"""Make the shell completions, and a manual page for each command, when the wheel is built.

hatchling runs this module (see pyproject.toml), and puts the files below ``share``, where shells and man look for them. The text comes from
the command line itself, so that it always agrees with the commands. click-man doesn't recognize typer's options, and leaves them out.
"""

import sys
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

    from tools.command_pages import pages

    names = {"prog_name": "pgstow", "complete_var": "_PGSTOW_COMPLETE"}
    files = {place: get_completion_script(shell=shell, **names) + "\n" for shell, place in PLACES.items()}
    files[PLACES["zsh"]] = _ZSH
    for page in pages():
        files[f"{MANUAL}/{_name(page.path)}.1"] = manual_page(page, version)
    return files


def manual_page(page: Any, version: str) -> str:
    """Return a command's :class:`tools.command_pages.Page` in man's macros."""
    arguments = page.usage.removeprefix(page.path)
    sections: dict[str, list[str]] = {
        "NAME": [f"{_text(_name(page.path))} \\- {_text(page.summary)}"],
        "SYNOPSIS": [f".B {_text(page.path)}", _text(arguments)],
        "DESCRIPTION": [_text(page.summary), *(f".PP\n{_text(paragraph)}" for paragraph in page.paragraphs)],
    }
    if page.arguments:
        sections["ARGUMENTS"] = [line for argument in page.arguments for line in _parameter(argument)]
    for panel, options in page.options.items():
        title = f"OPTIONS: {panel}" if panel else "OPTIONS"
        sections[title] = [line for option in options for line in _parameter(option)]
    if page.commands:
        sections["COMMANDS"] = [
            line for path, summary in page.commands.items() for line in _entry(f"{_name(path)}(1)", summary)
        ]
    if page.examples:
        sections["EXAMPLES"] = [f".PP\n{_text(example)}" for example in page.examples]
    if page.parent:
        sections["SEE ALSO"] = [_text(f"{_name(page.parent)}(1)")]
    body = "\n".join(f'.SH "{_text(title)}"\n' + "\n".join(lines) for title, lines in sections.items())
    return f'.TH "{_text(_name(page.path).upper())}" 1 "" "pgstow {version}" "pgstow"\n{body}\n'


def _name(path: str) -> str:
    return path.replace(" ", "-")


def _parameter(parameter: Any) -> list[str]:
    facts = "; ".join(f"{name}: {value}" if value else name for name, value in parameter.facts.items())
    return _entry(parameter.term, f"{parameter.help} [{facts}]" if facts else parameter.help)


def _entry(term: str, text: str) -> list[str]:
    return [".TP", f".B {_text(term)}", _text(text)]


def _text(text: str) -> str:
    """Return text for man without macros. A person can copy its hyphens, since they are minus signs."""
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain
