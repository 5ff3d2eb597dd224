"""The writer of segmentations, frame by frame, into a new sequence in the image sequence's browser.

To be fast, every item gets its empty segments at the beginning, and later only the labelmaps inside the items are
replaced. Neither sequence nor browser notices that, so nothing is copied and no other proxy is updated. The proxy
shares its segmentation with the selected item, as in Slicer when changes of a proxy are saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import slicer

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.new_segments import SegmentNames, make_segment, place_in_hierarchy
from ProxyPromptSegmentModule.scene.nodes import BINARY_LABELMAP, add_node, in_scene, name_of, remove_node
from ProxyPromptSegmentModule.scene.owners import claim_film
from ProxyPromptSegmentModule.scene.terminology import Terminology
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentModule.scene.sequence_reader import Frames

Mask = npt.NDArray[np.uint8]


class SegmentationSequenceWriter:
    """A writer of one run's segmentations into a new sequence; main thread only.

    Other sequences of the browser and the selected item do not change. Items that are never written stay empty and can
    be edited; items that were not requested have no segmentation. Edits of the proxy are stored in the sequence.

    Attributes:
        sequence: The new sequence node.
        proxy: Its proxy, a segmentation node that shows the selected item.
        segment_ids: Segment of each object, the same in every item.
        written: Numbers of the image sequence's items that were written, in the order of writing.
    """

    def __init__(
        self,
        browser_node: slicer.vtkMRMLSequenceBrowserNode | None,
        frames: Frames,
        names: Sequence[str],
        colors: Sequence[tuple[float, float, float]] = (),
        terminologies: Sequence[Terminology | None] = (),
        name: str = "",
    ) -> None:
        """Create sequence and proxy node, with an empty segmentation for each frame.

        Args:
            browser_node: The browser.
            frames: The result of `frames_of`; masks are written for these items.
            names: The ``N`` objects.
            colors: Red, green, blue in 0..1 of each; Slicer's default colours if empty.
            terminologies: Terminology of each as `SupportSet` has it, or None.
            name: Name of the new nodes, made unique; by default derived from the image's name.

        Raises:
            UsageError: If the browser does not show the frames' sequence.
            InputError: If names repeat, or there is another number of colours.
        """
        scene = None if browser_node is None else browser_node.GetScene()
        images: slicer.vtkMRMLSequenceNode | None = None if scene is None else scene.GetNodeByID(frames.sequence_id)
        if (
            browser_node is None
            or scene is None
            or images is None
            or not browser_node.IsSynchronizedSequenceNode(images, True)
        ):
            raise UsageError(
                f"{name_of(browser_node)} does not show the sequence that was segmented any more; choose its browser."
            )
        self._scene, self._browser, self._view = scene, browser_node, frames.view
        self._objects = len(names)
        self.written: list[int] = []
        self._template, self.segment_ids = _template(
            SegmentNames(objects=tuple(names), colors=tuple(colors), terminologies=tuple(terminologies))
        )
        self._places = {item: _Place.of(images, item) for item in frames.items}
        shown: slicer.vtkMRMLVolumeNode | None = scene.GetNodeByID(frames.proxy_id) if frames.proxy_id else None
        title = name or _("{name} segmentation").format(name=(shown or images).GetName())
        self.sequence = self._make_sequence(images, title)
        self.proxy = self._make_proxy(shown, title)
        self._join()

    def _make_sequence(self, images: slicer.vtkMRMLSequenceNode, title: str) -> slicer.vtkMRMLSequenceNode:
        """Create a sequence with the images' index and an empty segmentation for each frame; not in a browser yet."""
        sequence = add_node(self._scene, slicer.vtkMRMLSequenceNode, title)
        before = sequence.StartModify()
        sequence.SetIndexName(images.GetIndexName())
        sequence.SetIndexUnit(images.GetIndexUnit())
        sequence.SetIndexType(images.GetIndexType())
        sequence.SetNumericIndexValueTolerance(images.GetNumericIndexValueTolerance())
        for place in self._places.values():
            self._add_item(sequence, place)
        sequence.EndModify(before)
        return sequence

    def _add_item(self, sequence: slicer.vtkMRMLSequenceNode, place: _Place) -> slicer.vtkMRMLSegmentationNode:
        """Add an empty segmentation with the lattice of its image."""
        node: slicer.vtkMRMLSegmentationNode = sequence.SetDataNodeAtValue(self._template, place.value)
        converter = slicer.vtkSegmentationConverter
        node.GetSegmentation().SetConversionParameter(
            converter.GetReferenceImageGeometryParameterName(),
            converter.SerializeImageGeometry(_without_voxels(place.matrix, lattices.full_extent(place.shape))),
        )
        return node

    def _make_proxy(self, shown: slicer.vtkMRMLVolumeNode | None, title: str) -> slicer.vtkMRMLSegmentationNode:
        """Create the proxy node, with the image proxy's transform and place in the hierarchy."""
        proxy = add_node(self._scene, slicer.vtkMRMLSegmentationNode, title)
        proxy.CreateDefaultDisplayNodes()
        if shown is not None:
            proxy.SetAndObserveTransformNodeID(shown.GetTransformNodeID())
            proxy.SetNodeReferenceID(proxy.GetReferenceImageGeometryReferenceRole(), shown.GetID())
            claim_film(proxy, shown)
            place_in_hierarchy(proxy, shown)
        return proxy

    def _join(self) -> None:
        """Add the sequence to the browser, with one event."""
        browser = self._browser
        before = browser.StartModify()
        browser.AddSynchronizedSequenceNodeID(self.sequence.GetID())
        browser.AddProxyNode(self.proxy, self.sequence, False)
        browser.SetPlayback(self.sequence, True)
        browser.SetOverwriteProxyName(self.sequence, False)
        browser.SetSaveChanges(self.sequence, True)
        # Otherwise Slicer would fill an item that was not requested with a copy of the previous one.
        browser.SetMissingItemMode(self.sequence, browser.MissingItemSetToDefault)
        browser.EndModify(before)

    def write(self, item: int, masks: Mask) -> None:
        """Write the segmentation of one item; it replaces an earlier one.

        Does nothing if sequence or proxy are no longer in the scene.

        Args:
            item: Number of the item in the image sequence (one of ``frames.items``).
            masks: 0 or 1, uint8: ``(N, H, W)`` turned by ``frames.view`` for slices, ``(N, K, J, I)`` for volumes.

        Raises:
            UsageError: If the item is not among the frames or the shape differs.
        """
        place = self._places.get(item)
        if place is None:
            raise UsageError(f"item {item} is not among the frames that were read; read it with them first.")
        volumes = self._stored(np.asarray(masks), place)
        if not self.usable:
            return
        node = self.sequence.GetDataNodeAtValue(place.value) or self._add_item(self.sequence, place)
        before = self.proxy.StartModify()  # it shares the selected item's segmentation; one event is enough
        _put(node.GetSegmentation(), list(self.segment_ids.values()), volumes, place.matrix)
        self.proxy.EndModify(before)
        self.sequence.StorableModified()
        if item not in self.written:
            self.written.append(item)

    def _stored(self, masks: Mask, place: _Place) -> npt.NDArray[np.bool_]:
        """Return the masks on the item's own grid, ``(N, K, J, I)``.

        Raises:
            UsageError: If the shape differs.
        """
        stored = np.zeros((self._objects, *place.shape), bool)
        wanted = stored.shape if self._view is None else (self._objects, *self._view.take(stored[0]).shape[1:])
        if masks.shape != wanted:
            raise UsageError(f"the masks have shape {masks.shape}; this item needs {wanted}.")
        if self._view is None:
            return masks > 0
        for one, mask in zip(stored, masks, strict=True):
            self._view.take(one)[0] = mask > 0
        return stored

    def finish(self) -> None:
        """End the run: notify widgets that show the sequence."""
        if self.usable:
            self.sequence.Modified()

    @property
    def usable(self) -> bool:
        """Whether sequence and proxy are still in the scene."""
        return in_scene(self.sequence) and in_scene(self.proxy)

    def undo(self) -> bool:
        """Remove everything that was created here; return False if it no longer exists."""
        there: list[slicer.vtkMRMLNode] = [node for node in (self.proxy, self.sequence) if in_scene(node)]
        if in_scene(self._browser) and in_scene(self.sequence):
            other = self._browser.GetProxyNode(self.sequence)  # Slicer creates a new proxy if ours was deleted
            there += [other] if other is not None and other is not self.proxy else []
            self._browser.RemoveSynchronizedSequenceNode(self.sequence.GetID())
        for node in there:
            remove_node(node)
        if not there:
            return False
        self.written = []
        return True


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The lattice and index of an item's segmentation.

    Attributes:
        value: Index value in the sequence.
        matrix: Matrix from the item's voxels to RAS, without parent transforms.
        shape: ``(K, J, I)``.
    """

    value: str
    matrix: lattices.Matrix
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, images: slicer.vtkMRMLSequenceNode, item: int) -> _Place:
        """Return the place of an image sequence's item."""
        node: slicer.vtkMRMLVolumeNode = images.GetNthDataNode(item)
        return cls(value=images.GetNthIndexValue(item), matrix=lattices.ijk_to_ras(node), shape=lattices.size_kji(node))


def _template(wanted: SegmentNames) -> tuple[slicer.vtkMRMLSegmentationNode, dict[str, str]]:
    """Create a segmentation node with empty segments, outside any scene; also return each object's segment id."""
    node = slicer.vtkMRMLSegmentationNode()
    node.SetName("segmentation")
    segmentation = node.GetSegmentation()
    segmentation.SetSourceRepresentationName(BINARY_LABELMAP)
    ids = {name: make_segment(segmentation, name, number, wanted) for number, name in enumerate(wanted.objects)}
    return node, ids


def _without_voxels(matrix: lattices.Matrix, extent: Sequence[int]) -> slicer.vtkOrientedImageData:
    """Create an image with a lattice but without voxels."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent(*extent)
    image.SetGeometryFromImageToWorldMatrix(lattices.vtk_matrix_of(matrix))
    return image


def _put(
    segmentation: slicer.vtkSegmentation, ids: Sequence[str], masks: npt.NDArray[np.bool_], matrix: lattices.Matrix
) -> None:
    """Replace the labelmaps of segments; those that do not overlap share one, as usual in Slicer.

    Args:
        segmentation: A vtkSegmentation.
        ids: Segment of each object; removed segments are skipped.
        masks: ``(N, K, J, I)``.
        matrix: Matrix from voxels to RAS.
    """
    labelmap, box = None, _box(np.any(masks, axis=0))
    for values, members in _layers(masks[(slice(None), *(slice(low, high + 1) for low, high in box))]):
        labelmap = _labelmap_of(values, matrix, box)
        for label, number in enumerate(members, 1):
            segment = segmentation.GetSegment(ids[number])
            if segment is not None:
                segment.SetLabelValue(label)
                segment.AddRepresentation(BINARY_LABELMAP, labelmap)
    if labelmap is not None:
        labelmap.Modified()  # notifies observers once and removes outdated surfaces


def _box(inside: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last index of the True voxels along each axis; ``(0, -1)`` if there are none."""
    box = []
    for axis in range(inside.ndim):
        there = np.flatnonzero(inside.any(axis=tuple(n for n in range(inside.ndim) if n != axis)))
        box.append((int(there[0]), int(there[-1])) if there.size else (0, -1))
    return box


def _layers(masks: npt.NDArray[np.bool_]) -> list[tuple[npt.NDArray[np.uint16], list[int]]]:
    """Distribute objects to as few label arrays as possible without overlap; labels count from 1 in their order."""
    layers: list[tuple[npt.NDArray[np.uint16], list[int]]] = []
    for number, mask in enumerate(masks):
        fitting = next((layer for layer in layers if not layer[0][mask].any()), None)
        if fitting is None:
            fitting = (np.zeros(mask.shape, np.uint16), [])
            layers.append(fitting)
        fitting[1].append(number)
        fitting[0][mask] = len(fitting[1])
    return layers


def _labelmap_of(
    values: npt.NDArray[np.uint16], matrix: lattices.Matrix, box: Sequence[tuple[int, int]]
) -> slicer.vtkOrientedImageData:
    """Create a labelmap from the labels in a box ``(k, j, i)`` of a volume."""
    extent = [bound for ends in reversed(box) for bound in ends]
    if not values.size:
        return _without_voxels(matrix, extent)
    labelmap = lattices.new_labelmap(matrix, extent, np.uint8 if values.max() < 256 else np.uint16)
    lattices.labelmap_array(labelmap)[...] = values
    return labelmap
