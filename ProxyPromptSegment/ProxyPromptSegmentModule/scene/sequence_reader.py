"""The reader of a sequence browser's items; the displayed item does not change."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import slicer
import slicer.util

from ProxyPromptSegmentLib.errors import GeometryError, InputError, UsageError
from ProxyPromptSegmentLib.imaging.geometry import SliceView, VolumeGeometry, auto_axis, slice_view
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import Voxels, name_of, nodes_of
from ProxyPromptSegmentModule.states import ItemKind

MOST_NAMED = 5
"""Largest number of items that a sentence lists."""

Sequenced = slicer.vtkMRMLVolumeNode | slicer.vtkMRMLSequenceNode
"""The proxy volume of a sequence, or the sequence itself."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Copies of the items of an image sequence.

    Attributes:
        kind: ``slices`` if all items are single-slice images of one size, else ``volumes``.
        images: For slices: float32 ``(T, H, W)`` or ``(T, H, W, 3)``, turned by ``view``; None for volumes.
        volumes: For volumes: one float32 ``(K, J, I)`` or ``(K, J, I, 3)`` for each item, as stored; else empty.
        view: How slices were turned (``view.take``); None for volumes.
        items: Number of each item in the sequence, ``(T,)``.
        values: Index value of each item, as text.
        times: Index values as numbers; None if the index is not numeric.
        unit: Unit of the index, usually ``s``.
        geometries: Geometry of each item in LPS, with the proxy's parent transform if that preserves right angles.
        sequence_id: The sequence node.
        proxy_id: Its proxy node in the browser; "" for none.
        browser_id: The browser; "" for none.
        notes: Notes for the user: items that were skipped because they are empty or have another size.
    """

    kind: ItemKind
    images: npt.NDArray[np.float32] | None
    volumes: tuple[npt.NDArray[np.float32], ...]
    view: SliceView | None
    items: tuple[int, ...]
    values: tuple[str, ...]
    times: tuple[float, ...] | None
    unit: str
    geometries: tuple[VolumeGeometry, ...]
    sequence_id: str
    proxy_id: str
    browser_id: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)


def frames_of(
    browser_node: slicer.vtkMRMLSequenceBrowserNode | None,
    node: Sequenced,
    items: Sequence[int] | None = None,
    oriented: bool = True,
) -> Frames:
    """Copy items of an image sequence; neither the browser's selected item nor any node changes.

    Args:
        browser_node: Sequence browser node; None if ``node`` is a sequence node.
        node: The proxy volume node, or the sequence node itself.
        items: Numbers of items, counted from 0; all by default.
        oriented: Whether single slices are turned into radiological orientation, as supports are.

    Raises:
        UsageError: If the node does not belong to a sequence of this browser, or an item does not exist.
        InputError: If the sequence has no images.
        GeometryError: If the first image does not have a regular grid.
    """
    reading = reading_frames(browser_node, node, items, oriented)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            frames: Frames = end.value
            return frames


def reading_frames(
    browser_node: slicer.vtkMRMLSequenceBrowserNode | None,
    node: Sequenced,
    items: Sequence[int] | None = None,
    oriented: bool = True,
) -> Generator[tuple[int, int], None, Frames]:
    """Copy items like `frames_of`, one at a time: yields ``(done, total)`` after each and returns the frames.

    Raises:
        UsageError, InputError, GeometryError: As `frames_of`.
    """
    sequence, proxy = _sequence_of(browser_node, node)
    wanted = _wanted(sequence, items)
    to_world = None if proxy is None else lattices.matrix_between(proxy.GetParentTransformNode(), None)
    collected = _Collected(oriented, np.eye(4) if to_world is None else to_world)
    for done, item in enumerate(wanted, 1):
        collected.add(item, sequence.GetNthDataNode(item), len(wanted))
        yield done, len(wanted)
    if not collected.items:
        raise InputError(f"{name_of(sequence)} has no images; choose a sequence of volumes.")
    values = tuple(sequence.GetNthIndexValue(item) for item in collected.items)
    numeric = sequence.GetIndexType() == sequence.NumericIndex
    return Frames(
        kind=ItemKind.SLICES if collected.view is not None else ItemKind.VOLUMES,
        images=None if collected.images is None else collected.images[: len(collected.items)],
        volumes=tuple(collected.volumes),
        view=collected.view,
        items=tuple(collected.items),
        values=values,
        times=tuple(float(value) for value in values) if numeric else None,
        unit=sequence.GetIndexUnit() or "",
        geometries=tuple(collected.geometries),
        sequence_id=sequence.GetID(),
        proxy_id="" if proxy is None else proxy.GetID(),
        browser_id="" if browser_node is None else browser_node.GetID(),
        notes=tuple(collected.notes()),
    )


class _Collected:
    """The items that were read so far; the first one determines their kind."""

    def __init__(self, oriented: bool, to_world: lattices.Matrix) -> None:
        self.items: list[int] = []
        self.geometries: list[VolumeGeometry] = []
        self.images: npt.NDArray[np.float32] | None = None
        self.volumes: list[npt.NDArray[np.float32]] = []
        self.view: SliceView | None = None
        self._oriented, self._to_world = oriented, to_world
        self._empty: list[int] = []
        self._other: list[int] = []

    def add(self, item: int, node: slicer.vtkMRMLNode | None, total: int) -> None:
        """Copy one item, or remember why it was skipped."""
        image = node if isinstance(node, slicer.vtkMRMLVolumeNode) else None
        voxels = None if image is None else _voxels(image)
        if image is None or voxels is None:
            self._empty.append(item)
            return
        geometry = self._geometry(image, voxels.shape)
        if not self.items and 1 in voxels.shape[:3]:
            self.view = slice_view(geometry, auto_axis(geometry), self._oriented)
        if self.view is None:
            self.volumes.append(np.array(voxels, np.float32, order="C"))
        else:
            turned = self.view.take(voxels)
            if self.images is None:
                self.images = np.empty((total, *turned.shape[1:]), np.float32)
            if len(turned) != 1 or turned.shape[1:] != self.images.shape[1:]:
                self._other.append(item)
                return
            self.images[len(self.items)] = turned[0]
        self.items.append(item)
        self.geometries.append(geometry)

    def _geometry(self, node: slicer.vtkMRMLVolumeNode, shape: tuple[int, ...]) -> VolumeGeometry:
        """Return the geometry of an item in the world; without a parent transform that shears or is not linear."""
        size = (int(shape[2]), int(shape[1]), int(shape[0]))
        own = lattices.ijk_to_ras(node)
        try:
            return VolumeGeometry.from_affine(lattices.LPS_OF_RAS @ self._to_world @ own, size)
        except GeometryError:
            return VolumeGeometry.from_affine(lattices.LPS_OF_RAS @ own, size)

    def notes(self) -> list[str]:
        """Return sentences about skipped items and about volumes of different sizes."""
        notes = []
        for items, why in ((self._empty, "have no image"), (self._other, "have another size than the first")):
            if items:
                listed = ", ".join(map(str, items[:MOST_NAMED])) + (", ..." if len(items) > MOST_NAMED else "")
                notes.append(f"Items {listed} of the sequence {why} and were skipped ({len(items)} in all).")
        shapes = {volume.shape for volume in self.volumes}
        if len(shapes) > 1:
            notes.append(f"The volumes of the sequence have {len(shapes)} sizes; each is segmented on its own grid.")
        return notes


def _voxels(node: slicer.vtkMRMLVolumeNode) -> Voxels | None:
    """Return a view ``(K, J, I)`` or ``(K, J, I, 3)`` of an item's voxels, or None if it has no such image."""
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None or 0 in image.GetDimensions():
        return None
    if image.GetNumberOfScalarComponents() not in (1, 3, 4):
        return None
    array: Voxels = slicer.util.arrayFromVolume(node)
    return array[..., :3] if array.ndim == 4 else array


def _sequence_of(
    browser_node: slicer.vtkMRMLSequenceBrowserNode | None, node: Sequenced | None
) -> tuple[slicer.vtkMRMLSequenceNode, slicer.vtkMRMLVolumeNode | None]:
    """Return the sequence node and its proxy node, which may be None.

    Raises:
        UsageError: If there is no such sequence.
    """
    if node is None:
        raise UsageError("no sequence was given; choose a sequence, or the volume that a sequence browser shows.")
    if isinstance(node, slicer.vtkMRMLSequenceNode):
        return node, None if browser_node is None else browser_node.GetProxyNode(node)
    browser = browser_node or next(iter(browsers_of(node)), None)
    sequence = None if browser is None else browser.GetSequenceNode(node)
    if sequence is None:
        raise UsageError(f"{name_of(node)} shows no sequence of this browser; choose a volume that one shows.")
    return sequence, node


def _wanted(sequence: slicer.vtkMRMLSequenceNode, items: Sequence[int] | None) -> list[int]:
    """Return the numbers of the items to read, each once.

    Raises:
        UsageError: If one does not exist.
    """
    count = sequence.GetNumberOfDataNodes()
    wanted = list(range(count)) if items is None else list(dict.fromkeys(int(item) for item in items))
    outside = [item for item in wanted if not 0 <= item < count]
    if outside:
        raise UsageError(
            f"{name_of(sequence)} has no item {outside[0]}; its items are 0 to {count - 1} (counted from 0)."
        )
    return wanted


def browsers_of(node: slicer.vtkMRMLNode | None) -> list[slicer.vtkMRMLSequenceBrowserNode]:
    """Return the browsers in which a node is a proxy or a sequence; empty for all other nodes."""
    scene = None if node is None else node.GetScene()
    if node is None or scene is None or not node.GetID():
        return []
    return [
        browser
        for browser in nodes_of(scene, slicer.vtkMRMLSequenceBrowserNode)
        if browser.IsProxyNodeID(node.GetID()) or browser.IsSynchronizedSequenceNodeID(node.GetID(), True)
    ]
