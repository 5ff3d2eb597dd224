"""The task that reads a study of a folder with its result, to be shown; independent of nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis, take_slices
from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import read_volume
from ProxyPromptSegmentLib.reports.doubts import Doubt
from ProxyPromptSegmentModule.scene.facts import Facts, Lowest
from ProxyPromptSegmentModule.scene.slice_prints import print_of

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.imaging.volumes import Volume
    from ProxyPromptSegmentLib.worker.context import Context


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadStudy:
    """A study that was read.

    Attributes:
        path: Its file or folder.
        volume: Its image.
        voxels: The voxels of the image in the smallest type that holds them, for the scene.
        result: What was found in it; None if it has no result.
        prints: Print of each slice of each segment of the result, see `slice_prints`.
        facts: What its report says, with the segments' names in the place of their ids.
    """

    path: Path
    volume: Volume
    voxels: npt.NDArray[np.number]
    result: Segmentation | None = None
    prints: tuple[Mapping[int, str], ...] = ()
    facts: Facts = field(default_factory=Facts)


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadStudyTask:
    """The task that reads a study; returns a `ReadStudy`.

    Attributes:
        path: Its file or folder.
        result: The file of its result; None without one.
        report: The file of its report; None without one.
    """

    path: Path
    result: Path | None = None
    report: Path | None = None

    def __call__(self, engine: object = None, context: Context | None = None) -> ReadStudy:
        """Do the work, on any thread.

        Raises:
            ProxyPromptError: If the study or its result cannot be read.
        """
        volume = read_volume(self.path)
        if self.result is None:
            return ReadStudy(path=self.path, volume=volume, voxels=_compact(volume))
        result, report = read_segmentation(self.result, volume.geometry), _content(self.report)
        axis = _axis_of(report)
        prints = tuple(
            {index: print_of(plane > 0) for index, plane in enumerate(take_slices(one.mask, axis))}
            for one in result.segments
        )
        return ReadStudy(
            path=self.path,
            volume=volume,
            voxels=_compact(volume),
            result=result,
            prints=prints,
            facts=_facts_of(report, axis),
        )


def _compact(volume: Volume) -> npt.NDArray[np.number]:
    """Return the voxels of an image as whole numbers if they are, which are copied into the scene in half the time."""
    array, limits = volume.array, np.iinfo(np.int16)
    if volume.is_rgb:
        return np.clip(np.round(array), 0, 255).astype(np.uint8)
    if array.min() < limits.min or array.max() > limits.max:
        return array
    whole = array.astype(np.int16)
    return whole if np.array_equal(whole, array) else array


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
    return Facts(axis=axis, lowest=lowest, doubts=doubts)
