"""Text in PostgreSQL's encodings. In a database of the encoding SQL_ASCII, names may have any bytes."""

import codecs
import re
from functools import cache

ANY_BYTES = "SQL_ASCII"
_LISTED = (
    "BIG5 EUC_CN EUC_JP EUC_JIS_2004 EUC_KR EUC_TW GB18030 GBK ISO_8859_5 ISO_8859_6 ISO_8859_7 ISO_8859_8 JOHAB KOI8R KOI8U LATIN1 LATIN2 "
    "LATIN3 LATIN4 LATIN5 LATIN6 LATIN7 LATIN8 LATIN9 LATIN10 SJIS SHIFT_JIS_2004 UHC UTF8 WIN866 WIN874 WIN1250 WIN1251 WIN1252 WIN1253 "
    "WIN1254 WIN1255 WIN1256 WIN1257 WIN1258"
)
_NAMES = frozenset(_LISTED.split())
"""PostgreSQL's names (``pg_enc2name_tbl`` in encnames.c). Python has more codecs, and a hostile script may name one of them."""
_OF_CLIENTS = frozenset({"BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC"})
"""Encodings that a client may have, but no database (``pg_enc`` in pg_wchar.h)."""
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


@cache
def python_codec(encoding: str) -> str:
    """Return the name of Python's codec for one of PostgreSQL's encodings; ``utf-8`` if Python has none."""
    if encoding not in _NAMES:
        return "utf-8"
    try:
        return codecs.lookup(re.sub(r"^KOI8", "koi8-", re.sub(r"^WIN(?=\d)", "cp", encoding))).name
    except LookupError:
        return "utf-8"


def canonical(name: str) -> str:
    """Return PostgreSQL's own spelling of an encoding's name. Only letters and digits count. Return the name itself if it isn't known."""
    plain = re.sub("[^0-9A-Z]", "", name.upper())
    return next((known for known in _NAMES if known.replace("_", "") == plain), name)


def can_dump_in(name: str) -> bool:
    """True if pgstow can dump in the encoding with this name, in any spelling: pgstow knows the encoding, and a database can have it.

    In the encodings that only clients can have, a byte of a character may be a backslash or a quote. Even pg_dump 18 misreads a name with
    such a byte (``getAttributeStats``).
    """
    return canonical(name) in _NAMES - _OF_CLIENTS


def shown(data: bytes, encoding: str) -> str:
    r"""Return the bytes as text, by one of PostgreSQL's encodings. ``\xe9`` stands for a byte that isn't valid in the encoding.

    In SQL_ASCII, ``\x5c`` stands for a backslash that would look like the beginning of such an escape. So :func:`unshown` can return the
    original bytes.
    """
    if encoding == ANY_BYTES:
        data = _ESCAPE.sub(rb"\\x5cx\1", data)
    return data.decode(python_codec(encoding), "backslashreplace")


def unshown(text: str) -> bytes:
    """Return the original bytes of a text that :func:`shown` returned for SQL_ASCII."""
    return _ESCAPE.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
