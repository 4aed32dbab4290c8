"""Tests of compression: each zstd frame is independent, and the stock zstd program can read it."""

import random
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import LEVELS, MIB
from pipeline.errors import BackupDamaged
from pipeline.stages.compress import AUTO_LEVELS, Compressor, decompress


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


def rows(kind: str) -> bytes:
    """Return two megabytes of rows, as COPY writes them."""
    source = random.Random(0)
    words = [source.randbytes(source.randint(1, 5)).hex() for _ in range(3000)]
    make = {
        "text": lambda: " ".join(source.choices(words, weights=range(3000, 0, -1), k=10)),
        "bytea": lambda: "\\\\x" + source.randbytes(200).hex(),
        "uuid": lambda: str(uuid.UUID(int=source.getrandbits(128))),
        "numbers": lambda: f"{source.gauss(0, 1)}\t{source.randrange(1000)}",
        "letters": lambda: "".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=100)),
    }[kind]
    return "\n".join(make() for _ in range(40_000)).encode()[: 2 * MIB]


@pytest.mark.parametrize("level", AUTO_LEVELS[1:])
@pytest.mark.parametrize("kind", ["text", "bytea", "uuid", "numbers", "letters"])
def test_no_level_of_auto_makes_a_frame_larger(kind: str, level: int) -> None:
    """bytea and UUIDs are larger at each of the higher levels than at level 3."""
    data = rows(kind)
    done = Compressor("auto", memory=64 * MIB).compress(data, level)
    assert b"".join(decompress(done.frame, "x")) == data
    at_3 = len(Compressor(3).frame(data))
    assert len(done.frame) < at_3 if kind in ("text", "numbers") else len(done.frame) == at_3
    assert done.level == (level if kind in ("text", "numbers") else 3)
    if kind in ("bytea", "uuid"):
        assert len(Compressor(level).frame(data)) > 1.01 * at_3


@given(st.binary(max_size=500), st.integers(0, 300), st.sampled_from(AUTO_LEVELS))
def test_small_frames_are_never_larger(part: bytes, times: int, level: int) -> None:
    done = Compressor("auto", memory=64 * MIB).compress(part * times, level)
    assert len(done.frame) <= len(Compressor(3).frame(part * times))
    assert b"".join(decompress(done.frame, "x")) == part * times


def test_higher_levels_take_no_more_memory_than_allowed() -> None:
    data, limit = rows("text")[:MIB], 25 * MIB
    compressor = Compressor("auto", memory=limit)
    assert compressor.threads(8) == {3: 8, 6: 8, 9: 2, 11: 1}
    assert compressor.held == 0
    together = threading.Barrier(8)

    def levels(number: int) -> set[int]:
        together.wait(30)
        used = set()
        for level in (11, 9, 6, 3, AUTO_LEVELS[number % 4]):
            used.add(compressor.compress(data, level).level)
            assert compressor.held <= limit
        return used

    with ThreadPoolExecutor(8) as threads:
        used = set().union(*threads.map(levels, range(8)))
    assert compressor.used == used == set(AUTO_LEVELS)


def test_without_memory_all_frames_are_of_level_3() -> None:
    compressor = Compressor("auto")
    assert compressor.threads(2) == {3: 2}
    assert compressor.compress(rows("text"), 11).level == 3


def test_a_fixed_level_stays() -> None:
    compressor = Compressor(19, memory=64 * MIB)
    assert compressor.threads(2) == {19: 2}
    assert compressor.compress(b"some data", 19).level == 19
    assert compressor.used == {19}


def test_data_that_is_not_a_frame_is_damage() -> None:
    with pytest.raises(BackupDamaged, match=r"^some\.dat does not decompress after 0 bytes: .*\.$"):
        list(decompress(b"not zstd at all", "some.dat"))
