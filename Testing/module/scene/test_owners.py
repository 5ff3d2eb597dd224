"""Which image a segment is a result of: of files, copies, sequences, earlier versions, and imports beside others."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core is not installed")

import slicer

from mrml_scene import add_segmentation, add_volume
from mrml_writing import AFFINE, SHAPE, ids_of, random_masks, writer_for
from ProxyPromptSegmentModule.scene import owners
from ProxyPromptSegmentModule.scene.nodes import MADE_FOR
from ProxyPromptSegmentModule.scene.result_watch import ResultWatch
from ProxyPromptSegmentModule.scene.segment_writer import create_segmentation
from ProxyPromptSegmentModule.scene.sequence_reader import frames_of
from ProxyPromptSegmentModule.scene.sequence_writer import SegmentationSequenceWriter
from ProxyPromptSegmentModule.scene.slice_prints import SlicePrints
from ProxyPromptSegmentModule.scene.slice_views import show_only_own
from ProxyPromptSegmentModule.scene.terminology import OBJECT_TAG
from sequence_cases import a_sequence, noise

pytestmark = pytest.mark.usefixtures("scene", "views")


def is_shown_on(node, volume):
    show_only_own(slicer.mrmlScene, volume, [])
    return bool(node.GetDisplayNode().GetVisibility())


def stored(node, path):
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    return storage if node is None or storage.WriteData(node) else None


def test_a_result_that_was_saved_as_a_file_comes_back_as_an_annotation(volume, result, tmp_path):
    assert stored(result, tmp_path / "a.seg.nrrd")
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "a")
    assert stored(None, tmp_path / "a.seg.nrrd").ReadData(loaded)
    loaded.CreateDefaultDisplayNodes()
    assert owners.volume_of_segment(loaded, ids_of(loaded)[0]) is None and owners.film_of(loaded) is None
    assert not owners.is_ours(loaded) and not owners.is_result(loaded, ids_of(loaded)[0])
    assert is_shown_on(loaded, volume)


def test_a_copy_of_a_result_in_another_segmentation_is_an_annotation(volume, result):
    own = create_segmentation(volume, "own")
    own.GetSegmentation().CopySegmentFromSegmentation(result.GetSegmentation(), ids_of(result)[0])
    assert not owners.is_ours(own) and is_shown_on(own, volume)


def test_a_result_of_a_removed_image_lies_on_no_other(volume, other, result):
    assert is_shown_on(result, volume) and not is_shown_on(result, other) and is_shown_on(result, volume)
    slicer.mrmlScene.RemoveNode(volume)
    assert owners.is_ours(result) and not is_shown_on(result, other)


def test_results_of_a_sequence_lie_on_its_images_only(volume, other):
    browser, _images, proxy = a_sequence([noise(1, 12, 16, seed=t) for t in range(3)])
    writer = SegmentationSequenceWriter(browser, frames_of(browser, proxy), ("vessel",))
    for item in (1, 2):
        browser.SetSelectedItemNumber(item)
        assert owners.is_ours(writer.proxy) and owners.has_results(slicer.mrmlScene, proxy)
        assert not is_shown_on(writer.proxy, other) and is_shown_on(writer.proxy, proxy)
    assert owners.results_of(slicer.mrmlScene, proxy) == [], "no run on a volume writes into it"


def earlier(volume, made_for):
    """A segmentation as an earlier version of the module left it."""
    node = add_segmentation(volume, {"gland": random_masks(7)[0], "drawn": random_masks(8)[0]}, "earlier")
    node.SetAttribute(MADE_FOR, made_for.GetID())
    node.GetSegmentation().GetSegment("gland").SetTag(OBJECT_TAG, "gland")
    return node


def watch(scene):
    return ResultWatch(scene, lambda node: False, lambda called: None)


def test_results_of_an_earlier_version_are_claimed_once_and_stay_protected(scene, volume, other):
    node = earlier(volume, volume)
    watch(scene).close()
    assert owners.result_segments(node, volume) == {"gland": "gland"}
    assert SlicePrints.read(node.GetSegmentation().GetSegment("gland")) is None
    assert writer_for(node, volume, reuse=True).segment_ids["gland"] != "gland"
    show_only_own(scene, other, [])
    assert not node.GetDisplayNode().GetSegmentVisibility("gland")


def test_an_imported_result_of_an_earlier_version_is_not_given_to_the_image_that_has_its_old_id(scene, tmp_path):
    earlier_volume = add_volume(np.ones(SHAPE, np.float32), AFFINE, "MR")
    earlier(earlier_volume, earlier_volume)
    folder = tmp_path / "saved"
    folder.mkdir()
    scene.SetRootDirectory(str(folder))
    assert scene.WriteToMRB(str(tmp_path / "s.mrb"))
    scene.Clear(0)
    other = add_volume(np.zeros(SHAPE, np.float32), AFFINE, "another patient")
    seen = watch(scene)
    bundle = slicer.app.applicationLogic()
    assert bundle.UnpackSlicerDataBundle(str(tmp_path / "s.mrb"), str(folder))
    scene.SetURL(str(next(folder.rglob("*.mrml"))))
    scene.Import()
    node = scene.GetFirstNodeByName("earlier")
    assert node.GetAttribute(MADE_FOR) == other.GetID(), "the attribute names another patient's image"
    assert [one.GetName() for one in owners.volumes_of(node)] == ["MR"]
    seen.close()
