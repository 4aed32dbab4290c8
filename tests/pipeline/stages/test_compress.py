"""Tests of compression: each zstd frame is independent, and the stock zstd program can read it."""

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import BackupDamaged
from pipeline.stages.compress import LEVELS, Compressor, decompress


def zstd(data: bytes, *options: str) -> bytes:
    """Return the output of Debian's zstd for ``data``."""
    return subprocess.run(["zstd", "--quiet", "--stdout", *options], input=data, capture_output=True, check=True).stdout


@given(st.lists(st.binary(max_size=5000), min_size=1, max_size=5))
def test_consecutive_frames_decompress_to_their_contents(parts: list[bytes]) -> None:
    compressor = Compressor()
    frames = b"".join(compressor.frame(part) for part in parts)
    assert b"".join(decompress(frames, "x")) == b"".join(parts)


def test_the_stock_zstd_program_reads_and_checks_frames() -> None:
    frames = Compressor().frame(b"one, ") + Compressor(19).frame(b"") + Compressor(1).frame(b"two" * 100_000)
    assert zstd(frames, "-d") == b"one, " + b"two" * 100_000
    flipped = bytearray(frames)
    flipped[-1] ^= 1  # the last frame's checksum
    with pytest.raises(subprocess.CalledProcessError):
        zstd(bytes(flipped), "-d")


def test_a_frame_states_the_size_of_its_content() -> None:
    frame = Compressor().frame(bytes(123_456))
    descriptor = frame[4]
    assert descriptor & 0b100, "the frame has a checksum"
    assert descriptor >> 6, "the size takes more than one byte"


def test_decompressed_parts_are_small_even_if_the_frame_is_large() -> None:
    parts = list(decompress(Compressor().frame(bytes(50_000_000)), "x"))
    assert sum(map(len, parts)) == 50_000_000
    assert max(map(len, parts)) <= 1024 * 1024


@pytest.mark.parametrize("level", [LEVELS.start, LEVELS.stop - 1])
def test_many_threads_can_share_a_compressor(level: int) -> None:
    compressor = Compressor(level)
    parts = [bytes([number]) * 10_000 for number in range(64)]
    together = threading.Barrier(8)

    def frame(part: bytes) -> bytes:
        if part[0] < 8:
            together.wait(30)
        return compressor.frame(part)

    with ThreadPoolExecutor(8) as threads:
        frames = list(threads.map(frame, parts))
    assert [b"".join(decompress(frame, "x")) for frame in frames] == parts


@given(st.binary(min_size=1, max_size=3000), st.integers(min_value=0), st.integers(0, 7))
def test_a_flipped_bit_never_yields_other_data(data: bytes, position: int, bit: int) -> None:
    frame = bytearray(Compressor().frame(data))
    frame[position % len(frame)] ^= 1 << bit
    try:
        found = b"".join(decompress(bytes(frame), "some.dat"))
    except BackupDamaged as exc:
        assert str(exc).startswith("some.dat does not decompress after ")  # noqa: PT017 - there may be no error
    else:
        assert found == data


def test_a_higher_level_takes_more_memory() -> None:
    """Measured by hand with frames of 8 MiB: level 3 takes 1 MiB, level 19 takes 80 MiB."""
    low, high = (Compressor(level).context_size(8 * 2**20) for level in (3, 19))
    assert 2**19 < low < 2**22
    assert 2**25 < high < 2**27


def test_data_that_is_not_a_frame_is_damage() -> None:
    with pytest.raises(BackupDamaged, match=r"^some\.dat does not decompress after 0 bytes: .*\.$"):
        list(decompress(b"not zstd at all", "some.dat"))
