import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from storage_backends import StorageError
from storage_backends.keys import MAX_KEY_BYTES, check_key, check_root, join_key, relative_key


@given(st.text(min_size=1, max_size=50), st.sampled_from(["", "prefix", "some/prefix"]))
def test_every_key_comes_back_from_below_a_prefix(key: str, root: str) -> None:
    try:
        check_key(key)
    except StorageError:
        assume(False)
    assert relative_key(root, join_key(root, key)) == key


@given(st.text("./\\\0\nab é", max_size=12))
def test_no_key_leaves_its_root(key: str) -> None:
    try:
        check_key(key)
    except StorageError:
        return
    assert not key.startswith("/")
    assert not {"", ".", ".."} & set(key.split("/"))
    assert not {"\\", "\0", "\n"} & set(key)


def test_the_longest_key_counts_its_prefix() -> None:
    assert check_key("é" * (MAX_KEY_BYTES // 2))
    with pytest.raises(StorageError, match="longer than 1024 bytes"):
        join_key("p", "é" * (MAX_KEY_BYTES // 2))


def test_a_root_has_no_slash_at_its_ends() -> None:
    assert check_root("/") == ""
    assert check_root("/some/prefix/") == "some/prefix"
