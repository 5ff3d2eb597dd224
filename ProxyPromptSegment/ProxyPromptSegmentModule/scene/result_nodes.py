"""What a run leaves beside its segments: a table of results and a text node with the run record."""

from __future__ import annotations

from typing import Any

import slicer

from ProxyPromptSegmentModule.translation import _

OF = "ProxyPrompt.resultOf"
"""Node attribute of our table and record: identifier of the segmentation that they speak of."""


def write(run: Any) -> None:
    """Writes both nodes of a run; those of an earlier run on the same segmentation are filled anew."""
    _write_table(run)
    _write_record(run)


def table_of(segmentation: Any) -> Any:
    """The table node of a segmentation, or None."""
    return _find("vtkMRMLTableNode", segmentation)


def record_of(segmentation: Any) -> Any:
    """The text node with the run record of a segmentation, or None."""
    return _find("vtkMRMLTextNode", segmentation)


def remove(segmentation: Any) -> None:
    """Removes both, when the run that they speak of was undone."""
    for node in (table_of(segmentation), record_of(segmentation)):
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def _write_table(run: Any) -> None:
    import vtk

    node = table_of(run.segmentation) or _make(
        "vtkMRMLTableNode", _("{name} results").format(name=run.segmentation.GetName()), run.segmentation
    )
    table = vtk.vtkTable()
    for place, (name, unit) in enumerate(zip(run.table.columns, run.table.units, strict=True)):
        values = [row[place] for row in run.table.rows]
        numbers = all(isinstance(value, (int, float)) for value in values)
        column = vtk.vtkDoubleArray() if numbers else vtk.vtkStringArray()
        column.SetName(f"{name} [{unit}]" if unit else name)
        for value in values:
            column.InsertNextValue(float(value) if numbers else "" if value is None else str(value))
        table.AddColumn(column)
    node.SetAndObserveTable(table)


def _write_record(run: Any) -> None:
    node = record_of(run.segmentation) or _make(
        "vtkMRMLTextNode", _("{name} run record").format(name=run.segmentation.GetName()), run.segmentation
    )
    node.SetText(run.record_text)


def _make(kind: str, name: str, segmentation: Any) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(kind, slicer.mrmlScene.GenerateUniqueName(name))
    node.AddNodeReferenceID(OF, segmentation.GetID())  # a reference, so that it is saved and follows an import
    return node


def _find(kind: str, segmentation: Any) -> Any:
    nodes = slicer.mrmlScene.GetNodesByClass(kind)
    nodes.UnRegister(slicer.mrmlScene)  # else the collection is leaked
    for number in range(nodes.GetNumberOfItems()):
        node = nodes.GetItemAsObject(number)
        if node.GetNodeReferenceID(OF) == segmentation.GetID():
            return node
    return None
