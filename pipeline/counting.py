"""Counts in words."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return the count and the noun: ``1 table`` or ``3,000 tables``. If ``plural`` is None, the plural is the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
