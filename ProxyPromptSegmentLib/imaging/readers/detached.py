"""Headers whose voxels lie in another file: which file that is."""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.readers.meta_image import read_fields
from ProxyPromptSegmentLib.imaging.readers.nrrd_header import read_header

_NRRD, _META = (".nrrd", ".nhdr", ".seg.nrrd", ".seg.nhdr"), (".mha", ".mhd")


def files_of_header(path: Path) -> list[Path]:
    """Return a file and, if it is a header of voxels in another one, that one, which may not exist.

    A header that is damaged stands alone: reading it says what is wrong.
    """
    suffix = suffix_of(path)
    try:
        if suffix not in (*_NRRD, *_META) or not path.is_file():  # a pipe would be waited for
            return [path]
        text = _named(path, suffix)
        return [path, path.parent / text] if text and "\0" not in text else [path]
    except (InputError, OSError, ValueError):
        return [path]


def _named(path: Path, suffix: str) -> str:
    """Return the name of the file with the voxels; "" where they are in the header's own."""
    if suffix in _NRRD:
        return read_header(path).fields.get("data file", "")
    text = read_fields(path)[0]["elementdatafile"]
    return "" if text.upper() == "LOCAL" else text
