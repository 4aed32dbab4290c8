"""Text in PostgreSQL's encodings, and names in a database that takes any bytes (SQL_ASCII)."""

import codecs
import re
from functools import cache

ANY_BYTES = "SQL_ASCII"
_KNOWN = re.compile(
    r"BIG5|EUC_(?:CN|JP|JIS_2004|KR|TW)|GB18030|GBK|ISO_8859_[5-8]|JOHAB|KOI8[RU]|LATIN(?:[1-9]|10)|SJIS|SHIFT_JIS_2004|UHC|UTF8|WIN\d{3,4}"
)
"""PostgreSQL's names (``pg_enc2name_tbl`` in encnames.c). Python has other codecs, and a hostile script may name one."""
_KNOWN_TO_PG_DUMP = re.compile(_KNOWN.pattern.replace("_", ""))
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


@cache
def python_codec(encoding: str) -> str:
    """Return the name of Python's codec for an encoding of PostgreSQL's; ``utf-8`` if Python has none."""
    if not _KNOWN.fullmatch(encoding):
        return "utf-8"
    try:
        return codecs.lookup(re.sub(r"^KOI8", "koi8-", re.sub(r"^WIN(?=\d)", "cp", encoding))).name
    except LookupError:
        return "utf-8"


def is_known(name: str) -> bool:
    """True if the name is that of an encoding of which pgstow knows the characters. As in PostgreSQL, only letters and digits count."""
    return name.isascii() and bool(_KNOWN_TO_PG_DUMP.fullmatch(re.sub("[^0-9A-Z]", "", name.upper())))


def shown(data: bytes, encoding: str) -> str:
    r"""Return the text of bytes in an encoding of PostgreSQL's. ``\xe9`` stands for a byte that isn't valid in the encoding.

    In SQL_ASCII, ``\x5c`` stands for a backslash that would begin such an escape, so that :func:`unshown` gives the bytes back.
    """
    if encoding == ANY_BYTES:
        data = _ESCAPE.sub(rb"\\x5cx\1", data)
    return data.decode(python_codec(encoding), "backslashreplace")


def unshown(text: str) -> bytes:
    """Return the bytes of a text that :func:`shown` returned for SQL_ASCII."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
