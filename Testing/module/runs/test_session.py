"""A session on real MRML, from loading to saving, with everything that may go wrong in between.

The headless walk of the module: one case as support, the other as target; drawn in the files of Prostate158, once
that data set itself. The same happens with smaller volumes in test_logic.py and test_interrupted_runs.py, faster and in
more variants.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from mrml_cases import load_prostate, scene_state
from mrml_scene import make_scene, segment_array

slicer = pytest.importorskip("slicer", reason="slicer-core is not installed, which holds MRML without an application")

from ProxyPromptSegmentModule.logic import SegmentationLogic
from ProxyPromptSegmentModule.runs.request import Settings

CPU = Settings(device="cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two drawn pelves of few slices, in the files of Prostate158."""
    from drawn_data import DataFolder

    folder = DataFolder(tmp_path_factory.mktemp("drawn"))
    folder.add_prostate158("p158_001", 11, (15, 120, 120))
    folder.add_prostate158("p158_020", 12, (15, 120, 120))
    return folder.path / "prostate158"


@pytest.fixture
def prostates(request):
    """The folder of the two cases: drawn ones, unless a test asks for the public ones."""
    if getattr(request, "param", "drawn") == "public":
        return request.getfixturevalue("shared_data") / "prostate158"
    return request.getfixturevalue("drawn")


@pytest.fixture
def session(scene, prostates):
    """Support, target with its truth, and the logic; no thread may be left over."""
    logic = SegmentationLogic()
    support = load_prostate(prostates / "p158_001", "earlier case")
    target, truth = load_prostate(prostates / "p158_020", "new case")
    yield scene, logic, support, target, truth
    assert logic.shutdown()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ProxyPrompt")]


def dice(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


@pytest.mark.parametrize("prostates", ["drawn", pytest.param("public", marks=pytest.mark.slow)], indirect=True)
def test_segment_save_load_switch_and_undo(session, tmp_path):
    scene, logic, support, target, truth = session
    before = scene_state(scene)
    run = logic.segment(target, [support], ["gland"], settings=CPU)
    assert run.state == "finished", run.error
    gland = segment_array(run.segmentation, run.segment_ids["gland"], target)
    overlap = dice(gland, segment_array(truth, "gland", target))
    print(f"Dice of the gland: {overlap:.3f}")
    assert overlap > 0.6
    assert {node: state for node, state in scene_state(scene).items() if node in before} == before

    # Another structure is another segment of the support; nothing is embedded again.
    zone = logic.segment(target, [support], ["transition zone"], run.segmentation, settings=CPU)
    assert zone.state == "finished" and zone.result.embedded == 0
    transition = segment_array(run.segmentation, zone.segment_ids["transition zone"], target)
    assert transition.any() and not np.array_equal(transition, gland)
    assert np.array_equal(segment_array(run.segmentation, run.segment_ids["gland"], target), gland)

    expected = {"gland": gland, "transition zone": transition}
    _save(run.segmentation, tmp_path / "result.seg.nrrd")
    _save_bundle(scene, tmp_path / "session.mrb")

    assert zone.undo()
    assert np.array_equal(segment_array(run.segmentation, run.segment_ids["gland"], target), gland)
    ids = run.segmentation.GetSegmentation().GetSegmentIDs()
    assert zone.segment_ids["transition zone"] not in ids

    name = run.segmentation.GetName()
    logic.shutdown()
    fresh = make_scene()
    _unbundle(fresh, tmp_path / "session.mrb", tmp_path / "unpacked")
    again, bundled = fresh.GetFirstNodeByName("new case"), fresh.GetFirstNodeByName(name)
    loaded = fresh.AddNewNodeByClass("vtkMRMLSegmentationNode", "loaded")
    storage = fresh.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(tmp_path / "result.seg.nrrd"))
    assert storage.ReadData(loaded)
    for node in (loaded, bundled):
        segmentation = node.GetSegmentation()
        assert segmentation.GetNumberOfSegments() == 2
        for name, mask in expected.items():
            found = segmentation.GetSegmentIdBySegmentName(name)
            assert np.array_equal(segment_array(node, found, again), mask), f"{name} of {node.GetName()}"
    texts = [
        fresh.GetNthNodeByClass(n, "vtkMRMLTextNode") for n in range(fresh.GetNumberOfNodesByClass("vtkMRMLTextNode"))
    ]
    assert any("sam-compact" in (text.GetText() or "") for text in texts), "the run record is saved with the scene"


def test_cancel_in_the_middle_keeps_finished_slices(session):
    _scene, logic, support, target, _truth = session
    run = logic.segment(target, [support], ["gland"], settings=CPU, wait=False)
    run.observe(lambda seen: seen.cancel() if len(seen.written) >= 10 and not seen.ended else None)
    assert logic.wait(run, 120)
    count = slicer.util.arrayFromVolume(target).shape[0]
    assert run.state == "cancelled" and 10 <= len(run.written) < count
    mask = segment_array(run.segmentation, run.segment_ids["gland"], target)
    assert not np.delete(mask, sorted(run.written), axis=0).any()
    assert run.rows, "what was done is counted"


def test_the_target_is_deleted_while_it_is_segmented(session):
    scene, logic, support, target, truth = session
    before = segment_array(truth, "gland", target)
    marked = truth.GetSegmentation().GetMTime()
    run = logic.segment(target, [support], ["gland"], settings=CPU, wait=False)
    run.observe(lambda seen: scene.RemoveNode(target) if len(seen.written) >= 5 and target.GetScene() else None)
    assert logic.wait(run, 120)
    assert run.state == "cancelled" and run.error == ""
    assert truth.GetSegmentation().GetMTime() == marked and before.any()
    assert support[0].GetScene() is scene


def test_the_scene_is_closed_while_a_volume_is_segmented(session):
    scene, logic, support, target, _truth = session
    run = logic.segment(target, [support], ["gland"], settings=CPU, wait=False)
    while len(run.written) < 5:
        logic.pump.turn()
    scene.Clear(False)
    assert run.state == "cancelled"
    while logic.pump.turn():
        pass
    assert scene.GetNumberOfNodesByClass("vtkMRMLVolumeNode") == 0
    assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0


def _save(segmentation, path):
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.WriteData(segmentation)
    slicer.mrmlScene.RemoveNode(storage)


def _save_bundle(scene, path):
    folder = path.with_suffix("")
    folder.mkdir()
    scene.SetRootDirectory(str(folder))
    assert scene.WriteToMRB(str(path))


def _unbundle(scene, path, folder):
    """Opens the bundle instead of what is in the scene."""
    folder.mkdir()
    assert slicer.app.applicationLogic().OpenSlicerDataBundle(str(path), str(folder))
