"""Write the generated part of docs/: JSON Schemas and the tables of keys from the models, docs/command-line.md from the command line.

Run ``make reference`` after a change of an option or a model. A test fails if a file is stale.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.audit.policy import policy_schema
from pipeline.audit.report import report_schema
from pipeline.catalog.attestation import attestation_schema
from pipeline.catalog.manifest import manifest_schema
from pipeline.nightly.settings import config_schema
from tools.command_pages import Page, Parameter, pages

DOCS = Path(__file__).parents[1] / "docs"

_INTRODUCTION = """\
# Command line

This page lists every command of pgstow with its arguments and options. `pgstow COMMAND --help` and `man pgstow-COMMAND` print the
same. The page is made from the program by `make reference`.

- Square brackets mark what you may leave out. `...` marks what you may repeat.
- Sizes are numbers of bytes, or numbers with a unit such as `192MiB`. Units are powers of 1024.
- `--debug` and `--version` stand before the command. Every command also has `--help`, or `-h`.
- [Store options](store-options.md) lists what `--store-option` takes.
- [Exit codes](exit-codes.md) lists what pgstow returns to the shell.

"""
_ENVIRONMENT = """\
## Environment variables

An option on the command line wins over its variable.

"""
_CODE = re.compile(
    r"(?<![\w`-])(?:--?[A-Za-z1][\w-]*|(?:s3|gs|https?)://[^\s,;]*|\?\w+=\S+|\w+_\w+|\w*\.(?:toml|prom)|\[[\w.]+\]|\{ .*? \}|\[\".*?\"\])(?!\w)"
)
"""What is set as code: options, URLs, names with an underscore, and TOML."""


_MOST_VALUES = 10
"""The most values that a table lists. The schema lists them all."""


def reference() -> dict[Path, str]:
    """Return the text of each generated file."""
    schemas = {
        "attestation": attestation_schema(),
        "audit": policy_schema(),
        "audit-report": report_schema(),
        "config": config_schema(),
        "manifest": manifest_schema(),
    }
    configuration, policy = DOCS / "configuration.md", DOCS / "audit.md"
    return {
        **{DOCS / f"{name}.schema.json": json.dumps(schema, indent=2) + "\n" for name, schema in schemas.items()},
        configuration: with_keys(configuration.read_text("utf-8"), schemas["config"]),
        policy: with_keys(policy.read_text("utf-8"), schemas["audit"]),
        DOCS / "command-line.md": command_line(list(pages())),
    }


def command_line(commands: Sequence[Page]) -> str:
    """Return the page about the command line."""
    return _INTRODUCTION + "\n".join([*map(_command, commands), _ENVIRONMENT + _variables(commands)])


def _command(page: Page) -> str:
    depth = max(2, page.path.count(" ") + 1)
    parts = [
        f"{'#' * depth} {page.path}",
        *map(_prose, [page.summary, *page.paragraphs]),
        f"```text\n{page.usage}\n```",
    ]
    if page.commands:
        rows = ((f"[{path}](#{path.replace(' ', '-')})", _prose(text)) for path, text in page.commands.items())
        parts.append(_table(("Command", "What it does"), rows))
    if page.arguments:
        parts.append(_parameters("Argument", page.arguments))
    parts += [_parameters(panel or "Option", options) for panel, options in page.options.items()]
    if page.examples:
        parts.append("```sh\n" + "\n".join(page.examples) + "\n```")
    return "\n\n".join(parts) + "\n"


def _parameters(title: str, parameters: Iterable[Parameter]) -> str:
    rows = []
    for each in parameters:
        if each.term.endswith("--help"):
            continue
        term = ", ".join(f"`{word}`" for word in each.term.split(", "))
        facts = [
            each.facts.get("range", ""),
            "required" * ("required" in each.facts),
        ]
        facts.append(f"or {each.facts['env var']} of the environment" if "env var" in each.facts else "")
        added = ", ".join(filter(None, facts))
        words = re.fullmatch("(.+)(?:[.;] Default: (.+)|; by default (.+)|; (.+) by default)", each.help)
        help_, *defaults = words.groups() if words else (each.help, each.facts.get("default"))
        meaning = _prose(help_ + (f" ({added})" if added else ""))
        rows.append((term, meaning, _value(next(filter(None, defaults), ""))))
    return _table((title, "Meaning", "Default"), rows)


def _variables(commands: Iterable[Page]) -> str:
    found: dict[str, dict[str, list[str]]] = {}
    for page in commands:
        for option in (option for options in page.options.values() for option in options):
            for name in re.findall(r"PGSTOW_\w+", f"{option.help} {option.facts.get('env var')}"):
                spelling = re.search(r"--[\w-]+", option.term)
                found.setdefault(name, {}).setdefault(spelling[0] if spelling else option.term, []).append(page.path)
    rows = (
        (f"`{name}`", "; ".join(f"`{option}` of {_links(paths)}" for option, paths in options.items()))
        for name, options in sorted(found.items())
    )
    return _table(("Variable", "Option"), rows) + "\n"


def _links(paths: Iterable[str]) -> str:
    return ", ".join(f"[{path.removeprefix('pgstow ')}](#{path.replace(' ', '-')})" for path in paths)


def with_keys(page: str, schema: Mapping[str, Any]) -> str:
    """Return a page with a table of keys after each ``<!-- keys of TABLE -->``, in place of the table there."""

    def table(match: re.Match[str]) -> str:
        defs, (name, _, without) = schema["$defs"], match[1].partition(" without ")
        hidden = defs[without]["properties"] if without else {}
        keys = {key: value for key, value in defs[name]["properties"].items() if key not in hidden}
        rows = (_key(key, value, required=key in defs[name].get("required", ())) for key, value in keys.items())
        return f"{match[0].partition(chr(10))[0]}\n\n{_table(('Key', 'Value', 'Meaning', 'Default'), rows)}\n\n<!-- end -->"

    return re.sub(r"<!-- keys of (.+?) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def _key(key: str, schema: Mapping[str, Any], *, required: bool) -> tuple[str, str, str, str]:
    description = next(part["description"] for part in _alternatives(schema) if "description" in part)
    meaning, _, default = description.partition("; default: ")
    if not default and schema.get("default") is not None:
        default = json.dumps(schema["default"])
    if default in next((part["enum"] for part in _alternatives(schema) if "enum" in part), ()):
        default = f"`{default}`"
    return f"`{key}`", _kind(schema), _prose(meaning), "required" if required else _value(default or "none")


def _kind(schema: Mapping[str, Any]) -> str:
    """Return the kind of value in words."""
    kinds = [part for part in _alternatives(schema) if part.get("type") not in (None, "null")]
    if words := [f"`{part['const']}`" for part in kinds if "const" in part]:
        others = _kind({"anyOf": [part for part in kinds if "const" not in part]})
        return f"{', '.join([others, *words[:-1]])} or {words[-1]}"
    kind = kinds[0]
    if len(kind.get("enum", ())) > _MOST_VALUES:
        return "text"
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if {part["type"] for part in kinds} == {"integer", "string"}:
        return "size"
    if {part["type"] for part in kinds} == {"object", "string"}:
        return 'text or `{ env = "NAME" }`'
    if "exclusiveMinimum" in kind:
        bounds = f"above {kind['exclusiveMinimum']}, at most {kind['maximum']}"
    elif "maximum" in kind:
        bounds = f"{kind['minimum']} to {kind['maximum']}"
    else:
        bounds = f"from {kind.get('minimum')}"
    match kind["type"]:
        case "array":
            return "list of " + {"text": "texts"}.get(_kind(kind["items"]), _kind(kind["items"]))
        case "integer" | "number":
            return f"{'whole ' * (kind['type'] == 'integer')}number, {bounds}"
        case "boolean":
            return "`true` or `false`"
        case "object":
            return '`{ env = "NAME" }`'
        case _:
            return "duration" if "pattern" in kind else kind.get("format", "text")


def _alternatives(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield schema
    for part in schema.get("anyOf", ()):
        yield from _alternatives(part)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table without the columns that no row fills."""
    cells = [list(row) for row in rows]
    used = [place for place in range(len(titles)) if any(row[place] for row in cells)]
    lines = [[titles[place] for place in used], ["---"] * len(used), *([row[place] for place in used] for row in cells)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _value(text: str) -> str:
    plain = text.removesuffix(".0")
    if plain.startswith("`"):
        return plain
    return f"`{plain}`" if re.fullmatch(r"\S*[\d_\"]\S*|true|false", plain) else _prose(plain)


def _prose(text: str) -> str:
    """Return text as Markdown, in which options, URLs and names of settings are code."""
    return _CODE.sub(lambda match: f"`{match[0]}`", text.replace("*", "\\*").replace("<", "&lt;"))


if __name__ == "__main__":
    for place, text in reference().items():
        place.write_text(text, "utf-8")
