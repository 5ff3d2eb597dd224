"""Sources of supports: two nodes, or a case of the library; read only, with caches that notice changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError, ProxyPromptError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, axis_number
from ProxyPromptSegmentLib.library.entry import CASE_FILE
from ProxyPromptSegmentLib.support.matching import axis_of_counts
from ProxyPromptSegmentModule.scene import masks, nodes
from ProxyPromptSegmentModule.scene.pieces import Pieces, at_once, slices_at_once
from ProxyPromptSegmentModule.scene.stamps import place_stamp, segmentation_stamp, voxels_stamp
from ProxyPromptSegmentModule.supports.segment_lookup import kept_ids
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import slicer

    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume
    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentModule.scene.stamps import Stamp
    from ProxyPromptSegmentModule.supports.saved import ObjectInfo

    Masks = tuple[Segmentation, tuple[str, ...]]

T = TypeVar("T")


class Remembered(Generic[T]):
    """The cached result, or error, of a function until its stamp changes."""

    def __init__(self) -> None:
        """Create an empty cache."""
        self._stamp: Stamp | None = None
        self._value: T | None = None
        self._error: ProxyPromptError | None = None

    def get(self, stamp: Stamp, read: Callable[[], T]) -> T:
        """Return the result of ``read`` for this stamp; calls it only if the result is not cached.

        Raises:
            ProxyPromptError: As ``read``.
        """
        if self._stamp != stamp:
            self._value, self._error = None, None
            try:
                self._value = read()
            except ProxyPromptError as error:
                self._error = error
            self._stamp = stamp
        if self._error:
            raise self._error.with_traceback(None)
        assert self._value is not None  # ``read`` never returns None
        return self._value

    def put(self, stamp: Stamp, value: T) -> None:
        """Store a result that was found otherwise."""
        self._stamp, self._value, self._error = stamp, value, None

    def refusal(self, stamp: Stamp) -> str:
        """Return the cached error for this stamp; "" if there is none."""
        return str(self._error) if self._error and self._stamp == stamp else ""

    def clear(self) -> None:
        """Drop the value; an error is small and is kept."""
        if self._error is None:
            self._stamp, self._value = None, None


@dataclass
class Memory:
    """The caches of one row: voxels, annotated slices, library entry, case, thumbnail."""

    masks: Remembered[Masks] = field(default_factory=Remembered)
    marks: Remembered[Annotation] = field(default_factory=Remembered)
    image: Remembered[Volume] = field(default_factory=Remembered)
    stored: Remembered[SupportCase] = field(default_factory=Remembered)
    entry: Remembered[LibraryEntry] = field(default_factory=Remembered)
    case: Remembered[SupportCase] = field(default_factory=Remembered)
    picture: Remembered[npt.NDArray[np.uint8]] = field(default_factory=Remembered)

    def let_go(self) -> None:
        """Drop the voxels, which are large."""
        self.masks.clear()
        self.image.clear()
        self.stored.clear()
        self.case.clear()


@dataclass(frozen=True, kw_only=True)
class Marks:
    """An object and its annotated slices by axis."""

    segment_id: str
    name: str
    color_rgb: tuple[float, float, float]
    slices: Mapping[Axis, tuple[int, ...]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Annotation:
    """Objects with at least one voxel, and the axis along which they were annotated."""

    axis: Axis
    objects: tuple[Marks, ...]
    notes: tuple[str, ...] = ()


def annotation_of(segmentation: Segmentation, notes: Sequence[str] = ()) -> Annotation:
    """Return where the objects of a segmentation are annotated."""
    return at_once(annotation_in_pieces(segmentation, notes))


def annotation_in_pieces(segmentation: Segmentation, notes: Sequence[str] = ()) -> Pieces[Annotation]:
    """Return what `annotation_of` returns, in pieces."""
    marked = []
    for segment in segmentation.segments:
        shape, mask = segment.mask.shape, segment.mask.view(bool)
        k, plane = np.zeros(shape[0], bool), np.zeros(shape[1:], bool)
        step = slices_at_once(mask[0].nbytes)
        for start in range(0, shape[0], step):
            piece = mask[start : start + step]
            k[start : start + step] = piece.any(axis=(1, 2))
            for number in np.flatnonzero(k[start : start + step]):
                plane |= piece[number]
            yield
        if not k.any():
            continue
        lines = (k, np.any(plane, axis=1), np.any(plane, axis=0))
        numbers: dict[Axis, tuple[int, ...]] = {
            axis: tuple(int(n) for n in np.flatnonzero(line)) for axis, line in zip(AXES, lines, strict=True)
        }
        marked.append(
            Marks(
                segment_id=segment.metadata.get("id", ""),
                name=segment.name,
                color_rgb=segment.color_rgb,
                slices=numbers,
            )
        )
    counts = {axis: len({n for one in marked for n in one.slices[axis]}) for axis in AXES}
    axis = axis_of_counts(segmentation.geometry, counts)
    return Annotation(axis=axis, objects=tuple(marked), notes=tuple(notes))


class NodeSource:
    """A support made of a volume node and a segmentation node."""

    def __init__(
        self,
        volume: slicer.vtkMRMLVolumeNode,
        segmentation: slicer.vtkMRMLSegmentationNode,
        segments: Sequence[str] | None,
        memory: Memory,
    ) -> None:
        """Store the nodes; ``segments`` are identifiers, None means all.

        Raises:
            SupportError: If none of the segments exists any more.
        """
        self.volume_node, self.segmentation_node, self.memory = volume, segmentation, memory
        self._segments = segments
        self.ids = kept_ids(segmentation, segments)
        if not self.ids:
            told = _("The segments of '{name}' that were used as a support no longer exist; add the support again.")
            if segments is None:
                told = _("'{name}' has no segments; draw one in the Segment Editor.")
            raise SupportError(told.format(name=segmentation.GetName()))
        self.marks_stamp, self.image_stamp = self._stamps()

    def _stamps(self) -> tuple[Stamp, Stamp]:
        """Return values that change with the annotation, and with the image."""
        place = place_stamp(self.volume_node)
        marks = segmentation_stamp(self.segmentation_node, self.ids)
        return (place, marks), (place, voxels_stamp(self.volume_node))

    @property
    def name(self) -> str:
        """The default title."""
        return self.volume_node.GetName() or self.volume_node.GetID()

    def annotation(self) -> Annotation:
        """Return where the objects are annotated.

        Raises:
            ProxyPromptError: If the image was refused, or the segmentation cannot be read on its grid.
        """
        if refused := self.memory.image.refusal(self.image_stamp):
            raise InputError(refused)
        return self.memory.marks.get(self.marks_stamp, lambda: annotation_of(*self._masks()))

    def read(self) -> tuple[Volume, Segmentation]:
        """Return copies of image and annotation.

        Raises:
            ProxyPromptError: If one cannot be read.
        """
        volume = self.memory.image.get(self.image_stamp, lambda: nodes.volume_of(self.volume_node)[0])
        return volume, self._masks()[0]

    def read_in_pieces(self) -> Pieces[None]:
        """Read image and annotation a little at a time; afterwards `read` and `annotation` are immediate.

        Raises:
            ProxyPromptError: If one cannot be read, or was removed from the scene meanwhile.
        """
        for _piece in self._reading():
            yield
            gone = next((one for one in (self.volume_node, self.segmentation_node) if not nodes.in_scene(one)), None)
            if gone is not None:
                told = _("‘{name}’ was removed while it was read; choose another one.")
                raise InputError(told.format(name=gone.GetName()))

    def _reading(self) -> Pieces[None]:
        """Read everything, again where something is changed meanwhile."""
        while True:
            volume, _notes = yield from nodes.volume_in_pieces(self.volume_node)
            read = yield from masks.segmentation_in_pieces(self.segmentation_node, self.volume_node, self.ids)
            marks = yield from annotation_in_pieces(*read)
            if self._stamps() == (self.marks_stamp, self.image_stamp):
                break
            self.ids = kept_ids(self.segmentation_node, self._segments)
            self.marks_stamp, self.image_stamp = self._stamps()
        self.memory.image.put(self.image_stamp, volume)
        self.memory.masks.put(self.marks_stamp, read)
        self.memory.marks.put(self.marks_stamp, marks)

    def _masks(self) -> tuple[Segmentation, tuple[str, ...]]:
        return self.memory.masks.get(
            self.marks_stamp, lambda: masks.segmentation_of(self.segmentation_node, self.volume_node, self.ids)
        )


class LibrarySource:
    """A support from the library."""

    def __init__(self, library: SupportLibrary | None, identifier: str, name: str, memory: Memory) -> None:
        """Find the case by its identifier.

        Raises:
            SupportError: If there is no library, or the case is damaged or no longer in it.
        """
        if library is None:
            raise SupportError(_("'{name}' is a case of the support library, which is not open.").format(name=name))
        self.library, self.memory = library, memory
        self.entry = memory.entry.get(_file_stamp(library, identifier), lambda: self._find(identifier, name))
        if self.entry.problem:
            raise SupportError(self.entry.problem)
        self.marks_stamp = self.image_stamp = (str(self.entry.folder), _file_stamp(library, identifier))

    def _find(self, identifier: str, name: str) -> LibraryEntry:
        found = next((entry for entry in self.library.entries() if entry.id == identifier), None)
        if found is None:
            told = _("'{name}' is not in the support library any more; remove it here, or import the case again.")
            raise SupportError(told.format(name=name or identifier))
        return found

    @property
    def name(self) -> str:
        """The title in the library."""
        return self.entry.title

    def annotation(self) -> Annotation:
        """Return where the objects are annotated, as stored in the library; no image is read.

        Raises:
            ProxyPromptError: If the case was read and refused.
        """
        if refused := self.memory.stored.refusal(self.image_stamp):
            raise InputError(refused)
        axis = AXES[axis_number(self.entry.axis)]
        objects = tuple(
            Marks(segment_id="", name=one.name, color_rgb=one.color, slices={axis: tuple(one.slices)})
            for one in self.entry.objects
        )
        return Annotation(axis=axis, objects=objects)

    def read(self) -> tuple[Volume, Segmentation]:
        """Return image and annotation.

        Raises:
            ProxyPromptError: If the case is damaged.
        """

        def load() -> SupportCase:
            try:
                return self.library.load(self.entry)
            except ImportError as error:
                told = _("The package {name}, which reads the library, is not installed yet; install it first.")
                raise SupportError(told.format(name=error.name or error)) from None

        case = self.memory.stored.get(self.image_stamp, load)
        return case.volume, case.segmentation

    @property
    def thumbnail(self) -> Path | None:
        """The file of its thumbnail, or None."""
        return self.library.thumbnail_path(self.entry)


def _file_stamp(library: SupportLibrary, identifier: str) -> Stamp:
    """Return a value that changes with the library's files of a case; they are not read."""
    try:
        told = (Path(library.folder) / identifier / CASE_FILE).stat()
        return (identifier, told.st_mtime_ns, told.st_size)
    except OSError:
        return (identifier, None, None)


def keep_objects(segmentation: Segmentation, objects: Sequence[ObjectInfo]) -> Segmentation:
    """Return the segments of the objects on the chosen slices; masks are shared."""
    shown = {(one.segment_id, one.name) for one in objects if one.shown}
    kept = [one for one in segmentation.segments if {(one.metadata.get("id", ""), one.name), ("", one.name)} & shown]
    return replace(segmentation, segments=kept)
