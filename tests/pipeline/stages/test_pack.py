"""Tests of the two forms of objects, which standard tools can read: slices of large files, and packs of small files."""

import random
import subprocess
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.manifest import Segment
from pipeline.errors import BackupDamaged
from pipeline.stages.compress import Compressor
from pipeline.stages.pack import Draft, Packer, tar_header, unpack

OBJECT = 64 * 1024
FRAME = 8 * 1024


class Packed:
    """Files that passed through a packer, in frames of at most ``FRAME`` bytes."""

    def __init__(self, object_size: int = OBJECT) -> None:
        self.compressor = Compressor()
        self.packer = Packer(self.compressor, object_size)
        self.objects: dict[int, Draft] = {}
        self.segments: dict[str, list[Segment]] = {}

    def take(self, drafts: Iterable[Draft]) -> None:
        for draft in drafts:
            assert draft.number not in self.objects
            self.objects[draft.number] = draft

    def add(self, path: str, data: bytes) -> None:
        self.take(self.packer.add(path, self.compressor.frame(data), len(data)))

    def finish(self, path: str) -> None:
        self.segments[path], drafts = self.packer.finish(path)
        self.take(drafts)

    def file(self, path: str, data: bytes) -> None:
        for start in range(0, len(data), FRAME):
            self.add(path, data[start : start + FRAME])
        self.finish(path)

    def rest(self) -> None:
        while draft := self.packer.cut_largest():
            self.take([draft])

    @property
    def names(self) -> list[str]:
        return [self.objects[number].name for number in sorted(self.objects)]

    def content(self, path: str) -> bytes:
        """Return the file's content, read by its segments."""
        return b"".join(
            b"".join(unpack(bytes(self.objects[segment.object].body), segment, path)) for segment in self.segments[path]
        )

    def content_by_tools(self, folder: Path) -> dict[str, bytes]:
        """Return the contents of all files, unpacked as in docs/recovery.md."""
        for draft in self.objects.values():
            (folder / draft.name).write_bytes(draft.body)
        subprocess.run(
            "mkdir out; for p in pack-*.tar.zst; do [ -e $p ] || continue; zstd -dcq $p | tar x -C out || exit; done; "
            "for f in $(ls | sed -n 's/\\.[0-9]*\\.zst$//p' | sort -u); do cat $f.[0-9]*.zst | zstd -dq > out/$f || exit; done",
            shell=True,
            cwd=folder,
            check=True,
        )
        return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def past_the_first_cuts(packed: Packed) -> None:
    """Fill and cut the first few objects, which are smaller."""
    packed.file("first.dat", noise(4 * OBJECT))
    packed.objects.clear()
    packed.segments.clear()


def assert_whole(packed: Packed, files: Mapping[str, bytes], folder: Path) -> None:
    assert {path: packed.content(path) for path in files} == files
    assert packed.content_by_tools(folder) == files
    assert packed.packer.held == 0
    assert sorted(packed.objects) == list(range(len(packed.objects)))


def test_standard_tools_unpack_objects(tmp_path: Path) -> None:
    files = {f"{number}.dat": noise(number * 37) for number in range(200)}
    files |= {"large.dat": noise(5 * OBJECT), "zeros.dat": bytes(10_000_000), "empty.dat": b"", "blobs.toc": b"x" * 512}
    packed = Packed()
    for path, data in files.items():
        packed.file(path, data)
    packed.rest()
    assert_whole(packed, files, tmp_path)
    assert sum(name.startswith("pack-") for name in packed.names) > 5
    assert [name for name in packed.names if name.startswith("large")] == [
        f"large.dat.{number:05d}.zst" for number in range(sum(name.startswith("large") for name in packed.names))
    ]


@given(
    st.text("abz09_.-ü", min_size=1, max_size=110),
    st.sampled_from([0, 1, 7, 8**11 - 1, 8**11]) | st.integers(0, 8**13),
)
def test_headers_are_those_of_tarfile(path: str, size: int) -> None:
    member = tarfile.TarInfo(path)
    member.size, member.mode = size, 0o600
    assert tar_header(path, size) == member.tobuf(tarfile.GNU_FORMAT)


def test_a_member_of_a_pack_can_be_read_by_its_range() -> None:
    packed = Packed()
    for number in range(10):
        packed.file(f"{number}.dat", b"%d" % number * 1000)
    packed.rest()
    assert packed.names == ["pack-00000.tar.zst"]
    [segment] = packed.segments["7.dat"]
    part = bytes(packed.objects[0].body)[segment.offset : segment.offset + segment.length]
    found = subprocess.run(["zstd", "-dcq"], input=part, capture_output=True, check=True).stdout
    assert found == b"7" * 1000


def test_objects_are_at_least_half_full_and_not_too_large() -> None:
    packed = Packed()
    past_the_first_cuts(packed)
    for number in range(300):
        packed.file(f"{number}.dat", noise(random.Random(number).randrange(4 * FRAME)))
        packed.file(f"large-{number % 3}-{number}.dat", noise(random.Random(number).randrange(3 * OBJECT)))
    packed.rest()
    last_slices = {
        max(number for number, draft in packed.objects.items() if draft.name.startswith(path + "."))
        for path in packed.segments
        if any(draft.name.startswith(path + ".") for draft in packed.objects.values())
    }
    [*_, last_pack] = [number for number, draft in sorted(packed.objects.items()) if draft.name.startswith("pack-")]
    assert max(len(draft.body) for draft in packed.objects.values()) <= OBJECT
    small = {number for number, draft in packed.objects.items() if len(draft.body) < OBJECT // 2 - FRAME}
    assert small <= {*last_slices, last_pack}


def test_the_first_objects_are_small_so_that_uploads_begin_soon() -> None:
    packed = Packed()
    packed.file("1.dat", noise(10 * OBJECT))
    packed.rest()
    sizes = [len(packed.objects[number].body) for number in sorted(packed.objects)]
    assert sizes[0] <= OBJECT // 4
    assert max(sizes[6:]) > OBJECT // 2


def test_a_frame_larger_than_an_object_becomes_its_own_object() -> None:
    packed = Packed(object_size=FRAME)
    packed.add("1.dat", noise(FRAME))
    packed.add("1.dat", noise(FRAME))
    packed.finish("1.dat")
    assert packed.names == ["1.dat.00000.zst", "1.dat.00001.zst"]
    assert packed.content("1.dat") == 2 * noise(FRAME)


def test_cutting_objects_frees_memory_at_any_time() -> None:
    packed = Packed()
    past_the_first_cuts(packed)
    packed.file("member.dat", noise(3000))
    packed.add("growing.dat", noise(5000))
    packed.add("other.dat", noise(4000))
    held = []
    while draft := packed.packer.cut_largest():
        packed.take([draft])
        held.append(packed.packer.held)
    assert held == sorted(held, reverse=True)
    assert held[-1] == 0
    assert sorted(packed.names) == ["growing.dat.00000.zst", "other.dat.00000.zst", "pack-00000.tar.zst"]
    packed.add("growing.dat", b"end")
    packed.finish("growing.dat")
    packed.finish("other.dat")
    assert packed.content("growing.dat") == noise(5000) + b"end"
    assert packed.content("other.dat") == noise(4000)
    assert packed.content("member.dat") == noise(3000)


@settings(max_examples=50)
@given(st.data())
def test_files_are_whole_after_any_order_of_frames_and_cuts(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    packed = Packed()
    files: dict[str, bytes] = {}
    unfinished: set[str] = set()
    for action in data.draw(st.lists(st.sampled_from(["new", "add", "add", "add", "finish", "cut"]), max_size=60)):
        match action:
            case "new":
                path = f"{len(files)}.dat"
                files[path] = b""
                unfinished.add(path)
            case "cut":
                if draft := packed.packer.cut_largest():
                    packed.take([draft])
            case "add" if unfinished:
                path = data.draw(st.sampled_from(sorted(unfinished)))
                part = noise(data.draw(st.sampled_from([0, 1, 511, 512, 1000, FRAME, 3 * FRAME])))
                files[path] += part
                packed.add(path, part)
            case "finish" if unfinished:
                path = data.draw(st.sampled_from(sorted(unfinished)))
                unfinished.remove(path)
                packed.finish(path)
            case _:
                pass
    for path in unfinished:
        packed.finish(path)
    packed.rest()
    assert_whole(packed, files, tmp_path_factory.mktemp("objects"))


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (999, "more than the 999 bytes that the manifest says"),
        (1001, "1000 bytes where the manifest says 1001"),
    ],
)
def test_a_segment_with_a_wrong_size_is_damage(size: int, reason: str) -> None:
    frame = Compressor().frame(bytes(1000))
    with pytest.raises(BackupDamaged, match=f"^1.dat decompresses to {reason}"):
        list(unpack(frame, Segment(object=0, offset=0, length=len(frame), size=size), "1.dat"))


def test_a_segment_that_is_cut_short_is_damage() -> None:
    frame = Compressor().frame(noise(1000))
    with pytest.raises(BackupDamaged, match=r"^1\.dat de"):
        list(unpack(frame[:500], Segment(object=0, offset=0, length=len(frame), size=1000), "1.dat"))
