"""Slicer's ``.seg.nrrd`` through slicerio: label layers with a description of each segment."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.paths import not_there, suffix_of
from ProxyPromptSegmentLib.imaging.readers.nrrd_voxels import read_axes

_MOST_BYTES = 32 << 30  # of all masks together
Layers = npt.NDArray[Any]


def is_seg_nrrd(path: Path) -> bool:
    """Return whether a NRRD file has Slicer's segment fields, regardless of its name."""
    if suffix_of(path) in (".seg.nrrd", ".seg.nhdr"):
        return True
    if path.suffix.lower() not in (".nrrd", ".nhdr") or not path.is_file():
        return False
    with path.open("rb") as file:
        return b"\nSegment0_" in file.read(1 << 16)


def read_layers(path: Path) -> tuple[Layers, VolumeGeometry, list[dict[str, Any]]]:
    """Read the layers ``(L, I, J, K)``, their geometry, and slicerio's description of each segment.

    Raises:
        InputError: If the file is missing, damaged or cut short, or has no segments.
    """
    import slicerio

    if not path.is_file():
        raise InputError(not_there(path, "a segmentation file"))
    try:
        voxels = read_axes(path)[0].T  # its checks come before slicerio reads the header
        content = slicerio.read_segmentation(str(path), skip_voxels=True)
        layers = voxels if voxels.ndim == 4 else voxels[None]
        if layers.ndim != 4 or not np.issubdtype(layers.dtype, np.integer):
            raise InputError(
                f"{path.name} has voxels of shape {voxels.shape} and type {voxels.dtype}; a .seg.nrrd has whole "
                "numbers in three dimensions, or layers of them. Save the binary labelmap of it."
            )
        geometry = VolumeGeometry.from_affine(content["ijkToLPS"], (layers.shape[1], layers.shape[2], layers.shape[3]))
        infos = [dict(info) for info in content["segments"]]
        for number, (info, name) in enumerate(zip(infos, _names_in_header(path), strict=True)):
            info["name"] = name
            _complete(info, number, len(layers), path.name)
        _check_apart(infos, path.name)
    except GeometryError as error:
        raise InputError(f"{path.name}: {error}") from None
    except (InputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # a damaged header can lead slicerio anywhere
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise InputError(
            f"{path.name} cannot be read as a segmentation; it may be damaged or cut short ({reason}). Save it again."
        ) from None
    if len(infos) * layers[0].size > _MOST_BYTES:
        raise InputError(
            f"{path.name} has {len(infos)} segments of {layers[0].size} voxels, more than are held in memory; save "
            "those that you need as a file of their own."
        )
    if not infos:
        raise InputError(f"{path.name} has no segments; add one in Slicer's Segment Editor and save it again.")
    return layers, geometry, infos


def _complete(info: dict[str, Any], number: int, layers: int, name: str) -> None:
    """Fill in what old files lack, as Slicer does: layer n is that of segment n, and the value is 1.

    Raises:
        InputError: If the layer does not exist, or the value is that of the background.
    """
    if "layer" not in info:  # Slicer up to 4.10 wrote a layer for each segment; one layer can only be meant for all
        info["layer"] = number if layers > 1 or "labelValue" not in info else 0
    info.setdefault("labelValue", 1)
    if not 0 <= int(info["layer"]) < layers:
        raise InputError(
            f"{name}: segment '{info['name']}' should be in layer {info['layer']} of {layers}; save it again in Slicer."
        )
    if int(info["labelValue"]) < 1:
        raise InputError(
            f"{name}: segment '{info['name']}' has the label value {info['labelValue']}; 0 is the background. Save it "
            "again in Slicer."
        )


def _check_apart(infos: list[dict[str, Any]], name: str) -> None:
    """Refuse segments that have one value in one layer, so that nothing tells them apart.

    Raises:
        InputError: Naming two of them.
    """
    owners: dict[tuple[int, int], str] = {}
    for info in infos:
        place = (int(info["layer"]), int(info["labelValue"]))
        if place in owners:
            raise InputError(
                f"{name}: the segments '{owners[place]}' and '{info['name']}' have one label value ({place[1]}) in one "
                "layer, so that they cannot be distinguished; save it again in Slicer."
            )
        owners[place] = str(info["name"])


def write_layers(partial: Path, layers: Layers, geometry: VolumeGeometry, infos: list[dict[str, Any]]) -> None:
    """Write layers ``(L, I, J, K)`` with slicerio and read them back, because a full disk may truncate the file.

    Raises:
        OSError: If the file could not be written, or its content differs from what was written.
    """
    import nrrd
    import slicerio

    voxels = layers if len(layers) > 1 else layers[0]
    content = {
        "voxels": voxels,
        "ijkToLPS": geometry.affine,
        "containedRepresentationNames": ["Binary labelmap"],
        "segments": [_ascii_in(info) for info in infos],
    }
    slicerio.write_segmentation(str(partial), content, compression_level=6)
    _finish_header(partial)
    try:
        found = nrrd.read(str(partial))[0]
    except Exception as error:  # noqa: BLE001  # pynrrd raises many kinds for a truncated file
        raise OSError(f"the file could not be read back ({' '.join(str(error).split())[:100]})") from None
    if not np.array_equal(found, voxels):
        raise OSError("the file on the disk differs from what was written")


def _names_in_header(path: Path) -> list[str | None]:
    """Return the segment names in UTF-8, as Slicer writes them; pynrrd drops every non-ASCII character."""
    fields: dict[int, str | None] = {}
    with path.open("rb") as file:
        for raw in file:
            line = raw.rstrip(b"\r\n")
            if not line:
                break
            if match := re.match(rb"Segment(\d+)_(\w+):=(.*)", line):
                number = int(match[1])
                fields.setdefault(number, None)
                if match[2] == b"Name":
                    fields[number] = match[3].decode("utf-8", "replace")
    return [fields[number] for number in sorted(fields)]


def _to_ascii(text: str) -> str:
    """Replace characters that pynrrd cannot write by ``@utf8-<hex>@``; ``_finish_header`` reverts that."""
    return re.sub(r"[^\x20-\x7e]+", lambda match: f"@utf8-{match[0].encode('utf-8').hex()}@", text)


def _ascii_in(value: Any) -> Any:
    """Apply ``_to_ascii`` to every string in nested lists and dictionaries."""
    if isinstance(value, dict):
        return {_to_ascii(str(key)): _ascii_in(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_ascii_in(item) for item in value]
    return _to_ascii(value) if isinstance(value, str) else value


def _finish_header(partial: Path) -> None:
    """Restore the replaced characters as UTF-8, which Slicer reads and writes, and drop pynrrd's comment with the time.

    One content gives one file: folders of results recognize supports by the hash of their bytes.
    """
    header, gap, voxels = partial.read_bytes().partition(b"\n\n")
    restored = re.sub(rb"@utf8-([0-9a-f]+)@", lambda match: bytes.fromhex(match[1].decode()), header)
    restored = re.sub(rb"^# on \d{4}-.*\n", b"", restored, count=1, flags=re.MULTILINE)
    if restored != header:
        partial.write_bytes(restored + gap + voxels)
