r"""Divides an SQL script into pieces, as psql reads it: SQL, rows after COPY, and psql's own commands.

psql finds a command at each backslash outside of quotes, comments and rows, even in the middle of a line. The rules for quotes and comments
are the same as in ``psqlscan.l``. The lexer never holds a whole quote, comment or table in memory.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum, auto

from pipeline.errors import DumpFailed
from pipeline.postgres.wide_characters import hide_wide, is_wide

LONGEST = 1024 * 1024
"""The most bytes of a word, a dollar quote's tag, a command or a COPY statement.

A table has at most 1,600 columns, and so a COPY statement of at most a fifth of this size."""


class Kind(Enum):
    """The kind of a piece of a script."""

    SQL = auto()
    COPY = auto()
    """A whole statement ``COPY … FROM stdin;`` as pg_dump writes it, with its newline."""
    ROWS = auto()
    END_OF_ROWS = auto()
    COMMAND = auto()
    """A backslash and the rest of its line, which psql would run as a command."""


class _In(Enum):
    """The part of a script that the lexer is in."""

    CODE = auto()
    STRING = auto()
    ESCAPED_STRING = auto()
    """A string in which a backslash escapes the next character."""
    GAP = auto()
    """Behind such a string. psql reads line by line, so a newline ends the string. The string continues only if another string follows in the
    same line, after white space with a carriage return."""
    IDENTIFIER = auto()
    DOLLAR_QUOTE = auto()
    LINE_COMMENT = auto()
    BLOCK_COMMENT = auto()
    ROW_START = auto()
    """At the beginning of a row, or of the mark at the end of the rows."""
    ROWS = auto()


_ROWS = frozenset({_In.ROW_START, _In.ROWS})
_READ_BY_BYTE = _ROWS | {_In.DOLLAR_QUOTE}
"""The parts in which the lexer need not know characters: no byte of a longer character can look like the part's end."""
_QUOTES = {_In.STRING: b"'", _In.IDENTIFIER: b'"'}

# Groups are atomic and not possessive: before 3.11.5, Python matches too much if it backtracks in a possessive group (gh-106052).
_NEITHER_COPY_NOR_SET = rb";(?=[ \n]*+(?:[ABD-RT-Z;]|SEL))"
_CODE = re.compile(
    rb"""(?>(?:[^'"$;\\/-]*+(?:%b|-(?=[^-])|/(?=[^*])))*)[^'"$;\\/-]*+""" % _NEITHER_COPY_NOR_SET, re.DOTALL
)
_QUOTING_CODE = re.compile(
    rb"""(?>(?:[^'"$;\\/-]*+(?:(?<![Ee])'[^']*+'|"[^"]*+"|%b|-(?=[^-])|/(?=[^*])))*)[^'"$;\\/-]*+"""
    % _NEITHER_COPY_NOR_SET,
    re.DOTALL,
)
"""Code with whole quotes, for scripts in which a backslash in a plain string escapes nothing."""
_WORD = bytes(range(0x80, 0x100)) + b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$"
_REST_OF_WORD = re.compile(rb"[0-9A-Za-z_$\x80-\xff]*+")
_OPENING = frozenset({b"'", b'"', b"$"})
_PARAMETER = re.compile(rb"\$[0-9]++")
_SPACE = re.compile(rb"[ \t\n\r\f\v]+")
_DOLLAR = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][0-9A-Za-z_\x80-\xff]*+)?\$")
_ESCAPED = re.compile(rb"[^'\\]*+(?>(?:(?:\\.|'')[^'\\]*+)*)", re.DOTALL)
_GAP = re.compile(rb"(?>(?:[ \t\r\f\v]++|--[^\n\r]*+(?=\r))*)")
_END_OF_LINE = re.compile(rb"[\n\r]")
_COMMENT_MARK = re.compile(rb"/\*|\*/")
_IDENTIFIER = rb'(?:"(?>(?:[^"]++|"")+)"|[^\s"\'.();$\\]++)'
COPY = re.compile(
    rb"COPY (?P<schema>%b)\.(?P<name>%b) "
    rb'(?P<columns>\((?>(?:"(?>(?:[^"]++|"")+)"|[^"\'()$;\\]++)*)\))? ?FROM stdin;\n' % (_IDENTIFIER, _IDENTIFIER)
)
"""dumpTableData() in pg_dump.c."""
_SET = re.compile(
    rb"SET (?:standard_conforming_strings = (?P<plain>on|off)|client_encoding = '(?P<encoding>[^'\n]*)');"
)
_LONGEST_SET = 200  # bytes
_END_OF_ROWS = b"\n\\.\n"
_PART = 64 * 1024  # bytes
_WIDE_PART = 4 * 1024  # bytes
"""The size of a part in a wide encoding. The size is small, since the lexer changes the rest of a part again (:meth:`ScriptLexer._readable`)
after each start and each end of a dollar quote or of rows."""


class ScriptLexer:
    """Divides one script. Raises DumpFailed if a word, a tag, a command or a COPY statement is longer than :data:`LONGEST`."""

    def __init__(self) -> None:
        self.encoding = "UTF8"
        """The encoding of the last ``SET client_encoding``."""
        self._first_encoding: str | None = None
        self._rest = b""
        """Bytes that aren't yet divided."""
        self._in = _In.CODE
        self._begun = False
        """True if a statement has begun and not ended."""
        self._backslash_escapes = False
        """True if ``standard_conforming_strings`` is off."""
        self._tag = b""
        self._depth = 0
        """The depth of nested comments."""

    @property
    def first_encoding(self) -> str:
        """The encoding of the first ``SET client_encoding``."""
        return self.encoding if self._first_encoding is None else self._first_encoding

    @property
    def between_statements(self) -> bool:
        """True if the script may end here."""
        return self._in in {_In.CODE, _In.LINE_COMMENT} and not self._begun

    def split_all(self, script: Iterable[bytes]) -> Iterator[tuple[Kind, bytes]]:
        """Yield the pieces of a whole script, in order. Raises DumpFailed as described at the class."""
        for part in script:
            yield from self.split(part)
        yield from self.split(b"", last=True)

    def split(self, data: bytes, *, last: bool = False) -> Iterator[tuple[Kind, bytes]]:
        """Yield the next pieces, in order. All pieces joined are the script. ``last`` is true if no data follow."""
        start = 0
        while start < len(data):
            end = start + (_WIDE_PART if is_wide(self.encoding) else _PART)
            yield from self._split(self._rest + data[start:end], last=last and end >= len(data))
            start = end
        if last and not data:
            yield from self._split(self._rest, last=True)

    def _split(self, raw: bytes, *, last: bool) -> Iterator[tuple[Kind, bytes]]:
        text = self._readable(raw, last=last)
        at = returned = 0
        while at < len(text):
            before = self._in, self.encoding
            kind, end = self._next(text, at, last=last)
            if kind is not Kind.SQL:
                if at > returned:
                    yield Kind.SQL, raw[returned:at]
                if end > at:
                    yield kind, raw[at:end]
                returned = end
            if end == at and self._in is before[0]:
                break
            at = end
            if self._in is _In.DOLLAR_QUOTE and before[0] is not self._in:
                self._tag = raw[end - len(self._tag) : end]
            wide = is_wide(before[1]) or is_wide(self.encoding)
            by_byte = (before[0] in _READ_BY_BYTE) != (self._in in _READ_BY_BYTE)
            if wide and (by_byte or before[1] != self.encoding):
                text = raw[:at] + self._readable(raw[at:], last=last)
        if at > returned:
            yield Kind.SQL, raw[returned:at]
        self._rest = raw[at:]
        if last and self._rest:
            yield (Kind.ROWS if self._in in _ROWS else Kind.SQL), self._rest
            self._rest = b""
        if len(self._rest) > LONGEST:
            raise DumpFailed(f"The script has a word, a command or a COPY statement of more than {LONGEST:,} bytes.")

    def _readable(self, raw: bytes, *, last: bool) -> bytes:
        """Return the text, changed so that each byte of ASCII in it is a whole character. Leave out an incomplete character at the end."""
        return raw if self._in in _READ_BY_BYTE else hide_wide(raw, self.encoding, last=last)

    def _next(self, text: bytes, at: int, *, last: bool) -> tuple[Kind, int]:
        """Return the kind and the end of the next piece. If the lexer needs more of the script first, the end is ``at``."""
        match self._in:
            case _In.CODE:
                return self._in_code(text, at, last=last)
            case _In.ROW_START | _In.ROWS:
                return self._in_rows(text, at)
            case _In.STRING | _In.IDENTIFIER:
                return Kind.SQL, self._behind(text.find(_QUOTES[self._in], at) + 1, len(text))
            case _In.ESCAPED_STRING:
                return Kind.SQL, self._in_escaped_string(text, at)
            case _In.GAP:
                return Kind.SQL, self._in_gap(text, at)
            case _In.DOLLAR_QUOTE:
                found = text.find(self._tag, at)
                return Kind.SQL, self._behind(
                    found + len(self._tag) if found >= 0 else 0, max(at, len(text) - len(self._tag) + 1)
                )
            case _In.LINE_COMMENT:
                end_of_line = _END_OF_LINE.search(text, at)
                return Kind.SQL, self._behind(end_of_line.end() if end_of_line else 0, len(text))
            case _In.BLOCK_COMMENT:
                return Kind.SQL, self._in_block_comment(text, at)

    def _behind(self, end: int, otherwise: int) -> int:
        """Return ``end``, and continue in code behind the quote or comment.

        If ``end`` is 0, the quote or comment isn't complete: return ``otherwise``.
        """
        if end:
            self._in = _In.CODE
        return end or otherwise

    def _in_code(self, text: bytes, at: int, *, last: bool) -> tuple[Kind, int]:
        if not self._begun and (space := _SPACE.match(text, at)):
            return Kind.SQL, space.end()
        if not self._begun and (special := self._at_statement(text, at, last=last)):
            return special
        code = (_CODE if self._backslash_escapes else _QUOTING_CODE).match(text, at)
        end = code.end() if code else at
        mark = text[end : end + 1]
        if mark == b"\\" and end == at:
            return self._at_command(text, at, last=last)
        word = text[at:end][len(text[at:end].rstrip(_WORD)) :]
        if not mark:  # the word may continue in the next piece
            end -= len(word)
        if mark == b";":
            self._begun = False
            return Kind.SQL, end + 1
        self._begun |= end > at or mark in _OPENING
        match mark:
            case b"'":
                escaped = word in {b"E", b"e"} or (
                    self._backslash_escapes and not text[at:end].endswith((b"U&", b"u&"))
                )
                self._in = _In.ESCAPED_STRING if escaped else _In.STRING
                return Kind.SQL, end + 1
            case b'"':
                self._in = _In.IDENTIFIER
                return Kind.SQL, end + 1
            case b"$":
                return Kind.SQL, self._at_dollar(text, end, word)
            case b"-" | b"/" if len(text) > end + 1:
                self._in, self._depth = _In.LINE_COMMENT if mark == b"-" else _In.BLOCK_COMMENT, 1
                return Kind.SQL, end + 2
        return Kind.SQL, end

    def _at_dollar(self, text: bytes, at: int, word: bytes) -> int:
        """Return the end of the word, parameter or tag that ``$`` belongs to."""
        whole = _REST_OF_WORD.match(text, at)
        end = whole.end() if whole else at
        if word and not word.isdigit():
            return end if end < len(text) else at - len(word)
        if parameter := _PARAMETER.match(text, at):
            return parameter.end() if parameter.end() < len(text) else at
        if tag := _DOLLAR.match(text, at):
            self._in, self._tag = _In.DOLLAR_QUOTE, tag[0]
            return tag.end()
        return at + 1 if end < len(text) else at

    def _at_statement(self, text: bytes, at: int, *, last: bool) -> tuple[Kind, int] | None:
        """Return the kind and the end of a COPY or SET statement; None if another statement begins at ``at``."""
        if b"COPY ".startswith(text[at : at + 5]):
            if copy := COPY.match(text, at):
                self._in = _In.ROW_START
                return Kind.COPY, copy.end()
            return None if last or len(text) - at > LONGEST else (Kind.SQL, at)
        if b"SET ".startswith(text[at : at + 4]):
            if said := _SET.match(text, at):
                if said["plain"]:
                    self._backslash_escapes = said["plain"] == b"off"
                else:
                    self.encoding = said["encoding"].decode("ascii", "replace")
                    self._first_encoding = self.first_encoding
                return Kind.SQL, said.end()
            if not last and len(text) - at < _LONGEST_SET and text.find(b";", at) < 0:
                return Kind.SQL, at
        return None

    def _at_command(self, text: bytes, at: int, *, last: bool) -> tuple[Kind, int]:
        if text[at + 1 : at + 2] in {b";", b":"}:  # psql reads these two bytes as the second alone
            return Kind.SQL, at + 2
        end = text.find(b"\n", at) + 1
        if end or last:
            return Kind.COMMAND, end or len(text)
        return Kind.SQL, at

    def _in_escaped_string(self, text: bytes, at: int) -> int:
        inside = _ESCAPED.match(text, at)
        end = inside.end() if inside else at
        if text[end : end + 1] == b"'" and end + 1 < len(text):
            self._in = _In.GAP
            return end + 1
        return end

    def _in_gap(self, text: bytes, at: int) -> int:
        gap = _GAP.match(text, at)
        end = gap.end() if gap else at
        in_comment = text.startswith(b"--", end) and not _END_OF_LINE.search(text, end)
        if in_comment or text[end:] in {b"", b"-"}:
            return at
        if text[end : end + 1] == b"'" and b"\r" in text[at:end]:
            self._in = _In.ESCAPED_STRING
            return end + 1
        self._in = _In.CODE
        return at

    def _in_block_comment(self, text: bytes, at: int) -> int:
        mark = _COMMENT_MARK.search(text, at)
        if mark is None:
            return len(text) - text.endswith((b"/", b"*"))
        self._depth += 1 if mark[0] == b"/*" else -1
        return self._behind(mark.end() if not self._depth else 0, mark.end())

    def _in_rows(self, text: bytes, at: int) -> tuple[Kind, int]:
        if self._in is _In.ROW_START:
            if text.startswith(_END_OF_ROWS[1:], at):
                self._in = _In.CODE
                return Kind.END_OF_ROWS, at + len(_END_OF_ROWS) - 1
            if not _END_OF_ROWS[1:].startswith(text[at : at + len(_END_OF_ROWS) - 1]):
                self._in = _In.ROWS
            return Kind.ROWS, at
        found = text.find(_END_OF_ROWS, at)
        if found < 0:
            return Kind.ROWS, max(at, len(text) - len(_END_OF_ROWS) + 1)
        self._in = _In.ROW_START
        return Kind.ROWS, found + 1
