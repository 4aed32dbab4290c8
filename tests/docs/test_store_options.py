"""docs/store-options.md has every option of every kind of store, and no other."""

import re

import pytest
from support.pages import ROOT

from storage_backends import InvalidStorageURL, place_of

PAGE = (ROOT / "docs" / "store-options.md").read_text("utf-8")


def _documented(*titles: str) -> set[str]:
    """Return the names in the first column of the tables in these sections."""
    sections = [PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0] for title in titles]
    return {name for section in sections for name in re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)}


def _known(url: str) -> set[str]:
    """Return the options that an error about an unknown option lists."""
    with pytest.raises(InvalidStorageURL, match="it has ") as caught:
        place_of(url, {"no such option": "x"})
    return set(str(caught.value).rpartition("it has ")[2].split(", "))


@pytest.mark.parametrize(
    ("url", "titles"),
    [
        ("s3://bucket", ["Options of S3 and of Google Cloud Storage", "Options of S3 only"]),
        ("gs://bucket", ["Options of S3 and of Google Cloud Storage", "Options of Google Cloud Storage only"]),
        ("file:///folder", ["Options of a folder"]),
    ],
)
def test_the_page_has_every_option(url: str, titles: list[str]) -> None:
    assert _documented(*titles) == _known(url)
