"""Counts in words."""


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """Return the count with the noun in singular or plural: ``1 table`` or ``3,000 tables``. ``plural`` is None for the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
