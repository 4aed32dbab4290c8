"""Characters of clients' encodings that may have bytes of ASCII in them (``pg_*_mblen`` in wchar.c). psql skips such characters whole."""

import re

_WIDE = {
    **dict.fromkeys(("SJIS", "SHIFT_JIS_2004"), rb"[\x80-\xa0\xe0-\xff]."),
    **dict.fromkeys(("BIG5", "GBK", "UHC"), rb"[\x80-\xff]."),
    "JOHAB": rb"\x8f..|[\x80-\x8e\x90-\xff].",
    "GB18030": rb"[\x80-\xff][0-9]..|[\x80-\xff][^0-9]",
}
"""For each such encoding, by PostgreSQL's name: a pattern of one wide character."""
_CHARACTERS = {encoding: re.compile(wide, re.DOTALL) for encoding, wide in _WIDE.items()}
_WHOLE_CHARACTERS = {
    encoding: re.compile(
        rb"(?>(?:[\x00-\x7f%b]++|%b)*)" % (rb"\xa1-\xdf" if "JIS" in encoding else b"", wide), re.DOTALL
    )
    for encoding, wide in _WIDE.items()
}


def is_wide(encoding: str) -> bool:
    """True if a character in the encoding may have bytes of ASCII in it."""
    return encoding in _WIDE


def hide_wide(text: bytes, encoding: str, *, last: bool) -> bytes:
    """Return the text up to the last whole character, with filler of the same length in place of wide characters.

    If ``last`` is true, no text follows, and the whole text is returned.
    """
    if not is_wide(encoding) or text.isascii():
        return text
    whole = _WHOLE_CHARACTERS[encoding].match(text)
    end = whole.end() if whole and not last else len(text)
    return _CHARACTERS[encoding].sub(lambda character: b"\xff" * len(character[0]), text[:end])
