"""Wide characters: in some encodings of clients, a character may have bytes that look like ASCII (``pg_*_mblen`` in wchar.c).

psql reads such a character as a whole, so pgstow must, too.
"""

import re

_WIDE = {
    **dict.fromkeys(("SJIS", "SHIFT_JIS_2004"), rb"[\x80-\xa0\xe0-\xff]."),
    **dict.fromkeys(("BIG5", "GBK", "UHC"), rb"[\x80-\xff]."),
    "JOHAB": rb"\x8f..|[\x80-\x8e\x90-\xff].",
    "GB18030": rb"[\x80-\xff][0-9]..|[\x80-\xff][^0-9]",
}
"""A pattern of one wide character, by PostgreSQL's name of the encoding."""
_CHARACTERS = {encoding: re.compile(wide, re.DOTALL) for encoding, wide in _WIDE.items()}
_WHOLE_CHARACTERS = {
    encoding: re.compile(
        rb"(?>(?:[\x00-\x7f%b]++|%b)*)" % (rb"\xa1-\xdf" if "JIS" in encoding else b"", wide), re.DOTALL
    )
    for encoding, wide in _WIDE.items()
}


def is_wide(encoding: str) -> bool:
    """True if a character in the encoding may have bytes that look like ASCII."""
    return encoding in _WIDE


def hide_wide(text: bytes, encoding: str, *, last: bool) -> bytes:
    r"""Return the text up to its last whole character, with each byte of a wide character replaced by ``\xff``.

    If ``last`` is true, no text follows, and the result has all of the text.
    """
    if not is_wide(encoding) or text.isascii():
        return text
    whole = _WHOLE_CHARACTERS[encoding].match(text)
    end = whole.end() if whole and not last else len(text)
    return _CHARACTERS[encoding].sub(lambda character: b"\xff" * len(character[0]), text[:end])
