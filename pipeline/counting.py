"""Counts in words."""


def counted(count: int, noun: str) -> str:
    """Return the count with the noun in singular or plural: ``1 table`` or ``3,000 tables``. The plural must end in a mere s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
