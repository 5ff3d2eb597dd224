"""The folder of studies that is open: its studies, and those of them that are in the scene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import slicer

from ProxyPromptSegmentLib.cohort.rows import State
from ProxyPromptSegmentModule.scene.loaded_study import (
    Content,
    content_now,
    is_untouched,
    study_in_pieces,
    take_out_in_pieces,
)
from ProxyPromptSegmentModule.scene.nodes import in_scene

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.cohort.rows import Row
    from ProxyPromptSegmentModule.runs.folder_request import Listing, StudyFolder
    from ProxyPromptSegmentModule.scene.pieces import Pieces
    from ProxyPromptSegmentModule.scene.read_study import ReadStudy
    from ProxyPromptSegmentModule.scene.segment_state import SegmentStates


class Loaded:
    """A study of the folder in the scene.

    Attributes:
        path: Its file or folder.
        geometry: The grid of its file, wherever it is moved in the scene.
        content: Hash of what its result was computed from; "" if it is not known.
        volume: Its image.
        result: Its result as it was loaded; None if it had none.
        axis: The axis of the result.
        kept: What the folder has of its result.
    """

    def __init__(
        self,
        read: ReadStudy,
        volume: slicer.vtkMRMLScalarVolumeNode,
        result: slicer.vtkMRMLSegmentationNode | None,
        kept: Content,
    ) -> None:
        """Store what was put into the scene, and what is said of it where it was read."""
        self.path, self.geometry, self.axis, self.content = read.path, read.geometry, read.facts.axis, read.content
        self.volume, self.result, self.kept = volume, result, kept

    @property
    def there(self) -> bool:
        """Whether its image is still in the scene."""
        return in_scene(self.volume)


class OpenFolder:
    """A folder of studies, used from the main thread only.

    Attributes:
        folder: The folders of studies and results.
        rows: What is known of each study, by its path; empty until the folder was listed.
        about: What made the results; empty if there are none.
        annotations: Number of files that look like annotations, which are not studies.
        wanted: The study that is to be shown; None if it is.
    """

    def __init__(self, folder: StudyFolder) -> None:
        """Know nothing of the studies yet."""
        self.folder = folder
        self.rows: dict[Path, Row] = {}
        self.about: Mapping[str, object] = {}
        self.annotations = 0
        self.wanted: Path | None = None
        self._loaded: dict[Path, Loaded] = {}

    def take(self, listing: Listing) -> None:
        """Know the studies."""
        self.rows = {row.study.path: row for row in listing.rows}
        self.about, self.annotations = listing.about, listing.annotations

    def follow(self, rows: Mapping[Path, Row]) -> None:
        """Know what has become of the studies that are being segmented; none are known before they are listed.

        A correction that was saved meanwhile stays, because the rows may have been read before.
        """
        if rows:
            self.rows = {path: _newer(row, self.rows.get(path)) for path, row in rows.items()}

    def row(self, key: str) -> Row | None:
        """Return what is known of a study by its path as text."""
        return self.rows.get(Path(key))

    def node_of(self, path: Path) -> slicer.vtkMRMLVolumeNode | None:
        """Return the image of a study if it is in the scene and shows what is known of it."""
        one = self._loaded.get(path)
        if one is None or not one.there:
            return None
        return one.volume

    def is_outdated(self, path: Path, known: SegmentStates) -> bool:
        """Return whether a study in the scene was segmented since, so that it can be read again."""
        one, row = self._loaded.get(path), self.rows.get(path)
        done = row is not None and row.state.is_done
        return one is not None and one.there and one.result is None and done and self._untouched(one, known, ())

    def load(self, read: ReadStudy, name: str, known: SegmentStates) -> Pieces[slicer.vtkMRMLVolumeNode | None]:
        """Put a study that was read into the scene, in pieces; returns its image, or None if that was removed again."""
        before = self._loaded.pop(read.path, None)
        if before is not None and before.there:
            yield from take_out_in_pieces(before.volume, before.result)
            yield
        made = yield from study_in_pieces(read, name, known)
        if made is None:
            return None
        volume, result = made
        other = self._loaded.get(read.path)
        if other is not None and other.there:  # it was asked for again meanwhile
            yield from take_out_in_pieces(volume, result)
            return other.volume
        kept = content_now(volume, result, known, read.facts.axis) if result is not None else None
        self._loaded[read.path] = Loaded(read, volume, result, kept or {})
        return volume

    def loaded_of(self, volume: slicer.vtkMRMLVolumeNode | None) -> Loaded | None:
        """Return the study that an image belongs to; None if it is none of the folder."""
        return next((one for one in self._loaded.values() if one.there and one.volume is volume), None)

    def is_changed(self, one: Loaded, known: SegmentStates) -> bool:
        """Return whether the result of a study in the scene is not what the folder has."""
        if one.result is None or not in_scene(one.result):
            return False
        return content_now(one.volume, one.result, known, one.axis) != one.kept

    def is_unsaved(self, path: Path, known: SegmentStates) -> bool:
        """Return whether a study is in the scene with a result that is not what the folder has."""
        one = self._loaded.get(path)
        return one is not None and one.there and self.is_changed(one, known)

    def leave(
        self, kept: slicer.vtkMRMLVolumeNode | None, known: SegmentStates, in_use: tuple[slicer.vtkMRMLNode, ...]
    ) -> Pieces[list[str]]:
        """Take the studies out of the scene that are not shown any more, and to which nothing of the user's belongs.

        In pieces, one for each image and each result.

        Args:
            kept: The image that stays.
            known: What the segments of the scene hold.
            in_use: Nodes that are used elsewhere, such as supports.

        Returns:
            The names of those that stay, because something of the user's belongs to them.
        """
        staying = []
        for path, one in list(self._loaded.items()):
            if not one.there:
                del self._loaded[path]
            elif one.volume is not kept and self._untouched(one, known, in_use):
                del self._loaded[path]
                yield from take_out_in_pieces(one.volume, one.result)
                yield
            elif one.volume is not kept:
                staying.append(one.volume.GetName())
        return staying

    def _untouched(self, one: Loaded, known: SegmentStates, in_use: tuple[slicer.vtkMRMLNode, ...]) -> bool:
        return is_untouched(one.volume, one.result, one.kept, known, one.axis, in_use)


def _newer(row: Row, known: Row | None) -> Row:
    """Return a row, or what is known of the same result if that is a newer correction."""
    if known is None or known.state is not State.CORRECTED or known.facts.get("key") != row.facts.get("key"):
        return row
    newer = row.state is State.CORRECTED and str(row.facts.get("created")) > str(known.facts.get("created"))
    return row if newer else known
