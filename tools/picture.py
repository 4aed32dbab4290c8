"""Draws docs/pictures/demo.svg: a part of what ``python -m demo`` prints in a terminal. picture.py FILE"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from rich.console import Console
from rich.style import Style
from rich.text import Text

SOURCE = Path(__file__).parents[1]
COMMANDS = ("backup", "list", "verify", "restore")
"""The picture shows the demo's first command of each kind, and what the demo says before the command."""

COLUMNS = 100  # so that `pgstow list` leaves out no column
_COLUMN, _LINE, _MARGIN, _BAR = 7.68, 20, 16, 38  # px: 800 px wide in all

# A progress bar hides the cursor, and erases itself in the end.
_PROGRESS = re.compile(r"\x1b\[\?25l.*?\x1b\[\?25h\r(?:\x1b\[1A)?\x1b\[2K", re.DOTALL)

# The terminal's colours by their numbers, which the escape sequences say. They are readable on the dark background.
_COLORS = {1: ("red", "#ff7b72"), 2: ("green", "#56d364"), 3: ("yellow", "#e3b341"), 4: ("blue", "#79c0ff")}

_PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title desc">
<title id="title">pgstow at work in a terminal</title>
<desc id="desc">A part of what make demo prints: pgstow backs up a database, lists the backup and verifies it. Then a table is dropped. \
pgstow restores the table, and the table is the same as before.</desc>
<style>
text {{ font: 12.8px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", "Liberation Mono", monospace; fill: #d5dce3; \
white-space: pre }}
.bold {{ font-weight: bold; fill: #ffffff }}
{colors}
</style>
<rect x="0.5" y="0.5" width="{frame_width}" height="{frame_height}" rx="8" fill="#0d1117" stroke="#444c56"/>
<path d="M1 {bar}H{right}" stroke="#30363d"/>
<circle cx="21" cy="19" r="6" fill="#ff5f57"/><circle cx="41" cy="19" r="6" fill="#febc2e"/><circle cx="61" cy="19" r="6" fill="#28c840"/>
<text x="{middle}" y="24" text-anchor="middle" style="fill: #9198a1">make demo</text>
{lines}
</svg>
"""


def main() -> None:
    """Write the file that the command line names."""
    Path(sys.argv[1]).write_text(draw(cut(run())), "utf-8")


def run(*arguments: str) -> list[Text]:
    """Return the lines that the demo prints in a terminal, with ``…`` for its folder. Raises subprocess.CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        status, output = _in_terminal([sys.executable, "-m", "demo", *arguments], Path(folder))
        if status:
            raise subprocess.CalledProcessError(status, "demo", output)
        shown = _PROGRESS.sub("", output).replace(f"{folder}/demo-output", "/…")
    return [Text.from_ansi(line) for line in shown.split("\n")]


def cut(lines: Sequence[Text]) -> list[Text]:
    """Return the lines that the picture shows, with a blank line before each title."""
    shown: list[Text] = []
    missing = list(COMMANDS)
    for block in _blocks(lines):
        command = block[0].plain.removeprefix("$ pgstow ").split()[0]
        if command == "==":
            before = [Text(), *block]
        elif command in missing:
            missing.remove(command)
            shown += [*before, *block]
            before = []
        else:
            before = []
    return shown[1:]


def draw(lines: Sequence[Text]) -> str:
    """Return the lines as an SVG of a terminal. Lines that are too long are wrapped between words."""
    console = Console(width=COLUMNS, color_system="standard", force_terminal=True)
    wrapped = [part for line in lines for part in line.wrap(console, COLUMNS)]
    texts = []
    for number, line in enumerate(wrapped):
        y = _BAR + _MARGIN + number * _LINE + 12
        texts += [_text(column, y, text, style) for column, text, style in _runs(line, console)]
    width, height = round(COLUMNS * _COLUMN) + 2 * _MARGIN, _BAR + 2 * _MARGIN + len(wrapped) * _LINE - 6
    return _PICTURE.format(
        width=width,
        height=height,
        frame_width=width - 1,
        frame_height=height - 1,
        bar=_BAR,
        right=width - 1,
        middle=width // 2,
        colors="\n".join(f".{name} {{ fill: {color} }}" for name, color in _COLORS.values()),
        lines="\n".join(texts),
    )


def _in_terminal(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run a command in a pseudo-terminal. Return its exit code, and all that it printed."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "PYTHONPATH": str(SOURCE)}
    for name in ("NO_COLOR", "FORCE_COLOR"):
        environment.pop(name, None)
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=its, stdout=its, stderr=its) as process:
        os.close(its)
        output = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # EIO: on Linux, the end
                break
            if not piece:
                break
            output += piece
    os.close(ours)
    return process.returncode, output.decode().replace("\r\n", "\n")


def _blocks(lines: Sequence[Text]) -> Iterator[list[Text]]:
    """Divide the demo's output. A title begins a block, and so does a command. Blank lines are dropped."""
    block: list[Text] = []
    for line in lines:
        line.rstrip()
        if line.plain.startswith(("== ", "$ pgstow ")):
            if block:
                yield block
            block = []
        if line.plain:
            block.append(line)
    yield block


def _runs(line: Text, console: Console) -> Iterator[tuple[int, str, Style]]:
    """Return each run of text of one style, with the column where it begins. A gap of two spaces ends a run, so that columns stay aligned."""
    column = 0
    for segment in line.render(console):
        for run in re.finditer(r"\S+(?: \S+)*", segment.text):
            yield column + run.start(), run.group(), segment.style or Style()
        column += len(segment.text)


def _text(column: int, y: int, text: str, style: Style) -> str:
    names = ["bold"] if style.bold else []
    if style.color and style.color.number in _COLORS:
        names.append(_COLORS[style.color.number][0])
    classes = f' class="{" ".join(names)}"' if names else ""
    x, length = _MARGIN + column * _COLUMN, len(text) * _COLUMN
    return f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}"{classes}>{escape(text)}</text>'


if __name__ == "__main__":
    main()
