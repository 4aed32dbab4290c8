from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.postgres.encodings import shown, unshown


@given(st.binary() | st.lists(st.sampled_from([b"\\", b"x", b"5c", b"e9", b"\xe9", b"\xc3\xa9"])).map(b"".join))
@example(rb"\x5cxe9")
def test_the_original_bytes_can_be_recovered_from_shown_text(data: bytes) -> None:
    assert unshown(shown(data, "SQL_ASCII")) == data


def test_bytes_are_shown_as_text_with_escapes() -> None:
    assert shown(b"caf\xe9", "SQL_ASCII") == r"caf\xe9"
    assert shown(rb"caf\xe9 \d", "SQL_ASCII") == r"caf\x5cxe9 \d"
    assert shown(rb"caf\xe9", "UTF8") == r"caf\xe9"
    assert shown(b"caf\xe9", "LATIN1") == "caf\u00e9"
