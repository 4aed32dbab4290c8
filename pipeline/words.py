"""Sizes, durations and foreign names in words."""

SYMBOLS = (
    {code: 0x2400 + code for code in range(0x20)}
    | {0x0A: 0x2424, 0x7F: 0x2421}
    | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
    | dict.fromkeys((0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)
    | dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)
)
"""Unicode's symbols for control characters. U+FFFD replaces characters without a symbol: controls above ASCII, marks of text direction,
Unicode's line and paragraph separators, and surrogates (halves of characters)."""


def format_size(size: float) -> str:
    """Return a number of bytes in words, such as ``1.4 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def format_duration(seconds: float) -> str:
    """Return a duration in words, such as ``2h 03m``, ``4m 05s`` or ``6.7s``."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def one_line(text: str) -> str:
    """Return text with symbols instead of control characters. A foreign name must not break a line or control the terminal."""
    return text.translate(SYMBOLS)
