"""Text in PostgreSQL's encodings, and names of a database that takes any bytes (SQL_ASCII)."""

import codecs
import re
from functools import cache

ANY_BYTES = "SQL_ASCII"
_KNOWN = re.compile(
    r"BIG5|EUC_(?:CN|JP|JIS_2004|KR|TW)|GB18030|GBK|ISO_8859_[5-8]|JOHAB|KOI8[RU]|LATIN(?:[1-9]|10)|SJIS|SHIFT_JIS_2004|UHC|UTF8|WIN\d{3,4}"
)
"""PostgreSQL's names (``pg_enc2name_tbl`` in encnames.c). Python has other codecs, and a hostile script may name one."""
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


@cache
def python_codec(encoding: str) -> str:
    """Python's codec for an encoding by PostgreSQL's name; UTF-8's where there is none."""
    if not _KNOWN.fullmatch(encoding):
        return "utf-8"
    try:
        return codecs.lookup(re.sub(r"^KOI8", "koi8-", re.sub(r"^WIN(?=\d)", "cp", encoding))).name
    except LookupError:
        return "utf-8"


def shown(data: bytes, encoding: str) -> str:
    r"""Text in an encoding by PostgreSQL's name; ``\xe9`` stands for a byte that isn't of it.

    In a database that takes any bytes, ``\x5c`` stands for a backslash that would begin the like, so that :func:`unshown` gives the bytes back.
    """
    if encoding == ANY_BYTES:
        data = _ESCAPE.sub(rb"\\x5cx\1", data)
    return data.decode(python_codec(encoding), "backslashreplace")


def unshown(text: str) -> bytes:
    """The bytes, in a database that takes any, of what :func:`shown` gave."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
