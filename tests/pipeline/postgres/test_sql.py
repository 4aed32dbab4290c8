"""In all of pgstow's SQL, names of PostgreSQL's own objects have their schema."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PIPELINE = Path(__file__).parents[3] / "pipeline"
STATEMENT = re.compile(r"\b(?:SELECT|FROM|WHERE|JOIN|CASE)\b")
KEYWORDS = {
    "coalesce",
    "greatest",
    "nullif",
    "extract",
    "in",
    "values",
    "filter",
    "exists",
    "any",
    "array",
    "as",
    "over",
    "and",
    "or",
    "not",
    "from",
}
"""Words that look like functions, but are key words of the grammar."""
KEYWORDS |= {"with", "recursive", "select", "union", "on", "using", "join", "lateral"}
CALL = re.compile(r"(?<![\w.%])([a-z_]+) ?\(", re.IGNORECASE)
CATALOG = re.compile(r"\b(?:FROM|JOIN) (pg_\w+)(?!\w*\.)")
CAST = re.compile(r"::(?!bigint|integer|boolean)([a-z_]\w*)(?!\w*\.)")
ALIASES = {"chain", "money", "names", "wanted", "parts"}
"""Aliases of tables inside a query. A list of columns follows each in parentheses, so the alias looks like a function."""


def statements(module: Path) -> Iterator[str]:
    """Yield the texts of a module that look like SQL, without docstrings."""
    tree = ast.parse(module.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if id(node) in docs:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_name_in_sql_has_its_schema() -> None:
    for text in (text for module in PIPELINE.rglob("*.py") for text in statements(module)):
        if not STATEMENT.search(text) or "pg_" not in text:
            continue
        sql = re.sub(r"'[^']*'", "''", text)  # literals hold no names
        calls = {name for name in CALL.findall(sql) if name.lower() not in KEYWORDS | ALIASES}
        assert not calls, (calls, text)
        assert not CATALOG.findall(sql), text
        assert not CAST.findall(sql), text
