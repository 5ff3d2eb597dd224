"""Segmentations into a sequence on real MRML: masks lie on their items, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from mrml_scene import REASON, add_transform, add_volume, has_mrml, make_scene

if not has_mrml():
    pytest.skip(REASON, allow_module_level=True)

import slicer
import vtk

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentModule.scene.sequence_reader import frames_of
from ProxyPromptSegmentModule.scene.sequence_writer import SegmentationSequenceWriter
from sequence_cases import COLORS, NAMES, OBLIQUE, TERMS, a_sequence, noise, shown, some_masks, state


def a_writer(frames, browser, **more):
    return SegmentationSequenceWriter(browser, frames, NAMES, COLORS, TERMS, **more)


@pytest.mark.parametrize("place", [np.diag([-1.0, -1, 1, 1]), OBLIQUE])
@pytest.mark.parametrize("transformed", [False, True])
def test_masks_lie_on_the_image_of_their_item_to_the_voxel(scene, place, transformed):
    # The probe moves: each frame has a place of its own.
    moves = [np.array([[1, 0, 0, t], [0, 1, 0, 2 * t], [0, 0, 1, 0], [0, 0, 0, 1.0]]) @ place for t in range(4)]
    arrays = [noise(1, 12, 16, seed=t) for t in range(4)]
    browser, _, proxy = a_sequence(arrays, moves)
    if transformed:
        turn = np.array([[0.6, -0.8, 0, 5], [0.8, 0.6, 0, 0], [0, 0, 1, 9], [0, 0, 0, 1]])
        proxy.SetAndObserveTransformNodeID(add_transform(turn).GetID())
    frames = frames_of(browser, proxy)
    masks = some_masks(4, frames.images.shape[1:])
    writer = a_writer(frames, browser)
    for item in (2, 0, 3, 1):
        writer.write(item, masks[item])
    writer.finish()
    assert writer.written == [2, 0, 3, 1]
    assert writer.proxy.GetTransformNodeID() == proxy.GetTransformNodeID()
    for item in range(4):
        browser.SetSelectedItemNumber(item)
        np.testing.assert_array_equal(slicer.util.arrayFromVolume(proxy), arrays[item])
        found = shown(writer.proxy, proxy)
        for number, name in enumerate(NAMES):
            np.testing.assert_array_equal(frames.view.take(found[name])[0], masks[item, number])


def test_volumes_get_masks_as_they_are_stored(scene):
    arrays = [noise(3, 12, 16), noise(4, 10, 16)]
    browser, _, proxy = a_sequence(arrays, [OBLIQUE, np.eye(4)])
    frames = frames_of(browser, proxy)
    writer = a_writer(frames, browser)
    masks = [some_masks(1, array.shape)[0] for array in arrays]
    for item in range(2):
        writer.write(item, masks[item])
        browser.SetSelectedItemNumber(item)
        found = shown(writer.proxy, proxy)
        np.testing.assert_array_equal(np.stack([found[name] for name in NAMES]), masks[item])


def test_names_colours_and_terminology_are_those_of_the_support(scene):
    browser, sequence, proxy = a_sequence([noise(1, 12, 16)] * 2)
    writer = a_writer(frames_of(browser, proxy), browser)
    assert writer.sequence.GetName() == "cine segmentation"
    assert (writer.sequence.GetIndexName(), writer.sequence.GetIndexUnit()) == ("time", "s")
    reference = writer.proxy.GetNodeReference(writer.proxy.GetReferenceImageGeometryReferenceRole())
    assert reference is proxy and writer.proxy.GetDisplayNode() is not None
    for item in range(2):
        segmentation = writer.sequence.GetNthDataNode(item).GetSegmentation()
        assert segmentation.GetConversionParameter("Reference image geometry")
        for name, color, term in zip(NAMES, COLORS, TERMS, strict=True):
            segment = segmentation.GetSegment(writer.segment_ids[name])
            text = vtk.reference("")
            segment.GetTag("TerminologyEntry", text)
            assert segment.GetName() == name and segment.GetColor() == pytest.approx(color)
            assert ("59820001" in str(text)) == (term is not None)
    again = a_writer(frames_of(browser, proxy), browser)
    assert again.sequence is not writer.sequence and again.sequence.GetName() != writer.sequence.GetName()
    assert a_writer(frames_of(browser, proxy), browser, name="mine").proxy.GetName().startswith("mine")


def test_a_frame_is_seen_at_once_and_only_its_proxy_is_told(scene):
    browser, _, proxy = a_sequence([noise(1, 12, 16, seed=t) for t in range(3)], np.diag([-1.0, -1, 1, 1]))
    browser.SetSelectedItemNumber(1)
    frames = frames_of(browser, proxy)
    masks = some_masks(3, (12, 16))
    writer = a_writer(frames, browser)
    told = []
    for node in (browser, proxy, writer.proxy):
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, _: told.append(caller.GetClassName()))
        node.AddObserver(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent, lambda *_: told.append("image"))
    writer.proxy.AddObserver(
        slicer.vtkSegmentation.SourceRepresentationModified, lambda *_: told.append("representation")
    )
    writer.write(0, masks[0])
    assert told == []  # not on screen
    writer.write(1, masks[1])
    assert set(told) <= {"representation", "vtkMRMLSegmentationNode"} and "representation" in told
    assert browser.GetSelectedItemNumber() == 1
    np.testing.assert_array_equal(shown(writer.proxy, proxy)["vessel"][0], masks[1, 0])
    assert writer.proxy.GetSegmentation() is writer.sequence.GetNthDataNode(1).GetSegmentation()  # nothing is copied
    writer.write(1, masks[2])  # again: replaced
    np.testing.assert_array_equal(shown(writer.proxy, proxy)["wall"][0], masks[2, 1])
    writer.write(1, np.zeros_like(masks[1]))
    assert not shown(writer.proxy, proxy)["wall"].any()
    assert writer.written == [0, 1]


def test_objects_share_a_labelmap_unless_they_overlap_and_only_the_part_that_is_used_is_kept(scene):
    browser, _, proxy = a_sequence([noise(1, 12, 16)] * 2, np.diag([-1.0, -1, 1, 1]))
    writer = a_writer(frames_of(browser, proxy), browser)
    apart = np.zeros((2, 12, 16), np.uint8)
    apart[0, 2:4, 3:5], apart[1, 6:8, 9:12] = 1, 1
    writer.write(0, apart)
    writer.write(1, some_masks(2, (12, 16))[1])
    layers = [
        writer.sequence.GetNthDataNode(n).GetSegmentation().GetNumberOfLayers("Binary labelmap") for n in range(2)
    ]
    assert layers == [1, 2]
    segment = writer.sequence.GetNthDataNode(0).GetSegmentation().GetSegment(writer.segment_ids["vessel"])
    assert segment.GetRepresentation("Binary labelmap").GetExtent() == (3, 11, 2, 7, 0, 0)


def test_other_sequences_and_the_selected_item_stay_as_they_are(scene):
    arrays = [noise(1, 12, 16, seed=t) for t in range(3)]
    browser, images, proxy = a_sequence(arrays, np.diag([-1.0, -1, 1, 1]))
    _, other, other_proxy = a_sequence([noise(1, 5, 5, seed=9)], name="other", browser=browser)
    browser.SetSelectedItemNumber(2)
    before = {key: value for key, value in state().items() if key in (images.GetID(), other.GetID())}
    voxels = [slicer.util.arrayFromVolume(node).tobytes() for node in (proxy, other_proxy)]
    items = other.GetNumberOfDataNodes()
    writer = a_writer(frames_of(browser, proxy), browser)
    for item in range(3):
        writer.write(item, some_masks(3, (12, 16))[item])
    writer.finish()
    assert {key: value for key, value in state_of_images().items() if key in before} == before
    assert other.GetNumberOfDataNodes() == items and browser.GetSelectedItemNumber() == 2
    assert [slicer.util.arrayFromVolume(node).tobytes() for node in (proxy, other_proxy)] == voxels
    assert browser.GetMasterSequenceNode() is images


def state_of_images():
    """`state` of image sequences alone: a segmentation has no image data."""
    found = {}
    for number in range(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSequenceNode")):
        node = slicer.mrmlScene.GetNthNodeByClass(number, "vtkMRMLSequenceNode")
        if node.GetNthDataNode(0).IsA("vtkMRMLVolumeNode"):
            known = [node.GetName(), node.GetMTime()]
            for item in range(node.GetNumberOfDataNodes()):
                data = node.GetNthDataNode(item)
                known += [node.GetNthIndexValue(item), data.GetMTime(), data.GetImageData().GetMTime()]
            found[node.GetID()] = known
    return found


def test_items_that_were_not_asked_for_are_not_filled_with_their_neighbours(scene):
    browser, _, proxy = a_sequence([noise(1, 12, 16, seed=t) for t in range(5)], np.diag([-1.0, -1, 1, 1]))
    frames = frames_of(browser, proxy, [1, 3])
    writer = a_writer(frames, browser)
    masks = some_masks(2, (12, 16))
    writer.write(3, masks[1])
    writer.finish()
    for item in (0, 1, 2, 3, 4, 2, 1):
        browser.SetSelectedItemNumber(item)
        found = shown(writer.proxy, proxy)
        assert bool(found and found["vessel"].any()) == (item == 3)
        assert bool(found) == (item in (1, 3))  # what was asked for can be drawn in
    assert [writer.sequence.GetNthIndexValue(n) for n in range(2)] == ["0.04", "0.12"]
    assert writer.sequence.GetNumberOfDataNodes() == 2


def test_what_somebody_corrects_is_kept_in_the_sequence(scene):
    browser, _, proxy = a_sequence([noise(1, 12, 16, seed=t) for t in range(3)], np.diag([-1.0, -1, 1, 1]))
    writer = a_writer(frames_of(browser, proxy), browser)
    masks = some_masks(3, (12, 16))
    for item in range(3):
        writer.write(item, masks[item])
    writer.finish()
    browser.SetSelectedItemNumber(1)
    corrected = np.zeros((1, 12, 16), np.uint8)
    corrected[0, 1:3, 1:3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(corrected, writer.proxy, writer.segment_ids["vessel"], proxy)
    for item, expected in ((2, masks[2, 0]), (0, masks[0, 0]), (1, corrected[0])):
        browser.SetSelectedItemNumber(item)
        np.testing.assert_array_equal(shown(writer.proxy, proxy)["vessel"][0], expected)


def test_undo_removes_what_was_made_and_nothing_else(scene):
    browser, sequence, proxy = a_sequence([noise(1, 12, 16, seed=t) for t in range(3)])
    ids = set(state())
    synchronized = browser.GetNumberOfSynchronizedSequenceNodes(True)
    writer = a_writer(frames_of(browser, proxy), browser)
    writer.write(0, some_masks(1, (12, 16))[0])
    assert writer.usable and len(set(all_ids()) - ids) >= 3
    assert writer.undo()
    assert set(all_ids()) == ids
    assert browser.GetNumberOfSynchronizedSequenceNodes(True) == synchronized
    assert browser.GetProxyNode(sequence) is proxy
    assert not writer.usable and not writer.undo()
    writer.write(1, some_masks(1, (12, 16))[0])  # nothing happens
    assert set(all_ids()) == ids


def all_ids():
    return [slicer.mrmlScene.GetNthNode(n).GetID() for n in range(slicer.mrmlScene.GetNumberOfNodes())]


@pytest.mark.parametrize("gone", ["sequence", "proxy", "browser", "everything"])
def test_nodes_that_are_deleted_meanwhile_end_the_writing_quietly(scene, gone):
    browser, _, proxy = a_sequence([noise(1, 12, 16)] * 2)
    writer = a_writer(frames_of(browser, proxy), browser)
    masks = some_masks(2, (12, 16))
    writer.write(0, masks[0])
    if gone == "everything":
        slicer.mrmlScene.Clear(False)
    else:
        slicer.mrmlScene.RemoveNode({"sequence": writer.sequence, "proxy": writer.proxy, "browser": browser}[gone])
    writer.write(1, masks[1])
    writer.finish()
    assert writer.usable == (gone == "browser") == (1 in writer.written)
    assert writer.undo() == (gone != "everything")
    left = [slicer.mrmlScene.GetNthNode(n) for n in range(slicer.mrmlScene.GetNumberOfNodes())]
    assert not any(node.IsA("vtkMRMLSegmentationNode") or node is writer.sequence for node in left)


def test_wrong_frames_and_masks_are_refused_in_a_sentence(scene):
    browser, _, proxy = a_sequence([noise(1, 12, 16)] * 2)
    other, _, _ = a_sequence([noise(1, 12, 16)], name="another")
    frames = frames_of(browser, proxy, [0])
    with pytest.raises(UsageError, match="does not show the sequence that was segmented"):
        a_writer(frames, other)
    writer = a_writer(frames, browser)
    with pytest.raises(UsageError, match="item 1 is not among the frames"):
        writer.write(1, some_masks(1, (12, 16))[0])
    with pytest.raises(UsageError, match=r"shape \(2, 16, 12\); this item needs \(2, 12, 16\)"):
        writer.write(0, some_masks(1, (16, 12))[0])
    ids = set(all_ids())
    with pytest.raises(InputError, match="cannot become segments"):
        SegmentationSequenceWriter(browser, frames, ("a", "a"))
    assert set(all_ids()) == ids  # nothing half made


def test_it_is_saved_and_loaded_as_a_scene_and_as_a_sequence(scene, tmp_path):
    arrays = [noise(1, 12, 16, seed=t) for t in range(3)]
    browser, _, proxy = a_sequence(arrays, OBLIQUE)
    frames = frames_of(browser, proxy)
    masks = some_masks(3, frames.images.shape[1:])
    masks[1] = 0  # a frame that shows nothing
    writer = a_writer(frames, browser)
    for item in range(3):
        writer.write(item, masks[item])
    writer.finish()
    name, sequence_name = writer.proxy.GetName(), writer.sequence.GetName()
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceStorageNode")
    alone = str(tmp_path / "alone.seq.mrb")
    storage.SetFileName(alone)
    assert storage.WriteData(writer.sequence)
    slicer.mrmlScene.RemoveNode(storage)
    whole = str(tmp_path / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(whole)

    fresh = make_scene()
    assert fresh.ReadFromMRB(whole)
    browser = fresh.GetFirstNodeByClass("vtkMRMLSequenceBrowserNode")
    proxy, loaded = browser.GetProxyNode(browser.GetMasterSequenceNode()), fresh.GetFirstNodeByName(name)
    assert browser.GetSequenceNode(loaded).GetName() == sequence_name
    for item in range(3):
        browser.SetSelectedItemNumber(item)
        found = shown(loaded, proxy)
        assert set(found) == set(NAMES)
        for number, one in enumerate(NAMES):
            np.testing.assert_array_equal(frames.view.take(found[one])[0], masks[item, number])
    colors = [loaded.GetSegmentation().GetNthSegment(n).GetColor() for n in range(2)]
    np.testing.assert_allclose(colors, COLORS, atol=1e-5)

    fresh = make_scene()
    sequence = fresh.AddNewNodeByClass("vtkMRMLSequenceNode")
    storage = fresh.AddNewNodeByClass("vtkMRMLSequenceStorageNode")
    storage.SetFileName(alone)
    assert storage.ReadData(sequence)
    image = add_volume(arrays[0], OBLIQUE)
    assert [sequence.GetNthIndexValue(n) for n in range(3)] == list(frames.values)
    for item in range(3):
        copied = fresh.AddNewNodeByClass("vtkMRMLSegmentationNode")
        copied.CopyContent(sequence.GetNthDataNode(item))
        np.testing.assert_array_equal(frames.view.take(shown(copied, image)["wall"])[0], masks[item, 1])
