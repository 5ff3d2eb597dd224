"""Which image an annotation was drawn on, from what the scene says; and what speaks against a pair.

The best evidence is the annotation's own reference to its image. A file without one (`.seg.nrrd`, labels) leaves names,
grids and the subject hierarchy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import slicer

from ProxyPromptSegmentLib.imaging.geometry import LatticeMap
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import BINARY_LABELMAP, in_scene, nodes_of
from ProxyPromptSegmentModule.scene.reference_grid import reference_grid
from ProxyPromptSegmentModule.translation import _

_COMMON = frozenset(
    re.findall(
        r"\w+",
        "annotation annotations contour ct gt image img label labelmap labels mask masks mr mri roi scan seg segment "
        "segmentation segmentations segments truth vol volume nii gz nrrd mha",
    )
)
"""Words of names that do not tell one case from another."""


def image_of(segmentation: slicer.vtkMRMLSegmentationNode | None) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that a segmentation refers to as its image, or None."""
    if segmentation is None:
        return None
    role = slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole()
    node: slicer.vtkMRMLVolumeNode | None = segmentation.GetNodeReference(role)
    return node if node is not None and in_scene(node) else None


def image_for(segmentation: slicer.vtkMRMLSegmentationNode | None) -> slicer.vtkMRMLVolumeNode | None:
    """Return the volume that a segmentation was drawn on as far as the scene tells, or None if that is not clear."""
    known = image_of(segmentation)
    if known is not None or segmentation is None:
        return known
    scored = [
        (2 * _named_alike(one, segmentation) + same_grid(one, segmentation) + bool(same_study(one, segmentation)), one)
        for one in images(segmentation.GetScene())
        if not _numbered_otherwise(one, segmentation)
    ]
    best = max((score for score, _one in scored), default=0)
    found = [one for score, one in scored if score == best]
    return found[0] if best > 0 and len(found) == 1 else None


def doubts_about(volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode) -> list[str]:
    """Return sentences about what speaks against an image and an annotation belonging together; none if they do."""
    known = image_of(segmentation)
    names = {"annotation": segmentation.GetName(), "image": volume.GetName()}
    if known is volume:
        return []
    found = []
    if known is not None:
        found.append(_("‘{annotation}’ refers to the image ‘{other}’.").format(other=known.GetName(), **names))
    alike, grid, study = _named_alike(volume, segmentation), same_grid(volume, segmentation), False
    others = [one for one in images(segmentation.GetScene()) if one is not volume]
    if not alike:
        named = [one.GetName() for one in others if _named_alike(one, segmentation)]
        if named:
            found.append(_("Its name is like that of ‘{other}’.").format(other=named[0]))
        elif _numbered_otherwise(volume, segmentation):
            found.append(_("‘{annotation}’ and ‘{image}’ are named as different cases.").format(**names))
    if same_study(volume, segmentation) is False:
        study = True
        found.append(_("The subject hierarchy has them in different studies."))
    if not grid:
        found.append(_("‘{annotation}’ lies on another grid than ‘{image}’.").format(**names))
    elif not alike and not study:
        twins = [one.GetName() for one in others if same_grid(one, segmentation)]
        if twins:
            listed = ", ".join(f"‘{one}’" for one in twins[:3])
            found.append(_("Other images have the same grid: {others}.").format(others=listed))
    return found


def images(scene: slicer.vtkMRMLScene | None) -> list[slicer.vtkMRMLVolumeNode]:
    """Return the volumes of a scene that can be images: with voxels, and no label maps."""
    if scene is None:
        return []
    return [
        node
        for node in nodes_of(scene, slicer.vtkMRMLVolumeNode)
        if node.GetImageData() is not None
        and not node.IsA("vtkMRMLLabelMapVolumeNode")
        and not node.GetHideFromEditors()
    ]


def same_grid(volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether a segmentation was drawn on the grid of a volume: that of its geometry, or of its labelmaps."""
    matrix = lattices.ijk_to_segmentation(volume, segmentation)
    if matrix is None or volume.GetImageData() is None:
        return False
    shape, grids = lattices.size_kji(volume), []
    inside = segmentation.GetSegmentation()
    reference = reference_grid(inside)
    if reference is not None:
        grids.append(reference)
    else:
        labelmaps = (inside.GetSegment(one).GetRepresentation(BINARY_LABELMAP) for one in inside.GetSegmentIDs())
        drawn = [one for one in labelmaps if one is not None and not lattices.is_empty(one)]
        grids += [(lattices.labelmap_matrix(one), one.GetExtent()) for one in drawn]
    return bool(grids) and all(
        (found := lattices.relate(grid, extent, matrix, shape)) is not None and _is_inside(found, grid, extent, matrix)
        for grid, extent in grids
    )


def same_patient(volume: slicer.vtkMRMLVolumeNode, other: slicer.vtkMRMLVolumeNode) -> bool:
    """Return whether two images are of one study or, where the hierarchy says nothing, have the same grid."""
    study = same_study(volume, other)
    if study is not None:
        return study
    matrix = lattices.matrix_between(volume.GetParentTransformNode(), other.GetParentTransformNode())
    if matrix is None or volume.GetImageData() is None or other.GetImageData() is None:
        return False
    one, two = matrix @ lattices.ijk_to_ras(volume), lattices.ijk_to_ras(other)
    return lattices.size_kji(volume) == lattices.size_kji(other) and bool(np.allclose(one, two, atol=1e-3))


def _is_inside(found: LatticeMap, grid: lattices.Matrix, extent: Sequence[int], matrix: lattices.Matrix) -> bool:
    """Return whether an extent lies inside of a volume; one that reaches beyond was drawn on another image."""
    places = lattices.corners(extent) @ (np.linalg.inv(matrix) @ grid)[:3].T
    sizes = found.shape[::-1]
    return all(
        low > -0.5 and high < size - 0.5 for low, high, size in zip(places.min(0), places.max(0), sizes, strict=True)
    )


def _words(name: str) -> frozenset[str]:
    words = re.findall(r"[a-z]+|\d+", (name or "").casefold())
    return frozenset(word for word in words if word not in _COMMON)


def _named_alike(volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether the words of one name are among those of the other, such as "case 3" in "case 3 annotation"."""
    one, two = _words(volume.GetName()), _words(segmentation.GetName())
    return bool(one and two) and (one <= two or two <= one)


def _numbered_otherwise(volume: slicer.vtkMRMLVolumeNode, segmentation: slicer.vtkMRMLSegmentationNode) -> bool:
    """Return whether the names have different numbers or single letters: "case 3" and "case 5 labels".

    It is enough if the same word is followed by different ones; otherwise names with one in common are of one case.
    """
    one, two = (_numbers(node.GetName()) for node in (volume, segmentation))
    if any(one[word] != two[word] for word in one.keys() & two.keys()):
        return True
    return bool(one and two) and not set(one.values()) & set(two.values())


_SEQUENCE = re.compile(r"(?<![a-z0-9])[tvb]\d+(?![a-z0-9])")
"""Parts of names that tell images or versions of one case apart: t2, v1, b800."""
_COUNTED = re.compile(r"(?:annotation|contour|label|labelmap|mask|seg|segment|segmentation)s?[\W_]*\d+\W*$")
"""End of a default name: Segmentation_1."""


def _numbers(name: str) -> dict[str, str]:
    """Return the numbers and single letters of a name by the word before them; "#" for each number between."""
    text = " ".join(_COUNTED.split(" ".join(_SEQUENCE.split((name or "").casefold()))))
    found: dict[str, str] = {}
    word = ""
    for match in re.finditer(r"[a-z]+|\d+", text):
        part, is_last = match.group(), not text[match.end() : match.end() + 1].isdigit()
        if part.isdigit() or (len(part) == 1 and is_last):
            found.setdefault(word, part.lstrip("0") or "0")
            word += "#"
        else:
            word = part
    return found


def same_study(volume: slicer.vtkMRMLVolumeNode, other: slicer.vtkMRMLNode) -> bool | None:
    """Return whether both lie in the same study or patient of the subject hierarchy; None if one is in none."""
    scene = volume.GetScene()
    if scene is None or scene.GetFirstNodeByClass("vtkMRMLSubjectHierarchyNode") is None:
        return None
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    top, parents = hierarchy.GetSceneItemID(), []
    for node in (volume, other):
        item = hierarchy.GetItemByDataNode(node)
        parent = hierarchy.GetItemParent(item) if item else 0
        if not parent or parent == top:
            return None
        parents.append(parent)
    return bool(parents[0] == parents[1])
