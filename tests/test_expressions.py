"""Regular expressions match the same in each version of Python that pgstow runs on."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("cli", "pipeline", "storage_backends")
POSSESSIVE_GROUP = re.compile(r"\)(?:[*+?]|\{[0-9,]+\})\+")


def test_no_group_is_possessive() -> None:
    """Python before 3.11.5 matches too much by a possessive group in which it goes back (gh-106052). Atomic groups are right."""
    modules = [module for package in PACKAGES for module in (ROOT / package).rglob("*.py")]
    assert [module for module in modules if POSSESSIVE_GROUP.search(module.read_text())] == []
