"""The supports of a scene, stored in the parameter node and saved with the scene."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ProxyPromptSegmentLib.errors import ProxyPromptError, SupportError
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentModule.remedies import worded
from ProxyPromptSegmentModule.scene.annotated import identity_of
from ProxyPromptSegmentModule.scene.pieces import Pieces, at_once
from ProxyPromptSegmentModule.supports.rows import (
    chosen_slices,
    number_titles,
    objects_of,
    repeated_name,
    row_of,
    why_none,
)
from ProxyPromptSegmentModule.supports.saved import ObjectChoice, ObjectInfo, SavedRow, SavedRows, SupportRow
from ProxyPromptSegmentModule.supports.segment_lookup import segment_ids_of
from ProxyPromptSegmentModule.supports.sources import LibrarySource, Memory, NodeSource, keep_objects
from ProxyPromptSegmentModule.supports.thumbnails import blank, case_picture, case_picture_in_pieces, picture_of_file
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import slicer

    from ProxyPromptSegmentLib.library.entry import LibraryEntry
    from ProxyPromptSegmentLib.library.store import SupportLibrary
    from ProxyPromptSegmentLib.support.case import SupportCase

__all__ = ["ObjectChoice", "ObjectInfo", "SupportRow", "SupportTable"]

Slices = Sequence[int] | Literal["all"] | None
_PICTURE = 96
"""Side of a thumbnail in pixels."""


class SupportTable:
    """The supports that a parameter node lists; reads nodes, never modifies them.

    The state is stored in the parameter node: a JSON parameter ``supports`` and node references ``SupportVolume.KEY``
    and ``SupportSegmentation.KEY``, so it is saved with the scene and ids are updated when a scene is imported. A table
    does not need to be notified of deleted nodes or a closed scene; `rows` detects that. Main thread only.

    Attributes:
        node: The parameter node.
        library: The `SupportLibrary`, or None.
    """

    def __init__(self, parameter_node: slicer.vtkMRMLScriptedModuleNode, library: SupportLibrary | None = None) -> None:
        """Read the supports from ``parameter_node``, a ``vtkMRMLScriptedModuleNode`` in a scene."""
        self.node, self.library = parameter_node, library
        self._memory: dict[str, Memory] = {}
        self._state = SavedRows(parameter_node)

    # --- the list -----------------------------------------------------------------------------------------------------

    def rows(self) -> list[SupportRow]:
        """Return all supports in the order in which they were added; fast as long as no voxels change."""
        saved = self._state.rows()
        self._memory = {one.key: self._memory.get(one.key, Memory()) for one in saved}
        return number_titles([self._row(one) for one in saved])

    def row(self, key: str) -> SupportRow:
        """Return a row.

        Raises:
            SupportError: If there is no row with this key.
        """
        self._state.row(key)
        return next(row for row in self.rows() if row.key == key)

    def add_nodes(
        self,
        volume: slicer.vtkMRMLVolumeNode | None,
        segmentation: slicer.vtkMRMLSegmentationNode | None,
        segments: Iterable[str] | None = None,
        slices: Slices = None,
        title: str = "",
    ) -> SupportRow:
        """Add a volume node and a segmentation node as a ticked support.

        If the table already has these nodes with the same segments, the slices are added to those of that row.

        Args:
            volume: Scalar or colour volume node.
            segmentation: Segmentation node.
            segments: Identifiers or names of segments; by default all, including segments added later.
            slices: Slices, counted from 0 along the row's axis; ``"all"`` means all annotated ones, None is automatic.
            title: Title; by default the volume's name.

        Raises:
            SupportError: If nothing is annotated, on these slices or at all, or a segment does not exist.
            InputError, GeometryError: If the nodes cannot be read, or do not have a regular grid.
        """
        return at_once(self.adding(volume, segmentation, segments, slices, title))

    def adding(
        self,
        volume: slicer.vtkMRMLVolumeNode | None,
        segmentation: slicer.vtkMRMLSegmentationNode | None,
        segments: Iterable[str] | None = None,
        slices: Slices = None,
        title: str = "",
    ) -> Pieces[SupportRow]:
        """Do what `add_nodes` does a little at a time, also the picture; the row is there at the end.

        Raises:
            SupportError, InputError, GeometryError: As `add_nodes`.
        """
        if volume is None or segmentation is None:
            raise SupportError(_("Choose a volume and a segmentation in which the object is marked."))
        ids = None if segments is None else tuple(segment_ids_of(segmentation, segments))
        for old in self._state.rows():
            if self._state.nodes(old) == (volume, segmentation) and old.segments == ids:
                if isinstance(slices, str) or slices is None or old.whole or old.slices is None:
                    return self._change(replace(old, used=True), slices)
                return self._change(replace(old, used=True), [*old.slices, *slices])
        row = SavedRow(key=uuid.uuid4().hex[:12], title=title.strip(), segments=ids, name=volume.GetName() or "")
        memory = Memory()
        source = NodeSource(volume, segmentation, ids, memory)
        yield from source.read_in_pieces()
        row = self._chosen(row, source, slices)
        shown = self._shown(row, source, (volume.GetID(), segmentation.GetID()))
        if not shown.problem:
            picture = yield from case_picture_in_pieces(_case_of(shown, source), shown.axis, _PICTURE)
            memory.picture.put((shown.picture, _PICTURE), picture)
        self._memory[row.key] = memory
        self._state.add(row, volume.GetID(), segmentation.GetID())
        return self.row(row.key)

    def add_library(self, entry: LibraryEntry | str) -> SupportRow:
        """Add a case of the library, a `LibraryEntry` or its identifier; one that is in the table is ticked.

        Raises:
            SupportError: If the case does not exist or is damaged.
        """
        identifier = entry if isinstance(entry, str) else entry.id
        old = next((one for one in self._state.rows() if one.library == identifier), None)
        if old:
            return self._change(replace(old, used=True))
        row = SavedRow(key=uuid.uuid4().hex[:12], library=identifier)
        source = LibrarySource(self.library, identifier, identifier, Memory())
        self._state.add(self._chosen(replace(row, name=source.name), source, source.entry.slices))
        return self.row(row.key)

    def remove(self, key: str) -> None:
        """Remove a row; its nodes, or its case in the library, stay."""
        self._state.remove(key)

    def clear(self) -> None:
        """Remove all rows."""
        for one in self._state.rows():
            self.remove(one.key)

    def use(self, key: str, used: bool = True) -> None:
        """Tick or untick a row."""
        if not used and key in self._memory:
            self._memory[key].let_go()
        self._state.replace(replace(self._state.row(key), used=used))

    def choose(self, key: str, slices: Slices = None) -> SupportRow:
        """Choose the slices of a row, see `add_nodes`.

        Raises:
            SupportError: If one of them has no annotation.
        """
        return self._change(self._state.row(key), slices)

    def rename(self, key: str, title: str) -> None:
        """Rename a row; an empty title restores the default."""
        self._state.replace(replace(self._state.row(key), title=title.strip()))

    # --- what the engine gets -----------------------------------------------------------------------------------------

    def case(self, key: str) -> SupportCase:
        """Return copies of a row's image, annotation and slices; cached until they change.

        Objects that are not on the chosen slices are left out.

        Raises:
            ProxyPromptError: With the row's problem.
        """
        row = self.row(key)
        if row.problem:
            raise SupportError(row.problem)
        source, memory = self._source(self._state.row(key)), self._memory[key]

        stamp = (source.marks_stamp, source.image_stamp, row.title, row.slices)
        return memory.case.get(stamp, lambda: _case_of(row, source))

    def cases(self, objects: Sequence[str] | None = None) -> list[SupportCase]:
        """Return the cases of the rows in use.

        Args:
            objects: Only rows that have all of these; by default all rows.

        Raises:
            ProxyPromptError: If there are none, or one cannot be read.
        """
        rows = self.rows()
        ready = [row for row in rows if row.ready]
        if not ready:
            raise SupportError(why_none(rows))
        having = [row for row in ready if all(row.find(name) for name in objects or ())]
        if not having:
            wanted = ", ".join(f"'{name}'" for name in objects or ())
            told = _("No support in use has {objects}; tick one that has, or choose other objects.")
            raise SupportError(told.format(objects=wanted))
        return [self.case(row.key) for row in having]

    def objects(self) -> list[ObjectChoice]:
        """Return the objects of the rows in use, ordered by the number of rows that have them."""
        return objects_of([row for row in self.rows() if row.ready])

    def thumbnail(self, key: str, size: int = _PICTURE) -> npt.NDArray[np.uint8]:
        """Return a picture of the slice that shows most; uint8 ``(size, size, 3)``, blank if it cannot be read."""
        row, memory = self.row(key), self._memory[key]

        def draw() -> npt.NDArray[np.uint8]:
            source = self._source(self._state.row(key))
            drawn = picture_of_file(source.thumbnail, size) if isinstance(source, LibrarySource) else None
            return case_picture(self.case(key), row.axis, size) if drawn is None else drawn

        try:
            picture = memory.picture.get((row.picture, size), draw)
        except ProxyPromptError:
            return blank(size)
        if not row.used:
            memory.let_go()
        return picture

    def save_to_library(
        self,
        key: str,
        title: str = "",
        annotator: str = "",
        modality: str = "",
        notes: str = "",
        identifying: dict[str, str] | None = None,
    ) -> LibraryEntry:
        """Copy a row's case into the library; return its `LibraryEntry`.

        Node names may contain the patient's name, so they are not saved: only the arguments and the names of segments.

        Raises:
            SupportError: If the row has a problem, there is no library, or the case is already in it.
            OutputError: If it cannot be written.
        """
        row, saved = self.row(key), self._state.row(key)
        if self.library is None:
            raise SupportError(_("There is no support library to save to; choose its folder first."))
        if saved.library:
            raise SupportError(_("'{title}' is in the support library already.").format(title=row.title))
        case = self.case(key)
        volume, _segmentation = self._state.nodes(saved)
        return self.library.save(
            Volume(case.volume.array, case.volume.geometry),
            case.segmentation,
            title=title,
            annotator=annotator,
            modality=modality,
            notes=notes,
            slices=row.slices if saved.slices is not None else None,
            identifying=identifying,
            identity="" if volume is None else identity_of(volume),
        )

    # --- inside -------------------------------------------------------------------------------------------------------

    def _change(self, row: SavedRow, *slices: Slices) -> SupportRow:
        if slices:
            row = self._chosen(row, self._source(row), slices[0])
        self._state.replace(row)
        return self.row(row.key)

    def _chosen(self, row: SavedRow, source: NodeSource | LibrarySource, slices: Slices) -> SavedRow:
        """Return the row with other slices.

        Raises:
            ProxyPromptError: If one of them has no annotation.
        """
        return chosen_slices(row, source.annotation(), slices)

    def _row(self, saved: SavedRow) -> SupportRow:
        volume, segmentation = self._state.nodes(saved)
        ids = (volume.GetID() if volume else None, segmentation.GetID() if segmentation else None)
        try:
            source = self._source(saved)
            return self._shown(saved, source, ids)
        except ProxyPromptError as error:
            name = volume.GetName() if volume else saved.name
            return row_of(saved, name, ids, None, worded(error))

    def _shown(
        self, saved: SavedRow, source: NodeSource | LibrarySource, ids: tuple[str | None, str | None]
    ) -> SupportRow:
        row = row_of(saved, source.name, ids, source.annotation())
        stamp = hash((source.marks_stamp, source.image_stamp, row.slices))
        return replace(row, picture=stamp, problem=row.problem or repeated_name(row))

    def _source(self, saved: SavedRow) -> NodeSource | LibrarySource:
        memory = self._memory.setdefault(saved.key, Memory())
        if saved.library:
            return LibrarySource(self.library, saved.library, saved.title or saved.name, memory)
        volume, segmentation = self._state.nodes(saved)
        if volume is None or segmentation is None:
            told = _(
                "The segmentation of '{name}' is not in the scene any more; undo the deletion, or remove this row."
            )
            if volume is None:
                told = _("The volume '{name}' is not in the scene any more; undo the deletion, or remove this row.")
            raise SupportError(told.format(name=saved.title or saved.name))
        return NodeSource(volume, segmentation, saved.segments, memory)


def _case_of(row: SupportRow, source: NodeSource | LibrarySource) -> SupportCase:
    """Return image, annotation and slices of a row, without objects that are not on the chosen slices.

    Raises:
        ProxyPromptError: If one cannot be read.
    """
    volume, segmentation = source.read()
    axis = row.axis if row.slices is not None else None
    return SupportCase(replace(volume, name=row.title), keep_objects(segmentation, row.objects), row.slices, axis=axis)
