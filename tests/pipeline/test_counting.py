import re
from pathlib import Path

from pipeline.counting import counted


def test_a_count_comes_with_the_noun_in_singular_or_plural() -> None:
    assert counted(0, "table") == "0 tables"
    assert counted(1, "large object") == "1 large object"
    assert counted(3000, "row") == "3,000 rows"
    assert [counted(number, "entry", "entries") for number in (1, 2)] == ["1 entry", "2 entries"]


def test_no_message_has_a_count_with_a_fixed_plural() -> None:
    """A literal such as ``{number} tables`` would print "1 tables"."""
    nouns = "attestation|backup|database|day|file|hour|job|manifest|member|minute|object|problem|row|run|session|statement|table"
    plural = re.compile(rf"(?<!of )\{{(?:len\([^{{}}]*\)|[a-z_.]+)(?::,)?\}} (?:\w+ )?(?:{nouns})s\b")
    at_least_two = "{len(refs)} backups begin with"
    root = Path(__file__).parents[2]
    found = {
        line.strip()
        for package in ("cli", "pipeline")
        for path in (root / package).rglob("*.py")
        for line in path.read_text().splitlines()
        if plural.search(line) and "== 1" not in line and at_least_two not in line
    }
    assert found == set()
