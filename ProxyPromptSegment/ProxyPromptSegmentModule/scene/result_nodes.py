"""The other outputs of a run in the scene: a table of results and a text node with the run record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import slicer
import vtk

from ProxyPromptSegmentModule.scene.nodes import N, add_node, nodes_of
from ProxyPromptSegmentModule.translation import _

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.reports.results_table import Table

OF = "ProxyPrompt.resultOf"
"""Reference role of our table and record nodes to the segmentation that they describe."""


def write(segmentation: slicer.vtkMRMLSegmentationNode, results: Table, record: str) -> None:
    """Write both nodes of a segmentation; those of an earlier run are reused."""
    write_table(segmentation, results)
    write_record(segmentation, record)


def table_of(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLTableNode | None:
    """Return the table node of a segmentation, or None."""
    return _find(slicer.vtkMRMLTableNode, segmentation)


def record_of(segmentation: slicer.vtkMRMLSegmentationNode) -> slicer.vtkMRMLTextNode | None:
    """Return the text node with the run record of a segmentation, or None."""
    return _find(slicer.vtkMRMLTextNode, segmentation)


def remove(segmentation: slicer.vtkMRMLSegmentationNode) -> None:
    """Remove both nodes after an undo of their run."""
    _remove(table_of(segmentation))
    _remove(record_of(segmentation))


def write_table(segmentation: slicer.vtkMRMLSegmentationNode, results: Table | None) -> None:
    """Write the table of a segmentation; without results it is removed."""
    if results is None:
        _remove(table_of(segmentation))
        return
    name = _("{name} results").format(name=segmentation.GetName())
    node = table_of(segmentation) or _make(slicer.vtkMRMLTableNode, name, segmentation)
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


def write_record(segmentation: slicer.vtkMRMLSegmentationNode, record: str) -> None:
    """Write the run record of a segmentation; an empty one is removed."""
    if not record:
        _remove(record_of(segmentation))
        return
    name = _("{name} run record").format(name=segmentation.GetName())
    node = record_of(segmentation) or _make(slicer.vtkMRMLTextNode, name, segmentation)
    node.SetText(record)


def _remove(node: slicer.vtkMRMLNode | None) -> None:
    if node is not None:
        slicer.mrmlScene.RemoveNode(node)


def _make(kind: type[N], name: str, segmentation: slicer.vtkMRMLSegmentationNode) -> N:
    node = add_node(slicer.mrmlScene, kind, slicer.mrmlScene.GenerateUniqueName(name))
    node.AddNodeReferenceID(OF, segmentation.GetID())  # a reference, so that it is saved and follows an import
    return node


def _find(kind: type[N], segmentation: slicer.vtkMRMLSegmentationNode) -> N | None:
    identifier = segmentation.GetID()
    return next((one for one in nodes_of(slicer.mrmlScene, kind) if one.GetNodeReferenceID(OF) == identifier), None)
