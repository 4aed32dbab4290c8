"""Write the pages that show the record in docs/benchmarks.json: ``python -m benchmarks.publish``.

The pages are docs/benchmarks.md, README's table of other tools, and the model's print in docs/performance.md.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from benchmarks.model import Plan, model
from benchmarks.record import Record
from benchmarks.report import render, rivals

_CHECKOUT = Path(__file__).parents[1]
RECORD = _CHECKOUT / "docs" / "benchmarks.json"


def pages(record: Record) -> Mapping[Path, str]:
    """Return the text of each page. Raise ValueError if a page lacks the marks of its block."""
    readme, performance = _CHECKOUT / "README.md", _CHECKOUT / "docs" / "performance.md"
    return {
        _CHECKOUT / "docs" / "benchmarks.md": render(record),
        readme: _with_block(readme, "benchmarks", rivals(record)),
        performance: _with_block(performance, "model", f"```text\n{model(record, Plan())}\n```"),
    }


def _with_block(page: Path, name: str, block: str) -> str:
    """Return the page's text with another block between ``<!-- name -->`` and ``<!-- /name -->``."""
    text, found = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)",
        lambda match: str(match[1]) + block + "\n" + str(match[2]),
        page.read_text(encoding="utf-8"),
        flags=re.DOTALL,
    )
    if found != 1:
        raise ValueError(f"{page.name} has {found} blocks named {name} instead of 1")
    return text


def main() -> None:
    """Write all pages."""
    for path, text in pages(Record.load(RECORD)).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
