"""Each command line in a page fits pgstow's command line, also where the page's commands aren't run."""

import re
import shlex
from collections.abc import Iterator

import pytest
from support.command_lines import PROGRAM, parse
from support.pages import ROOT, Block, PageError, blocks_of, script_of, text_of

from cli.errors import ExitCode

PAGES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "terraform/**/README.md")
    for path in ROOT.glob(pattern)
    if path.name not in {"CHANGELOG.md", "benchmarks.md", "benchmarks-scale.md"}
)
"""All pages except the changelog, and except the printed benchmarks, whose commands have variables in place of numbers."""
_TYPED = ("sh", "console", "crontab", "ini")
_BEFORE = re.compile(r"\w+=.*|--|--rm|!|if|while|then|do|time|env|sudo")
"""Words before the name of a program. After other words, ``pgstow`` is the name of a user, a package, a bucket …"""


def _simple_commands(block: Block) -> Iterator[list[str]]:
    """Yield the words of each command in a block, without what the shell takes for itself."""
    text = ""
    for line in block.commands:
        text += line.removesuffix("\\") + " "
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.wordchars += "@:%,"
        try:
            words = [*lexer, ";"]
        except ValueError:  # a quotation goes on in the next line
            text = text[:-1] + "\n"
            continue
        if line.endswith("\\"):
            continue
        text, command = "", []
        for word in words:
            if set(word) <= set("();<>|&"):
                if word[0] in "<>" and command and command[-1].isdigit():
                    command.pop()
                yield command
                command = []
            else:
                command.append(word)
    assert not text.strip(), f"a quotation doesn't end: {text}"


def _typed_commands(page: str) -> Iterator[list[str]]:
    for block in blocks_of(page, text_of(page)):
        if block.language in _TYPED:
            yield from _simple_commands(block)


def pgstow_command_lines(page: str) -> list[list[str]]:
    """Return the arguments of each ``pgstow``, whatever stands before it."""
    found = []
    for words in _typed_commands(page):
        for place, word in enumerate(words):
            named = word == "pgstow" and (place == 0 or _BEFORE.fullmatch(words[place - 1]))
            if named or word.endswith("/bin/pgstow"):
                found.append(words[place + 1 :])
    return found


@pytest.mark.parametrize("page", PAGES)
def test_each_command_line_parses(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSTOW_STORE", "s3://my-backups/postgres")
    for arguments in pgstow_command_lines(page):
        try:
            parse([argument.replace("$head", "0" * 64) for argument in arguments])  # the variable holds a SHA-256
        except Exception as error:
            pytest.fail(f"{page}: pgstow {shlex.join(arguments)}: {error}", pytrace=False)


def test_each_command_has_an_example() -> None:
    written = set(PAGES) - {"docs/command-line.md"}  # which is generated
    assert {arguments[0] for page in written for arguments in pgstow_command_lines(page)} >= set(PROGRAM.commands)


def test_a_wrong_option_would_be_found() -> None:
    for arguments in (["backup", "shop", "--to", "x", "--no-such"], ["config", "check", "--no-such"]):
        with pytest.raises(Exception, match="No such option"):
            parse(arguments)


def test_commands_are_found_among_other_words() -> None:
    block = Block(
        1,
        "sh",
        [
            "runuser --user pgstow -- pgstow list 2>log # all",
            "pgstow check \\",
            "  --json && ~/bin/pgstow verify --assert 'SELECT true",
            "FROM x' | cat",
        ],
    )
    assert list(filter(None, _simple_commands(block))) == [
        ["runuser", "--user", "pgstow", "--", "pgstow", "list"],
        ["log"],
        ["pgstow", "check", "--json"],
        ["~/bin/pgstow", "verify", "--assert", "SELECT true\nFROM x"],
        ["cat"],
    ]


def test_the_table_of_exit_codes_is_complete() -> None:
    rows = re.findall(r"^\| `?(\d+)`? \| `?([\w ]+)`? \|", text_of("docs/exit-codes.md"), re.MULTILINE)
    assert rows[: len(ExitCode)] == [(str(code.value), code.name.lower().replace("_", " ")) for code in ExitCode]


def test_make_targets_exist_and_ci_runs_the_same() -> None:
    named = {words[1] for page in PAGES for words in _typed_commands(page) if words[:1] == ["make"] and len(words) > 1}
    defined = set(re.findall(r"^([a-z]+):", text_of("Makefile"), re.MULTILINE))
    assert named <= defined
    assert {"demo", "test"} <= named
    assert "make test" in text_of("README.md")
    assert set(re.findall(r"^make (\w+)", text_of(".ci/run"), re.MULTILINE)) == {"lint", "test"}


PAGE = """\
# A page

<!-- run
true hidden
-->

1. A step:

   ```sh
   true first \\
     second
   ```

<!-- not run: needs systemd -->
```sh
systemctl start pgstow
```

<!-- file: some/folder/a file -->
```toml
key = "$value"
```

```console
$ true typed
its output
```
"""


def test_a_script_has_the_lines_of_its_page() -> None:
    script = script_of("a page", PAGE).splitlines()
    page = PAGE.splitlines()
    for text in ("true hidden", "true first \\", "  second", 'key = "$value"', "true typed"):
        assert text in page[script.index(text)], text
    assert "systemctl" not in "".join(script)
    assert "its output" not in script


@pytest.mark.parametrize(
    "text",
    [
        "    false\n",
        "<!-- not run -->\n```sh\nfalse\n```\n",
        "<!-- not run: -->\n```sh\nfalse\n```\n",
        "<!-- not run: needs systemd -->\n",
        "<!-- not run: needs systemd -->\n\nSome text.\n\n```sh\ntrue\n```\n",
        "<!-- file: a -->\n<!-- file: b -->\n```sh\ntrue\n```\n",
        "```bash\ntrue\n```\n",
        "```\ntrue\n```\n\n```sh\ntrue\n```\n",
        "<!-- not run: needs systemd -->\n```sh\ntrue\n```\n",
    ],
)
def test_a_page_that_breaks_a_rule_is_found(text: str) -> None:
    with pytest.raises(PageError):
        script_of("a page", text)
