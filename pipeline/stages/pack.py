"""Packs frames into objects, and unpacks them. An object has one of two forms.

- A *slice* holds consecutive frames of one large file. ``cat 3364.dat.*.zst | zstd -d`` prints the file.
- A *pack* holds many small files as a tar stream, in which each header and each member's data are separate frames.
  ``zstd -dc pack-00000.tar.zst | tar x`` unpacks it. A reader can also read a single member by its range of bytes. The tar format is GNU's,
  because a member that compresses well may be larger than ustar's limit of 8 GiB.
"""

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from pipeline.catalog.manifest import Segment
from pipeline.errors import BackupDamaged
from pipeline.stages.compress import Compressor, decompress

_BLOCK = tarfile.BLOCKSIZE
_SMALLER_FIRST = (8, 4, 4, 2, 2, 2, 2)  # object_size divided by the sizes of the first objects
_MEMBER_OVERHEAD = 256  # bytes that a header's frame and the end of the archive take at most
_NAME, _SIZE, _CHECKSUM = slice(0, tarfile.LENGTH_NAME), slice(124, 135), slice(148, 155)
"""The fields of a tar header that differ between the members of a pack."""
_LARGEST = 8**11 - 1  # bytes of a member whose size fits the field


def _header(path: str, size: int) -> bytes:
    member = tarfile.TarInfo(path)
    member.size = size
    member.mode = 0o600
    return member.tobuf(tarfile.GNU_FORMAT)


_BLANK = _header("", 0)
_BLANK_CHECKSUM = int(_BLANK[_CHECKSUM][:6], 8)


@dataclass(frozen=True, slots=True)
class Draft:
    """A complete object that is not yet stored."""

    number: int
    """Its index among the objects of the backup."""
    name: str
    body: bytearray
    content: int
    """Bytes of the files' content in the object, uncompressed."""


@dataclass(slots=True)
class _OpenFile:
    frames: bytearray = field(default_factory=bytearray)
    frames_size: int = 0
    """Bytes that the frames decompress to."""
    slices: int = 0
    segments: list[Segment] = field(default_factory=list)


class Packer:
    """Packs files' frames into objects of at most ``object_size`` bytes, unless a single frame is larger.

    A file whose frames fill less than half an object goes into the current pack; a larger file becomes slices. So objects are at least half
    full, with three exceptions: the last pack, the last slice of each file, and objects that :meth:`cut_largest` cut.

    The first seven objects are smaller: one has an eighth, two have a quarter, and four have half of ``object_size``. So uploads begin soon
    after the dump begins, and then don't pause.
    """

    def __init__(self, compressor: Compressor, object_size: int) -> None:
        self._compressor = compressor
        self._object_size = object_size
        self._open: dict[str, _OpenFile] = {}
        self._held = 0
        """Bytes of the frames in ``_open``."""
        self._pack = bytearray()
        self._padding = 0
        self._pack_content = 0
        self._pack_number = 0
        self._packs = 0
        self._drafts = 0
        self._cuts = 0

    @property
    def held(self) -> int:
        """Bytes in memory that wait until their objects are full."""
        return len(self._pack) + self._held

    def add(self, path: str, frame: bytes, size: int) -> Sequence[Draft]:
        """Take the file's next frame, of ``size`` bytes uncompressed. Return the objects that are now complete."""
        file = self._open.get(path)
        if file is None:
            file = self._open[path] = _OpenFile()
        full = file.frames and len(file.frames) + len(frame) > self.full_size
        drafts = [self._cut_slice(path, file)] if full else []
        file.frames += frame
        file.frames_size += size
        self._held += len(frame)
        return drafts

    def finish(self, path: str, *, end_pack: bool = False) -> tuple[list[Segment], list[Draft]]:
        """Take the end of the file. Return its segments, and the objects that are now complete.

        If the file goes into a pack, ``end_pack`` makes it the last file of the pack.
        """
        file = self._open.pop(path, None) or _OpenFile()
        drafts = []
        if file.slices or len(file.frames) >= self.full_size // 2:
            if file.frames:
                drafts.append(self._cut_slice(path, file))
        else:
            if self._pack and len(self._pack) + len(file.frames) + _MEMBER_OVERHEAD > self.full_size:
                drafts.append(self._cut_pack())
            self._held -= len(file.frames)
            self._add_member(path, file)
            if end_pack:
                drafts.append(self._cut_pack())
        return file.segments, drafts

    def cut_largest(self) -> Draft | None:
        """Return the largest incomplete object as it is, to free its memory; None if no frames are in memory.

        So a tight memory limit leads to smaller objects.
        """
        path, file = max(self._open.items(), key=lambda item: len(item[1].frames), default=("", _OpenFile()))
        if len(file.frames) > len(self._pack):
            return self._cut_slice(path, file)
        return self._cut_pack() if self._pack else None

    def _cut_slice(self, path: str, file: _OpenFile) -> Draft:
        draft = Draft(self._next_number(), f"{path}.{file.slices:05d}.zst", file.frames, file.frames_size)
        file.segments.append(Segment(object=draft.number, offset=0, length=len(file.frames), size=file.frames_size))
        self._held -= len(file.frames)
        file.frames, file.frames_size = bytearray(), 0
        file.slices += 1
        self._cuts += 1
        return draft

    def _add_member(self, path: str, file: _OpenFile) -> None:
        if not self._pack:
            self._pack_number = self._next_number()
        self._pack += self._compressor.frame(bytes(self._padding) + tar_header(path, file.frames_size))
        if file.frames:
            file.segments.append(
                Segment(
                    object=self._pack_number, offset=len(self._pack), length=len(file.frames), size=file.frames_size
                )
            )
            self._pack += file.frames
            self._pack_content += file.frames_size
        self._padding = -file.frames_size % _BLOCK

    def _cut_pack(self) -> Draft:
        self._pack += self._compressor.frame(bytes(self._padding + 2 * _BLOCK))
        draft = Draft(self._pack_number, f"pack-{self._packs:05d}.tar.zst", self._pack, self._pack_content)
        self._pack, self._padding, self._pack_content = bytearray(), 0, 0
        self._packs += 1
        self._cuts += 1
        return draft

    @property
    def full_size(self) -> int:
        """The size in bytes at which an object is now complete."""
        return self._object_size // (_SMALLER_FIRST[self._cuts] if self._cuts < len(_SMALLER_FIRST) else 1)

    def _next_number(self) -> int:
        self._drafts += 1
        return self._drafts - 1


def tar_header(path: str, size: int) -> bytes:
    """Return the header of a member of ``size`` bytes, as tarfile makes it for GNU's format.

    tarfile takes longer for a header than everything else that a small file needs here.
    """
    name = path.encode()
    if len(name) > tarfile.LENGTH_NAME or size > _LARGEST or not path.isascii():
        return _header(path, size)
    digits = b"%011o" % size
    header = bytearray(_BLANK)
    header[_NAME] = name.ljust(tarfile.LENGTH_NAME, b"\0")
    header[_SIZE] = digits
    header[_CHECKSUM] = b"%06o\0" % (_BLANK_CHECKSUM + sum(name) + sum(digits) - sum(b"00000000000"))
    return bytes(header)


def unpack(body: bytes | bytearray | memoryview, segment: Segment, name: str) -> Iterator[bytes]:
    """Yield a segment's decompressed content in parts, at most ``segment.size`` bytes in total.

    Raises BackupDamaged, naming ``name``, if the content has more or fewer bytes.
    """
    size = 0
    for part in decompress(memoryview(body)[segment.offset : segment.offset + segment.length], name):
        size += len(part)
        if size > segment.size:
            raise BackupDamaged(f"{name} decompresses to more than the {segment.size} bytes that the manifest says.")
        yield part
    if size != segment.size:
        raise BackupDamaged(f"{name} decompresses to {size} bytes where the manifest says {segment.size}.")
