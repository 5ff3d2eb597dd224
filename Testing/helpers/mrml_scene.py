"""A real MRML scene without a Slicer window, for tests and benchmarks.

`slicer-core` holds Slicer's own libraries and its unmodified `slicer.util`. What the application would make around
them is made here: the scene, its logics, `slicer.mrmlScene`, `slicer.modules` and `slicer.app`.

Example::

    scene = make_scene()
    volume_node = add_volume(np.zeros((3, 4, 5), np.int16), ijk_to_ras=np.diag([2, 2, 5, 1]))
"""

from __future__ import annotations

import importlib.util
import tempfile
import types

import numpy as np

REASON = "slicer-core is not installed, which holds MRML without a Slicer application"


def has_mrml() -> bool:
    """Whether MRML can be imported here: slicer-core, or a Slicer application's own Python."""
    return importlib.util.find_spec("slicer") is not None


def make_scene():
    """A fresh scene with everything that `slicer.util` and the module need; it becomes `slicer.mrmlScene`.

    The scene of an earlier call is emptied first, because logics of it may still be referred to.
    """
    import slicer
    import slicer.util

    if getattr(slicer, "mrmlScene", None) is not None:
        slicer.mrmlScene.Clear(True)
    scene = slicer.vtkMRMLScene()
    app_logic = slicer.vtkSlicerApplicationLogic()
    app_logic.SetMRMLScene(scene)
    modules = types.SimpleNamespace()
    for name, class_name in (
        ("colors", "vtkMRMLColorLogic"),  # first: the others ask for it
        ("volumes", "vtkSlicerVolumesLogic"),
        ("segmentations", "vtkSlicerSegmentationsModuleLogic"),
        ("sequences", "vtkSlicerSequencesLogic"),
        ("markups", "vtkSlicerMarkupsLogic"),
        ("tables", "vtkSlicerTablesLogic"),
    ):
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(app_logic)
        logic.SetMRMLScene(scene)
        setattr(modules, name, types.SimpleNamespace(logic=lambda logic=logic: logic))
        app_logic.SetModuleLogic(name.capitalize(), logic)
    app_logic.SetColorLogic(modules.colors.logic())
    generic = slicer.vtkMRMLColorTableNode()  # label maps look for it; Slicer reads it from a file of the application
    generic.SetTypeToRandom()
    generic.SetSingletonTag("FileGenericColors.txt")
    generic.SetSaveWithScene(False)  # as those of the application
    scene.AddNode(generic)
    folder = tempfile.TemporaryDirectory(prefix="mrml-cache-")  # scene bundles are unpacked there
    cache, transfers = slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(folder.name)
    transfers.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(transfers)
    slicer.mrmlScene = scene
    slicer.modules = modules
    slicer.app = types.SimpleNamespace(
        applicationLogic=lambda: app_logic,
        processEvents=lambda *ignored: None,
        mrmlScene=lambda: scene,
        testingEnabled=lambda: True,
        pauseRender=lambda: None,
        resumeRender=lambda: None,
        temporaryPath=folder.name,
        cacheFolder=folder,  # kept until the next scene is made
    )
    return scene


def matrix_of(rows):
    """A vtkMatrix4x4 of a 4x4 array."""
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(rows, dtype=float).ravel().tolist())
    return matrix


def add_volume(array, ijk_to_ras=None, name="volume", parent=None):
    """A scalar volume, or a colour one of an array ``(K, J, I, 3)``, with its display node."""
    import slicer
    import slicer.util

    kind = "vtkMRMLVectorVolumeNode" if np.ndim(array) == 4 else "vtkMRMLScalarVolumeNode"
    node = slicer.mrmlScene.AddNewNodeByClass(kind, name)
    slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(array))
    node.SetIJKToRASMatrix(matrix_of(np.eye(4) if ijk_to_ras is None else ijk_to_ras))
    node.CreateDefaultDisplayNodes()
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_transform(to_parent, name="transform", parent=None):
    """A linear transform node of a 4x4 array that takes points to the parent's coordinates, RAS."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetMatrixTransformToParent(matrix_of(to_parent))
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def add_bend(amount_mm=5.0, name="bend"):
    """A transform node that is not linear: a thin-plate spline that moves the middle by some millimetres."""
    import slicer
    import vtk

    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetBasisToR()
    here, there = vtk.vtkPoints(), vtk.vtkPoints()
    for r in (-50.0, 50.0):
        for a in (-50.0, 50.0):
            for s in (-50.0, 50.0):
                here.InsertNextPoint(r, a, s)
                there.InsertNextPoint(r, a, s)
    here.InsertNextPoint(0.0, 0.0, 0.0)
    there.InsertNextPoint(amount_mm, 0.0, 0.0)
    spline.SetSourceLandmarks(here)
    spline.SetTargetLandmarks(there)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", name)
    node.SetAndObserveTransformToParent(spline)
    return node


def add_segmentation(volume_node, masks=None, name="segmentation", parent=None):
    """A segmentation made with Slicer's own calls: ``{segment name: mask (K, J, I)}``, ids equal to the names."""
    import slicer
    import slicer.util

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume_node)
    for segment, mask in (masks or {}).items():
        node.GetSegmentation().AddEmptySegment(segment, segment)
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            np.ascontiguousarray(mask, dtype=np.uint8), node, segment, volume_node
        )
    return node


def segment_array(segmentation_node, segment_id, volume_node):
    """A segment's voxels on a volume's lattice as Slicer itself gives them, uint8 ``(K, J, I)``."""
    import slicer.util

    array = slicer.util.arrayFromSegmentBinaryLabelmap(segmentation_node, segment_id, volume_node)
    return (np.asarray(array) > 0).astype(np.uint8)
