"""The task that reads a study of a folder with its result, to be shown; independent of nodes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.cohort.contents import Inputs, content_sha256
from ProxyPromptSegmentLib.cohort.studies import shown
from ProxyPromptSegmentLib.errors import InputError, ProxyPromptError
from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, take_slices
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.reports.doubts import Doubt
from ProxyPromptSegmentModule.scene.facts import Facts, Lowest, by_slice
from ProxyPromptSegmentModule.scene.read_study import ReadSegment, ReadStudy
from ProxyPromptSegmentModule.scene.slice_prints import EMPTY, print_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume
    from ProxyPromptSegmentLib.worker.context import Context

_log = logging.getLogger(__name__)

_SHOWN_PERCENT, _MOST_LOOKED_AT = (0.1, 99.9), 1_000_000
"""Percentiles of the intensities that are shown, as in Slicer, and of how many voxels they are taken."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadStudyTask:
    """The task that reads a study; returns a `ReadStudy`.

    Attributes:
        path: Its file or folder.
        result: The file of its result; None without one.
        report: The file of its report; None without one.
        program: The file of the program's result if `result` was corrected by hand; None if it was not.
        content: Hash of what the result was computed from, see `cohort.contents`; "" if it is not known.
        inputs: The folder of the hashes that are known.
    """

    path: Path
    result: Path | None = None
    report: Path | None = None
    program: Path | None = None
    content: str = ""
    inputs: Path | None = None

    def __call__(self, engine: object = None, context: Context | None = None) -> ReadStudy:
        """Do the work, on any thread.

        Raises:
            ProxyPromptError: If the study or its result cannot be read, or the study is another one by now.
        """
        for path, words in (
            (self.path, _("the study {name} is not there any more: {path}")),
            (self.result, _("the result of {name} is not there any more: {path}")),
        ):
            if path is not None and not path.exists():  # the library would name files like it: those of other patients
                raise InputError(words.format(name=shown(self.path.name), path=path))
        if self.result is not None:
            self._check_content()
        volume = read_volume(self.path)
        segments, facts = None, Facts()
        if self.result is not None:
            report = _content(self.report)
            facts = _facts_of(report, _axis_of(report))
            found = read_segmentation(self.result, volume.geometry)
            prints = self._written(found, facts.axis)
            segments = tuple(_segment_of(one, facts.axis, prints.get(one.name)) for one in found.segments)
        return ReadStudy(
            path=self.path,
            geometry=volume.geometry,
            voxels=np.require(_compact(volume), requirements=("C", "W")),  # as VTK takes it over
            window=_window_of(volume),
            segments=segments,
            facts=facts,
            content=self.content,
        )

    def _check_content(self) -> None:
        """Reject an image that has replaced the one that was segmented: it may be of another patient."""
        if not self.content or self.inputs is None:
            return
        if (Inputs(self.inputs).known(self.path) or content_sha256(self.path)) != self.content:
            told = _("{study} was changed since it was segmented; close the folder and open it again.")
            raise InputError(told.format(study=shown(self.path.name)))

    def _written(self, found: Segmentation, axis: Axis) -> dict[str, dict[int, str]]:
        """Return the prints of what the program drew; if that is gone, all that is drawn is the user's."""
        try:
            written = read_segmentation(self.program, found.geometry) if self.program is not None else found
        except ProxyPromptError as error:
            _log.warning("The program's result of %s cannot be read (%s)", self.path.name, error)
            return {one.name: {} for one in found.segments}
        return {one.name: _prints_of(one, axis) for one in written.segments}


def _prints_of(segment: Segment, axis: Axis) -> dict[int, str]:
    """Return the print of each slice."""
    return {index: print_of(plane > 0) for index, plane in enumerate(take_slices(segment.mask, axis))}


def _segment_of(segment: Segment, axis: Axis, written: Mapping[int, str] | None) -> ReadSegment:
    """Return a segment as the scene takes it in: what it fills, and what is known of its slices."""
    prints = {index: word for index, word in _prints_of(segment, axis).items() if word != EMPTY}
    planes = take_slices(segment.mask, axis)
    spans = [np.flatnonzero(segment.mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    start = tuple(int(span[0]) if span.size else 0 for span in spans)
    box = tuple(slice(int(span[0]), int(span[-1]) + 1) if span.size else slice(0) for span in spans)
    return ReadSegment(
        name=segment.name,
        color_rgb=segment.color_rgb,
        terminology=segment.terminology,
        mask=np.require(segment.mask[box], requirements=("C", "W")),
        start=(start[0], start[1], start[2]),
        written=written,
        prints=prints,
        pixels={index: int(np.count_nonzero(planes[index])) for index in prints},
    )


def _compact(volume: Volume) -> npt.NDArray[np.number]:
    """Return the voxels of an image as whole numbers if they are, which need half the memory."""
    array, limits = volume.array, np.iinfo(np.int16)
    if volume.is_rgb:
        return np.clip(np.round(array), 0, 255).astype(np.uint8)
    if array.min() < limits.min or array.max() > limits.max:
        return array
    whole = array.astype(np.int16)
    return whole if np.array_equal(whole, array) else array


def _window_of(volume: Volume) -> tuple[float, float] | None:
    """Return what Slicer would show of an image by itself, without its 0.7 s for 300 slices: nearly all intensities."""
    if volume.is_rgb:
        return None
    some = volume.array.ravel()
    low, high = np.percentile(some[:: 1 + some.size // _MOST_LOOKED_AT], _SHOWN_PERCENT)
    if low == high:  # nearly all is background, as in pictures of vessels
        low, high = some.min(), some.max()
    return float(low), float(high)


def _content(report: Path | None) -> Mapping[str, object]:
    """Return the content of a report; nothing of one that is gone or damaged, without which a result can be shown."""
    try:
        content = json.loads(report.read_text(encoding="utf-8")) if report is not None else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _axis_of(report: Mapping[str, object]) -> Axis:
    inputs = report.get("inputs")
    target = inputs.get("target") if isinstance(inputs, dict) else None
    axis = target.get("axis") if isinstance(target, dict) else None
    return AXES[AXES.index(axis)] if axis in AXES else "k"


def _facts_of(report: Mapping[str, object], axis: Axis) -> Facts:
    """Return what a report says of confidence and slices to review."""
    try:
        return _read(report, axis)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):  # of a later version, or edited by hand
        return Facts(axis=axis)


def _read(report: Mapping[str, object], axis: Axis) -> Facts:
    objects, review = report["objects"], report["review"]
    assert isinstance(objects, list) and isinstance(review, list)
    lowest, places = {}, dict[int, str]()
    for one in objects:
        least = one["lowest_confidence"]
        places.update({int(each["slice"]): str(each["position"] or "") for each in least})
        if least:
            first = least[0]
            lowest[one["name"]] = Lowest(first["confidence"], first["slice"], first["position"])
    names = [one["name"] for one in objects]
    doubts: dict[str, tuple[Doubt, ...]] = {}
    for one in review:
        name, index = one["object"], int(one["slice"])
        where = f"{index} ({places[index]})" if places.get(index) else str(index)
        sure = float(one["confidence"])
        found = Doubt(index, name, sure, one["why"], sure, names.index(name), where)
        doubts[name] = (*doubts.get(name, ()), found)
    by_name = {one["name"]: by_slice(one.get("confidence", ())) for one in objects}  # earlier versions wrote none
    return Facts(axis=axis, lowest=lowest, doubts=doubts, confidence=by_name)
