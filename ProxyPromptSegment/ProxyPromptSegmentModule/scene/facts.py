"""What runs have found out about a result, kept with its segmentation; and the table of what is in it now.

Numbers that the segment itself has (volume, slices) are always computed from its voxels. Only what a run alone knows
(confidence, slices to review) is stored, as an attribute of the segmentation, so that it is saved with the scene.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from ProxyPromptSegmentLib.imaging.geometry import AXES, Axis
from ProxyPromptSegmentLib.reports.doubts import Doubt
from ProxyPromptSegmentLib.reports.results_table import Table
from ProxyPromptSegmentLib.typed_json import read_object
from ProxyPromptSegmentLib.wording import ranges
from ProxyPromptSegmentModule.scene.owners import key_of, result_segments, volumes_of
from ProxyPromptSegmentModule.scene.segment_state import SegmentState, SegmentStates

if TYPE_CHECKING:
    import slicer

ATTRIBUTE = "ProxyPrompt.facts."
"""Beginning of the attribute; the key of the volume follows, see `owners`."""

CHANGED = "Changed by hand"
"""Column of the slices that the user has changed since runs wrote them."""

_COLUMNS = ("Object", "Volume", "Voxels", "Slices", "Found on", "Lowest confidence", "On slice", "Position")
_FORMAT = 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lowest:
    """The slice of lowest confidence of an object.

    Attributes:
        confidence: 0..1; None if the object was not found.
        index: The slice.
        position: Its position in words.
    """

    confidence: float | None = None
    index: int | None = None
    position: str | None = None

    @classmethod
    def of(cls, row: Mapping[str, object]) -> Lowest:
        """Read a row of a run's table."""
        confidence, index, position = (row[name] for name in ("Lowest confidence", "On slice", "Position"))
        return cls(
            confidence if isinstance(confidence, float) else None,
            index if isinstance(index, int) else None,
            position if isinstance(position, str) else None,
        )

    def with_earlier(self, earlier: Lowest, done: set[int]) -> Lowest:
        """Return the earlier one if it is lower, and its slice is not among those of the later run."""
        if earlier.confidence is None or earlier.index in done:
            return self
        return self if self.confidence is not None and self.confidence < earlier.confidence else earlier


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What runs have found out about the results of a volume in a segmentation.

    Attributes:
        axis: The axis across the slices.
        lowest: The slice of lowest confidence by segment id.
        doubts: Slices to review by segment id.
        confidence: Confidence of each slice by segment id and slice, 0..1; empty in scenes of an earlier version.
    """

    axis: Axis = "k"
    lowest: Mapping[str, Lowest] = field(default_factory=dict)
    doubts: Mapping[str, tuple[Doubt, ...]] = field(default_factory=dict)
    confidence: Mapping[str, Mapping[int, float]] = field(default_factory=dict)

    def learned(
        self, axis: Axis, ids: Mapping[str, str], rows: Sequence[Mapping[str, object]], doubts: Iterable[Doubt],
        written: Iterable[int], confidence: Mapping[str, Mapping[int, float]] | None = None,
    ) -> Facts:  # fmt: skip
        """Return the facts after another run; those of slices that it did not write are kept.

        Args:
            axis: The axis across the slices of the run.
            ids: Segment id of each object of the run.
            rows: The run's table, as dictionaries.
            doubts: The run's slices to review.
            written: The slices that the run wrote.
            confidence: Confidence of each slice of the run by object name and slice.
        """
        earlier = self if self.axis == axis else Facts(axis=axis)
        done, lowest, listed = set(written), dict(earlier.lowest), dict(earlier.doubts)
        for row in rows:
            segment_id = ids.get(str(row["Object"]))
            if segment_id is None:
                continue
            lowest[segment_id] = Lowest.of(row).with_earlier(lowest.get(segment_id, Lowest()), done)
        found = list(doubts)
        for name, segment_id in ids.items():
            kept = [one for one in listed.get(segment_id, ()) if one.index not in done]
            listed[segment_id] = (*kept, *(one for one in found if one.name == name))
        sure = {one: dict(values) for one, values in earlier.confidence.items()}
        for name, values in (confidence or {}).items():
            if name in ids:
                sure.setdefault(ids[name], {}).update(values)
        return Facts(axis=axis, lowest=lowest, doubts=listed, confidence=sure)

    def without(self, axis: Axis, ids: Iterable[str], written: Iterable[int]) -> Facts:
        """Return the facts without those of slices that a run has written and not summarised, by segment id."""
        if self.axis != axis:
            return Facts(axis=axis)
        done, mine = set(written), set(ids)
        return Facts(
            axis=axis,
            lowest={a: one for a, one in self.lowest.items() if a not in mine or one.index not in done},
            doubts={
                a: tuple(one for one in found if a not in mine or one.index not in done)
                for a, found in self.doubts.items()
            },
            confidence={
                a: {index: value for index, value in values.items() if a not in mine or index not in done}
                for a, values in self.confidence.items()
            },
        )


def text_of_facts(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> str:
    """Return the stored facts of a volume as text, to restore them; "" if there are none."""
    key = key_of(segmentation, volume)
    return (segmentation.GetAttribute(ATTRIBUTE + key) or "") if key else ""


def restore_facts(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, text: str) -> None:
    """Store a text of `text_of_facts` again."""
    key = key_of(segmentation, volume)
    if key and text_of_facts(segmentation, volume) != text:
        segmentation.SetAttribute(ATTRIBUTE + key, text)


def read_facts(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode) -> Facts:
    """Return the stored facts of a volume; a damaged text, or one of a later version, is ignored with a warning."""
    return _facts_of(text_of_facts(segmentation, volume))


@functools.lru_cache(maxsize=32)  # every section of the panel asks, and a text of 300 slices takes a millisecond
def _facts_of(text: str) -> Facts:
    if not text:
        return Facts()
    try:
        content = json.loads(text)
        if content["format"] > _FORMAT:
            raise ValueError(f"format {content['format']} is of a later version")
        lowest = {one: read_object(Lowest, values, known=values) for one, values in content["lowest"].items()}
        doubts = {
            one: tuple(read_object(Doubt, values, known=values) for values in found)
            for one, found in content["doubts"].items()
        }
        sure = {one: by_slice(values) for one, values in content.get("confidence", {}).items()}
        return Facts(axis=AXES[AXES.index(content["axis"])], lowest=lowest, doubts=doubts, confidence=sure)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        _log.warning("What is stored about a result in the scene cannot be read (%s)", error)
        return Facts()


def write_facts(segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode, facts: Facts) -> None:
    """Store the facts of a volume."""
    content = {
        "format": _FORMAT,
        "axis": facts.axis,
        "lowest": {one: asdict(found) for one, found in facts.lowest.items()},
        "doubts": {one: [asdict(doubt) for doubt in found] for one, found in facts.doubts.items()},
        "confidence": {one: _as_list(values) for one, values in facts.confidence.items()},
    }
    restore_facts(segmentation, volume, json.dumps(content))


def _as_list(values: Mapping[int, float]) -> list[float | None]:
    """Return a value for each slice from 0 on; None where there is none."""
    return [values.get(index) for index in range(max(values, default=-1) + 1)]


def by_slice(values: Sequence[float | None]) -> dict[int, float]:
    """Return the values that a list has for each slice from 0 on, by slice; without those that are None."""
    return {index: float(value) for index, value in enumerate(values) if value is not None}


# --- what is there now ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ResultNow:
    """The results of a volume in a segmentation, as they are now.

    Attributes:
        axis: The axis across the slices of the last run; that of the first segment if it is not known.
        states: What each segment holds now, by its id; a segment of an earlier run may have another axis.
        names: Object name by segment id.
        doubts: Slices to review, least confident first; without those that were changed by hand since.
        confidence: Confidence of each slice along `axis` that a run wrote and nobody has changed since, of its least
            sure object; 0..1.
        table: One row for each segment.
    """

    axis: Axis
    states: dict[str, SegmentState]
    names: dict[str, str]
    doubts: tuple[Doubt, ...]
    table: Table
    confidence: Mapping[int, float] = field(default_factory=dict)

    @property
    def along(self) -> dict[str, SegmentState]:
        """The segments whose slices are counted along `axis`."""
        return {one: state for one, state in self.states.items() if state.axis == self.axis}


def result_now(
    segmentation: slicer.vtkMRMLSegmentationNode,
    volume: slicer.vtkMRMLVolumeNode,
    known: SegmentStates | None = None,
) -> ResultNow:
    """Return the results of a volume in a segmentation, computed from their voxels; read again only after a change."""
    known = known or SegmentStates()
    facts = read_facts(segmentation, volume)
    inside = segmentation.GetSegmentation()
    states, names, doubts, rows = {}, {}, [], []
    for segment_id, name in result_segments(segmentation, volume).items():
        state = known.of(segmentation, segment_id, volume, facts.axis)
        if state is None:
            continue
        states[segment_id], names[segment_id] = state, name
        same = state.axis == facts.axis
        lowest = facts.lowest.get(segment_id, Lowest()) if same else Lowest()
        rows.append(_row(inside.GetSegment(segment_id).GetName(), state, lowest))
        listed = facts.doubts.get(segment_id, ()) if same else ()
        doubts += [one for one in listed if one.index not in state.changed]
    doubts.sort(key=lambda one: (one.sure, one.object_index, one.index))
    axis = next((state.axis for state in states.values()), facts.axis)
    if text_of_facts(segmentation, volume):  # the doubts are slices along this one
        axis = facts.axis
    table = Table((*_COLUMNS, CHANGED), ("", "ml", *[""] * (len(_COLUMNS) - 1)), rows)
    sure = {one: facts.confidence.get(one, {}) for one, state in states.items() if state.axis == axis == facts.axis}
    least: dict[int, float] = {}
    for segment_id, values in sure.items():
        for index, value in values.items():
            if index not in states[segment_id].changed:
                least[index] = min(value, least.get(index, value))
    return ResultNow(axis=axis, states=states, names=names, doubts=tuple(doubts), table=table, confidence=least)


def table_of_all(segmentation: slicer.vtkMRMLSegmentationNode, known: SegmentStates | None = None) -> Table | None:
    """Return the table of all results in a segmentation, with the name of each image; None if it has none."""
    rows: list[list[object]] = []
    columns: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    for volume in volumes_of(segmentation):
        table = result_now(segmentation, volume, known).table
        columns, units = (*table.columns, "Image"), (*table.units, "")
        rows += [[*row, volume.GetName()] for row in table.rows]
    return Table(columns, units, rows) if rows else None


def _row(name: str, state: SegmentState, lowest: Lowest) -> list[object]:
    shown = sorted(state.pixels)
    # The confidence is that of the run; where the user has drawn since, it says nothing.
    known = lowest if lowest.index not in state.changed else Lowest()
    return [
        *(name, round(state.volume_ml, 3), state.voxels, len(shown), ranges(shown)),
        *(known.confidence, known.index, known.position, ranges(state.changed)),
    ]
