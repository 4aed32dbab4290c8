"""Read the commands of a page of documentation, and make one script of them.

A page is Markdown. These blocks and comments matter:

- A block of ``sh`` is run.
- A block of ``console`` shows output, too. Its lines that begin with ``$`` are run. A line that begins with ``>`` continues a command.
- ``<!-- not run: REASON -->`` before a block: the block isn't run.
- ``<!-- file: NAME -->`` before a block: the block is written to that file.
- ``<!-- run``, then lines of commands, then ``-->``: the commands are run, and readers don't see them.

tests/support/documented_world.py has the servers and stores that the commands reach.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
LANGUAGES = {"sh", "console", "text", "json", "toml", "sql", "ini", "crontab", "yaml", "python", "hcl"}
_SHELL = {"sh", "console"}
_DIRECTIVE = re.compile(r"<!-- (not run|file|run)\b(.*)-->\s*", re.DOTALL)
_END = "END OF THE FILE"


class PageError(Exception):
    """A block or a comment of a page breaks the rules above."""


@dataclass(frozen=True)
class Block:
    """A fenced block, or a comment with commands (whose language is ``sh``)."""

    line: int
    """The line of the page, counted from 1, where the block begins. Its text begins on the next line."""
    language: str
    lines: list[str]
    reason: str = ""
    """Why the block isn't run, if it isn't."""
    file: str = ""
    """The name of the file that has the block's text, if the reader is to make one."""

    @property
    def commands(self) -> list[str]:
        """The lines that are to be typed. A line that isn't is empty."""
        if self.language == "console":
            return [line[2:] if line.startswith(("$ ", "> ")) else "" for line in self.lines]
        return self.lines

    @property
    def is_run(self) -> bool:
        """True if the block is run, and not only read or written to a file."""
        return self.language in _SHELL and not self.reason and not self.file


def text_of(page: str) -> str:
    """Return the text of a page, which is named as in ``docs/restoring.md``."""
    return (ROOT / page).read_text("utf-8")


def blocks_of(page: str, text: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order. Raises PageError."""
    comment, value, line = "", "", 0
    for token in MarkdownIt().parse(text):
        if token.type == "fence":
            assert token.map
            language = (token.info.split() or [""])[0]
            if language not in LANGUAGES | {""}:
                expected = " ".join(sorted(LANGUAGES))
                raise PageError(
                    f"{page}:{token.map[0] + 1}: the language of a block is {language!r}, not one of: {expected}"
                )
            known = {"reason": value if comment == "not run" else "", "file": value if comment == "file" else ""}
            yield Block(token.map[0] + 1, language, token.content.splitlines(), **known)
            comment = ""
        elif token.type == "html_block" and (directive := _DIRECTIVE.fullmatch(token.content)):
            assert token.map
            if comment:
                break
            comment, value, line = directive[1], directive[2].removeprefix(":").strip(), token.map[0] + 1
            if comment == "run":
                yield Block(line, "sh", token.content.splitlines()[1:-1])
                comment = ""
            elif not value:
                raise PageError(f"{page}:{line}: '{comment}' needs a colon and a text")
        elif comment:
            break
    if comment:
        raise PageError(f"{page}:{line}: '{comment}' isn't followed by a block")


def script_of(page: str, text: str) -> str:
    """Return a script of bash with a page's commands, which prints each before it runs. Raises PageError.

    Each command has the line number that it has in the page. So bash says where it is.
    """
    blocks = list(blocks_of(page, text))
    for block in blocks:
        if not block.language:
            raise PageError(f"{page}:{block.line}: the block has no language")
    if not any(block.is_run for block in blocks):
        raise PageError(f"{page} has no commands to run")
    script = ["set -x"]
    for block in blocks:
        if not block.is_run and not block.file:
            continue
        script += [""] * (block.line - len(script) - 1)
        if block.file:
            name = shlex.quote(block.file)
            script += [f"mkdir -p \"$(dirname {name})\"; cat > {name} <<'{_END}'", *block.lines, _END]
        else:
            script += ["", *block.commands]
    return "\n".join(script) + "\n"
