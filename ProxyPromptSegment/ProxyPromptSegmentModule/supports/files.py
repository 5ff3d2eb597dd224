"""The files of supports, as far as the scene has them just as they are on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.library.entry import IMAGE_FILE, MASKS_FILE

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.library.store import SupportLibrary

_WHOLE = (".nrrd", ".seg.nrrd", ".nii.gz", ".nii", ".mha")
"""Files that hold a whole volume or segmentation."""


def files_of_nodes(
    volume: slicer.vtkMRMLVolumeNode | None, segmentation: slicer.vtkMRMLSegmentationNode | None
) -> tuple[Path, Path] | None:
    """Return the files of an image and its annotation; None if one has none, was changed since, or was moved."""
    image, mask = (_file_of(node) for node in (volume, segmentation))
    return (image, mask) if image is not None and mask is not None else None


def files_in_library(library: SupportLibrary, identifier: str) -> tuple[Path, Path]:
    """Return the files of a case of the library."""
    folder = Path(library.folder) / identifier
    return folder / IMAGE_FILE, folder / MASKS_FILE


def _file_of(node: slicer.vtkMRMLTransformableNode | None) -> Path | None:
    if node is None or node.GetParentTransformNode() is not None or node.GetModifiedSinceRead():
        return None
    storage = node.GetStorageNode()
    if storage is None or storage.GetNumberOfFileNames():  # a series, of which the node has several files
        return None
    path = Path(storage.GetFullNameFromFileName() or "")
    return path if suffix_of(path) in _WHOLE and path.is_file() else None
