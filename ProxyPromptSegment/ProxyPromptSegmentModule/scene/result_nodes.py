"""The other outputs of a run in the scene: a table of results and a text node with the run record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import slicer
import vtk

from ProxyPromptSegmentLib.reports.record_table import record_table
from ProxyPromptSegmentModule.scene.nodes import N, add_node, nodes_of
from ProxyPromptSegmentModule.scene.owners import key_of, volumes_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.reports.results_table import Table

OF = "ProxyPrompt.resultOf"
"""Reference role of our table and record nodes to the segmentation that they describe."""

AS_TABLE = "ProxyPrompt.recordOf"
"""Reference role of the table that shows a run record, to the text node; it is not saved, but made again."""

KEY = "ProxyPrompt.target"
"""Attribute of a record node: the key of the volume whose results it describes, see `owners`."""


def write(segmentation: slicer.vtkMRMLSegmentationNode, results: Table, record: str) -> None:
    """Write both nodes of a segmentation; those of an earlier run are reused."""
    write_table(segmentation, results)
    write_record(segmentation, record)


def table_of(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLTableNode | None:
    """Return the table node of a segmentation, or None."""
    return next(iter(_all(slicer.vtkMRMLTableNode, segmentation)), None)


def record_of(
    segmentation: slicer.vtkMRMLSegmentationNode, volume: slicer.vtkMRMLVolumeNode | None = None
) -> slicer.vtkMRMLTextNode | None:
    """Return the text node with the run record of the results of a volume; the first one without a volume.

    The results of a sequence have only one.
    """
    nodes = _all(slicer.vtkMRMLTextNode, segmentation)
    if volume is None:
        return next(iter(nodes), None)
    key = key_of(segmentation, volume)
    found = {node.GetAttribute(KEY) or "": node for node in nodes}
    if key not in found and len(volumes_of(segmentation)) == 1:  # of an earlier version
        return found.get("")
    return found.get(key)


def record_table_of(record: slicer.vtkMRMLTextNode) -> slicer.vtkMRMLTableNode | None:
    """Return a table that shows a run record for reading; None if its text cannot be read."""
    try:
        content = json.loads(record.GetText() or "")
        table = record_table(content)
    except (ValueError, RecursionError, AttributeError, TypeError):
        return None
    shown = [one for one in nodes_of(slicer.mrmlScene, slicer.vtkMRMLTableNode)]
    node = next((one for one in shown if one.GetNodeReferenceID(AS_TABLE) == record.GetID()), None)
    if node is None:
        node = add_node(slicer.mrmlScene, slicer.vtkMRMLTableNode, record.GetName())
        node.SetNodeReferenceID(AS_TABLE, record.GetID())
        node.SetSaveWithScene(0)
    _fill(node, table)
    return node


def remove(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    """Remove both nodes after an undo of their run."""
    _remove(table_of(segmentation))
    for node in _all(slicer.vtkMRMLTextNode, segmentation):
        _remove(node)


def write_table(segmentation: slicer.vtkMRMLSegmentationNode, results: Table | None) -> None:
    """Write the table of a segmentation; without results it is removed."""
    if results is None:
        _remove(table_of(segmentation))
        return
    name = _("{name} results").format(name=segmentation.GetName())
    _fill(table_of(segmentation) or _make(slicer.vtkMRMLTableNode, name, segmentation), results)


def _fill(node: slicer.vtkMRMLTableNode, results: Table) -> None:
    """Show a table in a node."""
    table = vtk.vtkTable()
    for place, (title, unit) in enumerate(zip(results.columns, results.units, strict=True)):
        column = _column([row[place] for row in results.rows])
        column.SetName(f"{title} [{unit}]" if unit else title)
        table.AddColumn(column)
    node.SetAndObserveTable(table)


def _column(values: Sequence[object]) -> vtk.vtkAbstractArray:
    """Return values as a column of numbers if all are numbers, else of texts."""
    numbers = [float(value) for value in values if isinstance(value, (int, float))]
    if len(numbers) == len(values):
        column = vtk.vtkDoubleArray()
        for number in numbers:
            column.InsertNextValue(number)
        return column
    texts = vtk.vtkStringArray()
    for value in values:
        texts.InsertNextValue("" if value is None else str(value))
    return texts


def write_record(
    segmentation: slicer.vtkMRMLSegmentationNode, record: str, volume: slicer.vtkMRMLVolumeNode | None = None
) -> None:
    """Write the run record of the results of a volume, or of a sequence; an empty one is removed."""
    node = record_of(segmentation, volume)
    if not record:
        _remove(node)
        return
    name = _("{name} run record").format(name=segmentation.GetName())
    node = node or _make(slicer.vtkMRMLTextNode, name, segmentation)
    node.SetText(record)
    if volume is not None:
        node.SetAttribute(KEY, key_of(segmentation, volume))


def _remove(node: slicer.vtkMRMLNode | None) -> None:
    if node is not None:
        slicer.mrmlScene.RemoveNode(node)


def _make(kind: type[N], name: str, segmentation: slicer.vtkMRMLSegmentationNode) -> N:
    node = add_node(slicer.mrmlScene, kind, name)
    node.AddNodeReferenceID(OF, segmentation.GetID())  # a reference, so that it is saved and follows an import
    return node


def _all(kind: type[N], segmentation: slicer.vtkMRMLSegmentationNode) -> list[N]:
    identifier = segmentation.GetID()
    return [one for one in nodes_of(slicer.mrmlScene, kind) if one.GetNodeReferenceID(OF) == identifier]
