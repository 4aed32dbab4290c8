"""The table of contents of an archive that is a single file: it comes first."""

from tarfile import BLOCKSIZE, HeaderError, TarInfo

from pipeline.catalog.manifest import Format
from pipeline.errors import DumpFailed
from pipeline.postgres.toc import Toc, TocCutShort, read_toc


def parse_head(head: bytes, format_: Format) -> tuple[bytes, Toc]:
    """Its bytes, after which there may be more, and what they say, of the beginning of a custom or a tar archive.

    Raises TocCutShort where that isn't all of it, or DumpFailed where it is damaged.
    """
    toc_data = _first_member(head) if format_ == "tar" else head
    return toc_data, read_toc(toc_data)


def _first_member(head: bytes) -> bytes:
    """The content of a tar archive's first file, which is ``toc.dat``, as far as it is there."""
    try:
        size = TarInfo.frombuf(head[:BLOCKSIZE], "utf-8", "replace").size
    except (HeaderError, ValueError, OverflowError) as exc:
        raise TocCutShort(f"The archive doesn't begin as a tar archive does: {exc}.") from exc
    if size < 0:
        raise DumpFailed("The archive's first file has a size below 0.")
    return head[BLOCKSIZE : BLOCKSIZE + size]
