"""Ranking of supports by their likeness to a target, with a warning if none resembles it.

The measure is defined in `likeness`. Known properties count as well: a support of another modality, colour, plane or
field of view is less likely to help, however similar it looks.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, auto_axis, slice_spacing_mm, slice_view, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.imaging.slice_choice import slice_numbers
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.library.entry import LibraryEntry
from ProxyPromptSegmentLib.library.store import SupportLibrary
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.review.likeness import (
    RESEMBLES,
    VERSION,
    Cells,
    cells,
    distance,
    distance_of_unlike,
    likeness_of,
    spread,
)
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.matching import NOTABLE_RATIO, annotated_axis, has_place, is_sliceable, plane_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

__all__ = ["RESEMBLES", "Suggestion", "rank", "warning"]

_OTHER_MODALITY, _OTHER_COLOUR, _OTHER_PLANE, _OTHER_FIELD = 2.0, 2.0, 1.0, 0.5


@dataclass(frozen=True)
class Suggestion:
    """A support with its likeness to the target.

    Attributes:
        entry: The library's entry, or the given case.
        likeness: Likeness 0..1; below `RESEMBLES` the support does not resemble the target.
        reason: The reasons for or against it, as a sentence.
    """

    entry: LibraryEntry | SupportCase
    likeness: float
    reason: str


@dataclass(frozen=True)
class _Look:
    """Properties of an image that are known without its voxels."""

    modality: str
    is_rgb: bool
    plane: str
    field_mm: float | None


def rank(
    source: SupportLibrary | Sequence[SupportCase],
    target: Volume,
    segmenter: Segmenter,
    entries: Sequence[LibraryEntry] | None = None,
    modality: str = "",
    axis: str = "auto",
    progress: Progress | None = None,
    cancel: CancelToken | None = None,
) -> list[Suggestion]:
    """Rank supports by likeness to a target, most similar first.

    Args:
        source: The library, or cases.
        target: The volume to segment.
        segmenter: Its image encoder embeds a few slices of each. The result for a library case is cached in the
            case's folder.
        entries: The cases of the library to rank; all by default. Damaged ones are skipped.
        modality: The target's modality, e.g. "MR T2"; empty if unknown.
        axis: Slicing axis of the target; ``auto`` takes the acquired slices, or for nearly cubic voxels those in the
            plane of the support.
        progress: Receives one step per support.
        cancel: Checked between supports; those compared so far are returned.
    """
    progress, cancel = progress or Progress(), cancel or CancelToken()
    library = source if isinstance(source, SupportLibrary) else None
    wanted: list[LibraryEntry | SupportCase]
    if isinstance(source, SupportLibrary):
        wanted = [entry for entry in (source.entries() if entries is None else entries) if not entry.problem]
    else:
        wanted = list(source)
    seen, found = _Seen(segmenter, target, modality, axis), []
    progress.start(len(wanted), "looking for supports that resemble the target")
    try:
        for one in wanted:
            if cancel.cancelled:
                break
            with suppress(InputError):  # a damaged or deleted case cannot be suggested
                found.append(_suggestion(one, library, seen))
            progress.step()
    finally:
        progress.close()
    return sorted(found, key=lambda suggestion: -suggestion.likeness)


def warning(suggestions: Sequence[Suggestion]) -> str:
    """Return a warning if no support resembles the target; otherwise an empty string."""
    best = max((suggestion.likeness for suggestion in suggestions), default=0.0)
    if best >= RESEMBLES:
        return ""
    if not suggestions:
        return "The library has no support to compare with this image; save an annotated case first."
    return (
        f"No support in the library resembles this image; the most similar reaches {best:.2f} of 1. Annotate a slice "
        "of this kind of image and use it as the support."
    )


class _Seen:
    """Embeddings of the target along each axis, and the encoder's scale; computed on first use."""

    def __init__(self, segmenter: Segmenter, target: Volume, modality: str, axis: str) -> None:
        from ProxyPromptSegmentLib.inference.slice_encoder import fingerprint

        self.segmenter, self.target, self.modality, self.axis = segmenter, target, modality, axis
        self.key = f"{fingerprint(segmenter.model.backbone)}-{VERSION}"
        self._cells: dict[Axis, Cells] = {}
        self._unlike: float | None = None

    def axis_beside(self, plane: str) -> Axis:
        """Return the target's axis whose slices lie in the support's plane, if they are usable."""
        if self.axis in AXES:
            return self.axis  # type: ignore[return-value]
        geometry = self.target.geometry
        if plane and has_place(self.target):
            for axis in AXES:
                if plane_of(geometry, axis) == plane and is_sliceable(geometry, axis):
                    return axis
        return auto_axis(geometry)

    def cells(self, axis: Axis) -> Cells:
        """Return the embedding cells of the target."""
        if axis not in self._cells:
            count = take_slices(self.target.array, axis).shape[0]
            self._cells[axis] = _look_at(self.segmenter, self.target, axis, spread(count))
        return self._cells[axis]

    def unlike(self, library: SupportLibrary | None) -> float:
        """Return the encoder's scale, cached in the library's folder."""
        if self._unlike is None:
            path = None if library is None else library.folder / f".scale-{self.key}.npz"
            stored = None if path is None else _stored(path, "")
            self._unlike = float(stored[0, 0]) if stored is not None else distance_of_unlike(self.segmenter)
            if path is not None and stored is None:
                _store(path, "", np.array([[self._unlike]], np.float32))
        return self._unlike


def _suggestion(one: LibraryEntry | SupportCase, library: SupportLibrary | None, seen: _Seen) -> Suggestion:
    """Compare one support with the target."""
    if isinstance(one, LibraryEntry):
        look = _Look(one.modality, one.is_rgb, one.plane, None if one.is_picture else _field(one))
        own = _cells_of_entry(one, library, seen)
    else:
        axis = one.axis or annotated_axis(one.volume, one.segmentation)
        look = _look(one.volume, axis, "")
        own = _look_at(seen.segmenter, one.volume, axis, _marked(one, axis))
    beside = seen.axis_beside(look.plane)
    penalty, facts = _compared(look, _look(seen.target, beside, seen.modality))
    likeness = likeness_of(distance(own, seen.cells(beside)), seen.unlike(library), penalty)
    words = "Looks much like" if likeness >= 0.8 else "Resembles" if likeness >= RESEMBLES else "Does not resemble"
    return Suggestion(one, likeness, f"{words} the target ({likeness:.2f} of 1){''.join(f'; {f}' for f in facts)}.")


def _cells_of_entry(entry: LibraryEntry, library: SupportLibrary | None, seen: _Seen) -> Cells:
    """Return the embedding cells of a library case, read from its folder or computed."""
    path = entry.folder / f"embedding-{seen.key}.npz"
    content = f"{entry.voxels_sha256} {entry.masks_sha256} {entry.slices}"
    stored = _stored(path, content)
    if stored is None:
        case = (library or SupportLibrary(entry.folder.parent)).load(entry)
        axis: Axis = entry.axis  # type: ignore[assignment]
        stored = _look_at(seen.segmenter, case.volume, axis, _marked(case, axis))
        _store(path, content, stored)
    return stored


def _stored(path: Path, content: str) -> Cells | None:
    """Return the cells stored for this content, if they exist and are intact."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        with np.load(path, allow_pickle=False) as file:
            if str(file["content"]) == content:
                found: Cells = file["cells"].astype(np.float32)
                if found.ndim == 2 and len(found) and np.isfinite(found).all():
                    return found
    return None


def _store(path: Path, content: str, values: Cells) -> None:
    """Store cells for later use; if the library cannot be written, this only costs time."""
    with suppress(OutputError, OSError), safe_output(path) as partial:
        with partial.open("wb") as file:
            np.savez(file, content=np.array(content), cells=values)


def _look_at(segmenter: Segmenter, volume: Volume, axis: Axis, numbers: Sequence[int]) -> Cells:
    """Encode some slices in radiological orientation and return their embedding cells."""
    view = slice_view(volume.geometry, axis)
    window = intensity_window(volume.array)
    return cells(segmenter.encode(view.take(volume.array)[list(numbers)], window, view.spacing_mm))


def _marked(case: SupportCase, axis: Axis) -> list[int]:
    """Return a few evenly spaced slices that prompt."""
    shown = np.any([take_slices(s.mask, axis).any(axis=(1, 2)) for s in case.segmentation.segments], axis=0)
    numbers = slice_numbers(case.slices, len(shown)) or [int(n) for n in np.flatnonzero(shown)] or [len(shown) // 2]
    inside = [n for n in numbers if 0 <= n < len(shown)] or [len(shown) // 2]
    return [inside[n] for n in spread(len(inside))]


def _look(volume: Volume, axis: Axis, modality: str) -> _Look:
    """Return the properties of a volume that are known without its voxels."""
    if not has_place(volume):
        return _Look(modality, volume.is_rgb, "", None)
    shape = take_slices(np.empty(volume.geometry.shape_kji, np.bool_), axis).shape[1:]
    field = max(n * mm for n, mm in zip(shape, slice_spacing_mm(volume.geometry, axis), strict=True))
    return _Look(modality, volume.is_rgb, plane_of(volume.geometry, axis), field)


def _field(entry: LibraryEntry) -> float:
    """Return the longer side of an entry's slices in mm."""
    sides = [n * mm for n, mm in zip(entry.size_ijk, entry.spacing_mm, strict=True)]
    return max(side for side, name in zip(reversed(sides), AXES, strict=True) if name != entry.axis)


def _compared(look: _Look, target: _Look) -> tuple[float, list[str]]:
    """Return the penalty for differences from the target, and all facts as phrases."""
    return sum(penalty for penalty, _ in _facts(look, target)), [fact for _, fact in _facts(look, target)]


def _facts(look: _Look, target: _Look) -> Iterator[tuple[float, str]]:
    if look.modality and target.modality:
        same = look.modality.casefold() == target.modality.casefold()
        yield (0, f"also {look.modality}") if same else (_OTHER_MODALITY, f"{look.modality}, not {target.modality}")
    if look.is_rgb != target.is_rgb:
        yield _OTHER_COLOUR, "in colour, the target is grey" if look.is_rgb else "grey, the target is in colour"
    if look.plane and target.plane:
        same = look.plane == target.plane
        yield (0, f"also {look.plane}") if same else (_OTHER_PLANE, f"{look.plane}, not {target.plane}")
    if look.field_mm and target.field_mm and abs(math.log(look.field_mm / target.field_mm)) > math.log(NOTABLE_RATIO):
        yield _OTHER_FIELD, f"{look.field_mm:.0f} mm across, the target {target.field_mm:.0f} mm"
